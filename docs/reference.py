"""Pages of reference made from the code: flags of every command, fields of every config, metrics."""

import importlib
import pathlib
import runpy
import typing

from absl import flags
from mkdocs.structure.files import File

from vidpred_jax import config
from vidpred_jax.metrics import named

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = ("fusion", "translator", "accompanying", "proposal", "direct", "simvp", "pix2pixhd")
TRAIN = (
    "`vidpred train CONFIG[:PRESET]` takes `--workdir`, `--devices` (how many of this machine), and every "
    "[field](config.md). Every command takes `--debug` (a traceback, checks for NaN) and "
    "`--compilation_cache` (a folder, or `off`)."
)
ABOUT = "Set by `--config.FIELD=VALUE`. Defaults are those of the preset `full` (of `proposal`: `scene`)."
MEANINGS = {
    "batch_size": "clips a step, over all devices",
    "context": "observed frames",
    "convolutions": "`fast`: equal forms where XLA's own are slow",
    "data.augmentation.crop": "the least share of each side that a crop keeps",
    "data.augmentation.flip": "mirror clips, left and right",
    "data.augmentation.flip_vertical": "mirror clips, top and bottom",
    "data.augmentation.reverse": "play clips backwards",
    "data.augmentation.speeds": "take each so many-th frame, one of these",
    "data.augmentation.transpose": "swap height and width",
    "data.cache_bytes": "decoded clips that are kept in memory",
    "data.config": "configuration of the data set; its first",
    "data.data_dir": "folder of data sets",
    "data.future_frames": "frames of a training window after the context",
    "data.height": "of frames and maps, in pixels",
    "data.min_future_frames": "of a clip that is too short for a window",
    "data.name": "the data set: `sprites`, `moving_digits`, or one of `vidpred prepare`",
    "data.split": "what is trained on",
    "data.width": "of frames and maps, in pixels",
    "discriminator.last_width": "channels of the last convolution",
    "discriminator.norm": "`group`, `instance`, `batch` or `spectral`",
    "discriminator.scales": "discriminators, each on frames half as large",
    "discriminator.widths": "channels of each convolution of stride 2",
    "ema_decay": "of the moving average of parameters, which predicts",
    "evaluation.clips": "validation clips; 0: no validation",
    "evaluation.every": "steps between validations",
    "evaluation.horizon": "frames that validation predicts",
    "evaluation.stride": "frames between windows; 0: side by side",
    "fusion_run": "run of stage 1; empty: the newest beside it; `none`: proposals alone",
    "log_every": "steps between lines of `metrics.jsonl`",
    "loss.adversarial": "weight of the generator's adversarial loss; 0: no discriminator",
    "loss.edges": "weight of the edges' cross-entropy",
    "loss.gan": "form of the adversarial loss",
    "loss.l1": "weight of the mean absolute error, frames in [0, 1]",
    "loss.labels": "weight of the labels' cross-entropy",
    "loss.matching": "weight of feature matching, beside `adversarial`",
    "loss.mse": "weight of the mean squared error",
    "loss.perceptual": "weight of LPIPS; needs the extra `perceptual`",
    "loss.psnr": "weight of the negative PSNR",
    "loss.sharpness": "weight of the error of gradients",
    "loss.ssim": "weight of 1 - SSIM",
    "loss.trajectory": "weight of where objects are",
    "maps": "planes of edges and labels, or the paper's RGB picture",
    "max_unroll": "calls on its own output before each trained call, at most",
    "model.block": "`conv` or `gated` blocks of the U-Net",
    "model.blocks": "a level",
    "model.dropout": "rate on the first three doublings",
    "model.frame_features": "of an encoder and decoder of single frames; 0: none",
    "model.head_features": "features at full resolution before the last layer",
    "model.hidden": "channels of SimVP's translator",
    "model.kernel": "side of the accompanying convolutions",
    "model.layers": "of each accompanying network",
    "model.levels": "halvings",
    "model.norm": "`batch`, `group` or `instance`",
    "model.outputs": "output maps that are computed, counted from the last; 0: all",
    "model.patch": "side of the pixel blocks that are folded into channels",
    "model.reference_frames": "last observed frames that are input; 0: the paper",
    "model.regions": "input how labels and background move, by least squares",
    "model.remat": "compute activations again on the way back: less memory",
    "model.scales": "of the accompanying networks, coarse to fine",
    "model.shift": "new maps a call; 1: the paper",
    "model.strides": "of each encoder layer",
    "model.time_patch": "frames that are folded into channels",
    "model.time_strides": "of time, between levels",
    "model.width": "channels of the first layer",
    "model.widths": "channels of each level",
    "network": "one of the stage's networks; its first",
    "num_steps": "of the training",
    "optimizer.accumulate": "batches a step, whose gradients are averaged",
    "optimizer.b1": "of Adam",
    "optimizer.b2": "of Adam",
    "optimizer.clip": "norm that gradients are scaled down to; 0: none",
    "optimizer.discriminator_rate": "the discriminator's learning rate; 0: the generator's",
    "optimizer.kind": "the optimizer of the generator",
    "optimizer.learning_rate": "at its highest",
    "optimizer.schedule": "of the learning rate after warm-up",
    "optimizer.warmup_steps": "over which the learning rate rises",
    "precision": "of convolutions; parameters and losses are float32",
    "predicted_fraction": "share of the clips whose maps are stage 1's instead of the true ones",
    "proposal_clarity": "at which proposals forecast, where they have a choice",
    "proposal_dropout": "share of the clips that are shown no proposal",
    "proposal_runs": "a run for each proposal; empty: the newest",
    "proposals": "what the network adds to",
    "reference_steps": "steps of the reference stack, before the pair is trained",
    "save_every": "steps between checkpoints",
    "seed": "of everything random",
    "skip_nonfinite": "steps with losses that are not finite that are skipped, a start",
    "stage": "what is trained; do not set",
    "step_sampling_power": "how much more often near steps are drawn than far ones",
    "targets_per_clip": "frames a clip that are trained on",
    "translator_run": "run of stage 2; empty: the newest beside it",
}
COMMANDS = {"predict": "rollout", "prepare": "prepare", "evaluate": "evaluate", "export": "export"}


def on_files(files, config):
    """Called by MkDocs: adds the pages."""
    for name, text in (("commands", commands()), ("config", fields()), ("metrics", metrics())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def commands() -> str:
    lines = ["# Commands", "", TRAIN, ""]
    for command, module in COMMANDS.items():
        # Commands share names of flags: each is imported into none of the others'.
        for name in list(flags.FLAGS):
            delattr(flags.FLAGS, name)
        module = importlib.import_module(f"vidpred_jax.cli.{module}")
        about, *_ = module.__doc__.split("\n\n")
        lines += [f"## vidpred {command}", "", about, "", "| flag | default | meaning |", "|---|---|---|"]
        for flag in flags.FLAGS.get_key_flags_for_module(module):
            lines.append(f"| `--{flag.name}` | {_code(flag.default)} | {_cell(flag.help)} |")
        lines.append("")
    return "\n".join(lines)


def fields() -> str:
    """Every field of every config with its type, range, default and meaning. KeyError for one without."""
    types, values = {}, {}
    for role in config._ROLES.values():
        types |= _types(role)
    for name in CONFIGS:
        get_config = runpy.run_path(f"{ROOT}/configs/{name}.py")
        preset = "scene" if name == "proposal" else "full"
        for field, value in _flat(get_config["get_config"](preset).to_dict()):
            values.setdefault(field, {})[name] = value
    lines = [
        "# Config fields",
        "",
        ABOUT,
        "",
        "| field | set by | type | default | meaning |",
        "|---|---|---|---|---|",
    ]
    for field in sorted({*values, *types} - {"model", "discriminator"}):
        found = values.get(field, {})
        same = len(set(map(str, found.values()))) <= 1
        told = {"all": next(iter(found.values()), None)} if same else found
        default = ", ".join(_code(v) if same else f"{name} {_code(v)}" for name, v in told.items())
        of = "all" if len(found) in (0, len(CONFIGS)) else ", ".join(found)
        kind = types.get(field) or "of the network"
        lines.append(f"| `{field}` | {of} | {kind} | {default} | {_cell(MEANINGS[field])} |")
    return "\n".join(lines)


def _flat(group, prefix=""):
    for name, value in group.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _types(group, prefix="") -> dict[str, str]:
    found = {}
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            found |= _types(field.annotation, f"{prefix}{name}.")
            continue
        kind = field.annotation
        if typing.get_origin(kind) is typing.Literal:
            text = ", ".join(f"`{x}`" for x in typing.get_args(kind))
        else:
            text = getattr(kind, "__name__", str(kind))
            for rule in field.metadata:
                low, high = getattr(rule, "ge", None), getattr(rule, "le", None)
                text += f", from {low}" if low is not None else ""
                text += f" to {high}" if high is not None and high < 2**31 else ""
        found[prefix + name] = text
    return found


def metrics() -> str:
    lines = [
        "# Metrics",
        "",
        "Definitions: [evaluation](../evaluation.md).",
        "",
        "| metric | of | meaning | best |",
    ]
    lines.append("|---|---|---|---|")
    best = {True: "highest", False: "lowest", None: "the truth's"}
    for name, metric in named.METRICS.items():
        unit = f" ({metric.unit})" if metric.unit else ""
        lines.append(
            f"| `{name}` | {metric.field} | {metric.meaning}{unit} | {best[metric.higher_is_better]} |"
        )
    return "\n".join(lines)


def _code(value) -> str:
    return "" if value in (None, "", []) else f"`{value}`"


def _cell(text) -> str:
    return " ".join(text.split()).replace("|", "\\|")
