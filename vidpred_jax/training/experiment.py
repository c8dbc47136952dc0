"""A config made runnable: data, networks, first state, train step and validation of one stage."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax

from vidpred_jax import processes, stages
from vidpred_jax.config import Augmentation, parse
from vidpred_jax.data import pipeline
from vidpred_jax.data.datasets import registry
from vidpred_jax.inference import networks
from vidpred_jax.training import earlier, roles, validation
from vidpred_jax.training.parts import Parts
from vidpred_jax.types import InputError


@dataclasses.dataclass(kw_only=True)
class Experiment(Parts):
    """field: which part of a batch element predictions are compared with. clip_name: `(index) -> name` of a
    training clip. facts: what the checkpoint keeps of the data set.
    """

    config: dict
    field: str
    batches: Iterator
    validation: Callable
    fingerprint: str
    clip_name: Callable
    facts: dict


def make(config: dict, *, axis_name: str | None = None, log=print) -> Experiment:
    """Builds everything a run needs. config: plain dicts and lists. Raises InputError."""
    config = parse(config)
    stage, data = stages.get(config["stage"]), config["data"]
    builder = open_builder(data, log)
    source = train_source(config, log)
    facts = {"num_labels": source.num_labels, "edge_rule": source.edge_rule.to_json()}
    proposals = earlier.load_proposals(config, source.num_labels)
    network = networks.make(config, facts, proposals=proposals, axis_name=axis_name)
    parts = roles.PARTS[stage.role](config, network, earlier.load(config, network))
    _check_window(data, parts.future_frames, stage.role)
    return Experiment(
        **vars(parts),
        config=config,
        field=stage.field,
        batches=train_batches(config, source, parts.inputs, log),
        validation=functools.partial(_validation_windows, config, parts, log),
        fingerprint=registry.fingerprint(builder),
        clip_name=source.clip_name,
        facts=facts,
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


def _validation_windows(config, parts, log):
    found = validation.windows(config, log)
    if parts.needs_validation and not found:
        raise InputError(
            f"data.name ({config['data']['name']!r}) with evaluation.clips "
            f"({config['evaluation']['clips']}): stage {config['stage']} needs validation clips of "
            f"{config['context'] + config['evaluation']['horizon']} frames, and there are none"
        )
    return found


def open_builder(data: dict, log):
    """The data set of a config; one process makes what is missing, then all find it."""
    return processes.main_process_first(
        lambda: registry.open_builder(data["name"], data_dir=data["data_dir"], config=data["config"], log=log)
    )


def train_source(config, log):
    """The clips that are trained on: of the training split, or of all that `data.split` joins."""
    data = config["data"]
    split = data["split"]
    if "test" in split.split("+"):
        raise InputError(f"data.split ({split!r}) must not hold test, which is never trained on")
    options = {"data_dir": data["data_dir"], "config": data["config"], "drawn": True, "log": log}
    return registry.open_split(data["name"], split, **options)


def train_batches(config, source, fields, log):
    """The training split's batches of this process, of some fields."""
    data, context = config["data"], config["context"]
    count = jax.process_count()
    return pipeline.train_batches(
        source,
        batch_size=config["batch_size"] // count,
        num_frames=context + data["future_frames"],
        height=data["height"],
        width=data["width"],
        seed=config["seed"],
        min_frames=context + data["min_future_frames"],
        augmentation=Augmentation(**data["augmentation"]),
        cache_bytes=data["cache_bytes"],
        fields=fields,
        process_index=jax.process_index(),
        process_count=count,
        log=log,
    )
