"""A config made runnable: data, networks, first state, train step and validation of one stage."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from vidpred_jax import processes, stages
from vidpred_jax.config import parse
from vidpred_jax.data import augmentation, pipeline, sizes
from vidpred_jax.data.datasets import clips, registry
from vidpred_jax.inference import networks
from vidpred_jax.inference.networks import Network
from vidpred_jax.inference.system import System, make_predict
from vidpred_jax.models import build
from vidpred_jax.training import sharpening, state, steps, validation
from vidpred_jax.training.parts import Parts
from vidpred_jax.types import InputError


@dataclasses.dataclass
class Experiment:
    """step: `(state, batch, *, axis_name)`. predict: `(state, seen elements) -> (n, horizon, ...)`.

    field: which part of a batch element predictions are compared with. needs_future: the future fields
    that `predict` is shown. freeze: `(state, windows) -> dict`, what prediction needs beside arrays, for
    the checkpoint. beside: further predictors `(state, seen)` that validation shows. clip_name: `(index)
    -> name` of a training clip. facts: what the checkpoint keeps of the data set.
    """

    config: dict
    state: state.TrainState
    step: Callable
    predict: Callable
    field: str
    needs_future: tuple[str, ...]
    batches: Iterator
    validation: Callable
    fingerprint: str
    clip_name: Callable
    facts: dict
    freeze: Callable
    beside: dict


def make(config: dict, *, axis_name: str | None = None, log=print) -> Experiment:
    """Builds everything a run needs. config: plain dicts and lists. Raises InputError."""
    config = parse(config)
    stage, data = stages.get(config["stage"]), config["data"]
    builder = open_builder(data, log)
    network = networks.make(config, axis_name=axis_name)
    parts = _PARTS[stage.role](config, network, _load_earlier(config, network))
    _check_window(data, parts.future_frames, stage.role)
    source = train_source(config, log)
    return Experiment(
        config=config,
        state=parts.state,
        step=parts.step,
        predict=parts.predict,
        field=stage.field,
        needs_future=parts.needs_future,
        batches=train_batches(config, source, log),
        validation=functools.partial(_validation_windows, config, parts, log),
        fingerprint=registry.fingerprint(builder),
        clip_name=lambda index: source.names[index],
        facts={"num_labels": source.num_labels, "edge_rule": source.edge_rule.to_json()},
        freeze=parts.freeze,
        beside=parts.beside,
    )


def _check_window(data, needed, role):
    future, least = data["future_frames"], data["min_future_frames"]
    if future < needed:
        raise InputError(f"data.future_frames ({future}) must be at least {needed} for this config")
    if not needed <= least <= future:
        raise InputError(
            f"data.min_future_frames ({least}) must be {needed} to data.future_frames ({future})"
        )
    if least < future and role == "predict":
        raise InputError(f"data.min_future_frames ({least}) is for stages that draw target frames")


def _load_earlier(config, network) -> list[Network]:
    """The networks of the earlier stages that this one is trained behind, where it sees their output."""
    stage = network.stage
    if stage.role == "translate" and not config["predicted_fraction"]:
        return []
    loaded = []
    for name in stage.earlier:
        earlier = networks.load(config[f"{name}_run"], name)
        if earlier.size != network.size:
            raise InputError(
                f"{name}_run {earlier.run!r} was trained at {sizes.by(earlier.size)}, not "
                f"{sizes.by(network.size)}"
            )
        loaded.append(earlier)
    return loaded


def _predicting(config, network, earlier) -> Parts:
    module, field = network.module, network.stage.field
    return _adversarial(
        config,
        network,
        System.of(network),
        future_frames=module.shift * (1 + config["max_unroll"]),
        forward=steps.fusion_forward(module, config["max_unroll"], field),
        variables=lambda current: {"predict": {"params": current.ema}},
    )


def _translating(config, network, earlier) -> Parts:
    predictor = earlier[0] if earlier else None
    system = System.of(*earlier, network)
    return _adversarial(
        config,
        network,
        system,
        future_frames=config["targets_per_clip"],
        forward=steps.translator_forward(
            network.module,
            context=config["context"],
            targets_per_clip=config["targets_per_clip"],
            step_sampling_power=config["step_sampling_power"],
            predictor=predictor,
            predicted_fraction=config["predicted_fraction"],
            quantize_labels=system.quantize_labels,
        ),
        variables=lambda current: {
            "predict": {"params": current.frozen},
            "translate": {"params": current.ema, "batch_stats": current.batch_stats["g"]},
        },
        frozen=predictor and predictor.variables["params"],
    )


def _adversarial(
    config, network, system, *, future_frames, forward, variables, frozen=None
) -> Parts:
    """A generator beside its discriminator, where the loss asks for one."""
    try:
        weights = steps.LossWeights(**config["loss"])
        tx = state.make_optimizer(num_steps=config["num_steps"], **config["optimizer"])
    except (TypeError, ValueError) as error:
        raise InputError(f"config: {error}") from error
    discriminator = d_inputs = None
    if weights.adversarial:
        fields = build.network_fields(config, "discriminator")
        discriminator = build.make_discriminator(fields, network.axis_name)
        d_inputs = (np.zeros((1, *network.size, 3), np.float32),) * 2
    first = state.create(
        jax.random.key(config["seed"]),
        network.module,
        discriminator,
        networks.example_inputs(network),
        d_inputs,
        tx,
        frozen,
    )
    step = steps.make_train_step(
        forward,
        discriminator,
        tx,
        weights,
        seed=config["seed"] + 1,
        ema_decay=config["ema_decay"],
    )
    true_fusion, field = system.predict is None, network.stage.field
    horizon, context = config["evaluation"]["horizon"], config["context"]
    run = jax.jit(make_predict(system, horizon, true_fusion=true_fusion))

    def predict(current, seen):
        lengths = {"frames": context, "fusion": context + horizon * true_fusion}
        clips_of = {f: np.stack([e[f][:n] for e in seen]) for f, n in lengths.items()}
        return np.asarray(run(variables(current), clips_of["frames"], clips_of["fusion"])[field])

    return Parts(first, step, predict, future_frames, ("fusion",) if true_fusion else ())


def _validation_windows(config, parts, log):
    found = validation.windows(config, log)
    if parts.needs_validation and not found:
        raise InputError(
            f"data.name ({config['data']['name']!r}) with evaluation.clips "
            f"({config['evaluation']['clips']}): stage {config['stage']} needs validation clips of "
            f"{config['context'] + config['evaluation']['horizon']} frames, and there are none"
        )
    return found


_PARTS = {"predict": _predicting, "translate": _translating, "sharpen": sharpening.make}


def open_builder(data: dict, log):
    """The data set of a config; one process makes what is missing, then all find it."""
    return processes.main_process_first(
        lambda: registry.open_builder(
            data["name"], data_dir=data["data_dir"], config=data["config"], log=log
        )
    )


def train_source(config, log) -> clips.Source:
    """The clips that are trained on: of the training split, or of all that `data.split` joins."""
    data = config["data"]
    split = data["split"]
    if "test" in split.split("+"):
        raise InputError(f"data.split ({split!r}) must not hold test, which is never trained on")
    return registry.open_split(
        data["name"], split, data_dir=data["data_dir"], config=data["config"], log=log
    )


def train_batches(config, source, log):
    """The training split's batches of this process."""
    data, context = config["data"], config["context"]
    options = dict(data["augmentation"])
    options["speeds"] = tuple(options.get("speeds", (1,)))
    try:
        options = augmentation.Augmentation(**options)
    except TypeError as error:
        raise InputError(f"data.augmentation: {error}") from error
    count = jax.process_count()
    return pipeline.train_batches(
        source,
        batch_size=config["batch_size"] // count,
        num_frames=context + data["future_frames"],
        height=data["height"],
        width=data["width"],
        seed=config["seed"],
        min_frames=context + data["min_future_frames"],
        augmentation=options,
        cache_bytes=data["cache_bytes"],
        fields=stages.get(config["stage"]).inputs,
        process_index=jax.process_index(),
        process_count=count,
        log=log,
    )
