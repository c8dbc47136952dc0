"""A config made runnable: data, networks, first state, train step and evaluation of one stage."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from vidpred_jax import processes, schema
from vidpred_jax.checkpoints import restore
from vidpred_jax.data import augmentation, pipeline
from vidpred_jax.data.datasets import clips, registry
from vidpred_jax.inference import networks
from vidpred_jax.models import build
from vidpred_jax.training import state, steps, validation
from vidpred_jax.types import CONTEXT, InputError


@dataclasses.dataclass
class Experiment:
    """step: `(state, batch, *, axis_name)`. predict: `(state, seen elements) -> (n, horizon, ...)`.

    field: which part of a batch element predictions are compared with. freeze: `(state, windows) ->
    dict`, what prediction needs beside arrays, for the checkpoint. beside: further predictors
    `(state, seen)` that validation shows. clip_name: `(index) -> name` of a training clip.
    """

    state: state.TrainState
    step: Callable
    predict: Callable
    field: str
    batches: Iterator
    validation: Callable
    fingerprint: str
    clip_name: Callable
    freeze: Callable = lambda current, windows: {}
    beside: dict = dataclasses.field(default_factory=dict)


def make(config: dict, *, axis_name: str | None = None, log=print) -> Experiment:
    """Builds everything a run needs. config: plain dicts and lists. Raises InputError."""
    schema.check(config)
    data, stage = config["data"], config["stage"]
    builder = open_builder(data, log)
    size = data["height"], data["width"]
    generator = build.make_generator(
        stage, build.network_fields(config), *size, axis_name, config.get("network")
    )
    frozen, predictor = {}, None
    field = "fusion" if stage == "fusion" else "frames"
    if stage in ("fusion", "direct"):
        needed = CONTEXT + generator.shift * (1 + config["max_unroll"])
        forward = steps.fusion_forward(generator, config["max_unroll"], field)
        g_inputs = (np.zeros((1, CONTEXT, *size, 3), np.float32),)
    else:
        needed, snap = CONTEXT + config["targets_per_clip"], 0
        if config["predicted_fraction"]:
            predictor, frozen, snap = _load_predictor(config, size)
        forward = steps.translator_forward(
            generator,
            targets_per_clip=config["targets_per_clip"],
            step_sampling_power=config.get("step_sampling_power", 1.0),
            predictor=predictor,
            predicted_fraction=config["predicted_fraction"],
            quantize_labels=snap,
        )
        g_inputs = networks.translator_inputs(generator, size)
    if data["num_frames"] < needed:
        raise InputError(
            f"data.num_frames ({data['num_frames']}) must be at least {needed} for this config"
        )
    least = data.get("min_frames", data["num_frames"])
    if not needed <= least <= data["num_frames"]:
        raise InputError(
            f"data.min_frames ({least}) must be {needed} to data.num_frames ({data['num_frames']})"
        )
    if least < data["num_frames"] and stage != "translator":
        raise InputError(f"data.min_frames ({least}) is for stage translator, not {stage}")
    try:
        weights = steps.LossWeights(**config["loss"])
        tx = state.make_optimizer(num_steps=config["num_steps"], **config["optimizer"])
    except (TypeError, ValueError) as error:
        raise InputError(f"config: {error}") from error
    discriminator = d_inputs = None
    if weights.adversarial:
        discriminator = build.make_discriminator(
            build.network_fields(config, "discriminator"), axis_name
        )
        d_inputs = (np.zeros((1, *size, 3), np.float32),) * 2
    key = jax.random.key(config["seed"])
    first = state.create(key, generator, discriminator, g_inputs, d_inputs, tx, frozen)
    step = steps.make_train_step(
        forward,
        discriminator,
        tx,
        weights,
        seed=config["seed"] + 1,
        ema_decay=config["ema_decay"],
    )
    horizon = config["evaluation"]["horizon"]
    if stage in ("fusion", "direct"):
        snap = config["evaluation"].get("quantize_labels", 0) if stage == "fusion" else 0
        predict = validation.make_rollout_predict(generator, horizon, snap, field)
    else:
        predict = validation.make_translator_predict(generator, predictor, horizon, snap)
    return Experiment(
        state=first,
        step=step,
        predict=predict,
        field=field,
        batches=train_batches(config, log),
        validation=functools.partial(validation.windows, config, log),
        fingerprint=registry.fingerprint(builder),
        clip_name=train_source(config, log).clip_name,
    )


def open_builder(data: dict, log):
    """The data set of a config; one process makes what is missing, then all find it."""
    return processes.main_process_first(
        lambda: registry.open_builder(
            data["name"], data_dir=data["data_dir"], config=data["config"], log=log
        )
    )


def _load_predictor(config, size):
    """The stage-1 network whose rollout stage 2 trains on: (module, EMA parameters, quantize_labels)."""
    run = config["fusion_run"]
    meta = restore.read_meta(run)
    schema.check(meta["config"])
    if meta["stage"] != "fusion":
        raise InputError(f"fusion_run {run!r} holds a {meta['stage']} run; a fusion run is needed")
    found = meta["config"]["data"]["height"], meta["config"]["data"]["width"]
    if found != size:
        raise InputError(
            f"fusion_run {run!r} was trained at {found[0]} x {found[1]}, not {size[0]} x {size[1]}"
        )
    module, variables = networks.load_generator(run)
    return module, variables["params"], meta["config"]["evaluation"].get("quantize_labels", 0)


def train_source(config, log) -> clips.Source:
    """The clips that are trained on: of the training split, or of all that `data.split` joins."""
    data = config["data"]
    split = data.get("split", "train")
    if "test" in split.split("+"):
        raise InputError(f"data.split ({split!r}) must not hold test, which is never trained on")
    return registry.open_split(
        data["name"], split, data_dir=data["data_dir"], config=data["config"], log=log
    )


def fields_of(stage: str) -> tuple[str, ...]:
    """What a stage's batches hold (`pipeline`)."""
    return {"fusion": ("fusion",), "direct": ("frames",)}.get(stage, ("frames", "fusion"))


def train_batches(config, log):
    """The training split's batches of this process."""
    data = config["data"]
    source = train_source(config, log)
    options = dict(data.get("augmentation", {}))
    options["speeds"] = tuple(options.get("speeds", (1,)))
    try:
        options = augmentation.Augmentation(**options)
    except TypeError as error:
        raise InputError(f"data.augmentation: {error}") from error
    processes = jax.process_count()
    return pipeline.train_batches(
        source,
        batch_size=config["batch_size"] // processes,
        num_frames=data["num_frames"],
        height=data["height"],
        width=data["width"],
        seed=config["seed"],
        min_frames=data.get("min_frames"),
        augmentation=options,
        cache_bytes=data["cache_bytes"],
        fields=fields_of(config["stage"]),
        process_index=jax.process_index(),
        process_count=processes,
        log=log,
    )
