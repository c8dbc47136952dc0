"""The runs that a training stands behind: proposals and earlier stages, found and loaded."""

import pathlib

from vidpred_jax import processes, stages
from vidpred_jax.checkpoints import restore, runs
from vidpred_jax.data import sizes
from vidpred_jax.inference import networks
from vidpred_jax.inference.networks import Network
from vidpred_jax.inference.proposing import Proposal
from vidpred_jax.types import InputError


def fill_in(config: dict, workdir: pathlib.Path, folder: pathlib.Path | None = None) -> dict:
    """Names the runs of proposals and earlier stages that this one trains on where the config leaves them
    open.

    A run that resumes keeps those it began with; a new one takes the newest beside it that were trained
    on the same data set and, of stages 1 and 2, on each other. folder: where the newest is looked for; None:
    beside this run. Raises InputError where there is none.
    """
    stage, data, folder = stages.get(config["stage"]), config["data"]["name"], folder or workdir.parent
    config = _fill_in_stages(config, stage, folder, data, workdir)
    return _fill_in_proposals(config, folder, workdir)


def _stands_behind_stages(config, stage):
    if config.get("fusion_run") == runs.NONE and not config.get("proposals"):
        raise InputError(
            f"fusion_run ({runs.NONE!r}): without stage 1 maps are those of proposals; name some"
        )
    return stage.role != "translate" or (config["predicted_fraction"] and config["fusion_run"] != runs.NONE)


def _fill_in_stages(config, stage, folder, data, workdir):
    if not _stands_behind_stages(config, stage):
        return config
    fields = [f"{name}_run" for name in stage.earlier]
    missing = [field for field in fields if not config[field]]
    if not missing:
        return config
    if restore.steps(workdir):
        saved = restore.read_meta(workdir)["config"]
        return {**config, **{field: saved.get(field, "") for field in missing}}
    if missing == ["fusion_run", "translator_run"]:
        pair = processes.from_main(lambda: runs.newest_pair(folder, lambda name: name == data))
        found = dict(zip(missing, pair or (None, None), strict=True))
    else:
        newest = lambda field: runs.newest(field.removesuffix("_run"), folder, data)
        found = processes.from_main(lambda: {field: newest(field) for field in missing})
    for field, run in found.items():
        if run is None:
            name = field.removesuffix("_run")
            why, instead = "stage 3", ""
            if stage.role == "translate":
                why = f"predicted_fraction ({config['predicted_fraction']})"
                instead = ", or set predicted_fraction to 0"
            raise InputError(
                f"{why} needs a {name} run: none trained on {data!r} is under {str(folder)!r}; train "
                f"one, or name it by {field}{instead}"
            )
    return {**config, **found}


def _fill_in_proposals(config, folder, workdir):
    names, data = config.get("proposals", ()), config["data"]["name"]
    if not names or config["proposal_runs"]:
        return config
    if restore.steps(workdir):
        saved = restore.read_meta(workdir)["config"]
        return {**config, "proposal_runs": saved.get("proposal_runs", [])}
    # Those of stage 1, so that both add to the same.
    run = config.get("fusion_run")
    first = networks.read_config(run) if run and run != runs.NONE else {}
    same = dict(zip(first.get("proposals", ()), first.get("proposal_runs", ()), strict=False))
    newest = lambda name: same.get(name) or runs.newest("proposal", folder, data, name)
    found = processes.from_main(lambda: [newest(name) for name in names])
    for name, run in zip(names, found, strict=True):
        if run is None:
            raise InputError(
                f"proposals ({', '.join(names)}): no run of {name} fitted on {data!r} is under "
                f"{str(folder)!r}; python -m vidpred_jax.train --config=configs/proposal.py:{name} "
                f"--config.data.name={data} --workdir={folder / name} makes one, or name it by "
                "proposal_runs"
            )
    return {**config, "proposal_runs": found}


def load_proposals(config: dict, num_labels: int) -> dict[str, Proposal]:
    """Those that the network adds to, from the runs that a config names for them. num_labels: of the data."""
    names, named = config.get("proposals", ()), config.get("proposal_runs", ())
    if len(names) != len(named):
        raise InputError(
            f"proposal_runs ({', '.join(named)}) must name a run for each of proposals ({', '.join(names)})"
        )
    size, found = (config["data"]["height"], config["data"]["width"]), {}
    for name, run in zip(names, named, strict=True):
        network = networks.load(run, "proposal", size=size)
        if network.config["network"] != name:
            raise InputError(f"proposal_runs: {run!r} holds {network.config['network']}, not {name}")
        if network.context != config["context"]:
            raise InputError(
                f"proposal_runs: {run!r} observes {network.context} frames, not {config['context']}"
            )
        known = getattr(network.module, "num_labels", num_labels)
        if known < num_labels:
            raise InputError(
                f"proposal_runs: {run!r} tells {known} labels apart, background included, the data have "
                f"{num_labels}; fit it on them"
            )
        found |= network.proposals
    return {name: proposal.trained_at(config["proposal_clarity"]) for name, proposal in found.items()}


def load(config: dict, network: Network) -> list[Network]:
    """The networks of the earlier stages that this one is trained behind, where it sees their output."""
    stage = network.stage
    if not _stands_behind_stages(config, stage):
        return []
    loaded = []
    for name in stage.earlier:
        earlier = networks.load(config[f"{name}_run"], name)
        if earlier.size != network.size:
            raise InputError(
                f"{name}_run {earlier.run!r} was trained at {sizes.by(earlier.size)}, not "
                f"{sizes.by(network.size)}"
            )
        if earlier.context != config["context"]:
            raise InputError(
                f"{name}_run {earlier.run!r} observes {earlier.context} frames, not {config['context']}"
            )
        loaded.append(earlier)
    return loaded
