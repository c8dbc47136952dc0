"""A config made runnable: data, networks, first state, train step and validation of one stage."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from vidpred_jax import processes, stages
from vidpred_jax.config import parse
from vidpred_jax.data import augmentation, fusion, pipeline
from vidpred_jax.data.datasets import registry
from vidpred_jax.inference import networks
from vidpred_jax.inference.proposing import Proposal
from vidpred_jax.inference.system import System, make_predict
from vidpred_jax.models import build
from vidpred_jax.training import earlier, forward, sharpening, state, steps, validation
from vidpred_jax.training.parts import Parts
from vidpred_jax.types import InputError


@dataclasses.dataclass
class Experiment:
    """step: `(state, batch, *, axis_name)`. predict: `(state, seen elements) -> (n, horizon, ...)`.

    field: which part of a batch element predictions are compared with. needs_future: the future fields
    that `predict` is shown. freeze: `(state, windows) -> dict`, what prediction needs beside arrays, for
    the checkpoint. beside: further predictors `(state, seen)` that validation shows. clip_name: `(index)
    -> name` of a training clip. judge: `(state, whole elements) -> (scores of true frames, of predicted
    ones)` by the discriminator, (n, horizon) each; None without one. facts: what the checkpoint keeps of the
    data set. proposals: config and facts of those that the checkpoint carries, by name.
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
    proposals: dict
    freeze: Callable
    beside: dict
    judge: Callable | None


def make(config: dict, *, axis_name: str | None = None, log=print) -> Experiment:
    """Builds everything a run needs. config: plain dicts and lists. Raises InputError."""
    config = parse(config)
    stage, data = stages.get(config["stage"]), config["data"]
    builder = open_builder(data, log)
    source = train_source(config, log)
    facts = {"num_labels": source.num_labels, "edge_rule": source.edge_rule.to_json()}
    proposals = earlier.load_proposals(config)
    network = networks.make(config, facts, proposals=proposals, axis_name=axis_name)
    parts = _PARTS[stage.role](config, network, earlier.load(config, network))
    _check_window(data, parts.future_frames, stage.role)
    return Experiment(
        config=config,
        state=parts.state,
        step=parts.step,
        predict=parts.predict,
        field=stage.field,
        needs_future=parts.needs_future,
        batches=train_batches(config, source, parts.inputs, log),
        validation=functools.partial(_validation_windows, config, parts, log),
        fingerprint=registry.fingerprint(builder),
        clip_name=source.clip_name,
        facts=facts,
        proposals={name: list(p.described) for name, p in parts.proposals.items()},
        freeze=parts.freeze,
        beside=parts.beside,
        judge=parts.judge,
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


def _proposing(config, network, before) -> Parts:
    own = {network.config["network"]: Proposal(network.config["network"], network.module)}
    system = System.of(dataclasses.replace(network, proposals=own))
    return _adversarial(
        config,
        network,
        system,
        future_frames=config["targets_per_clip"],
        forward=functools.partial(
            forward.proposal_forward,
            network,
            context=config["context"],
            targets_per_clip=config["targets_per_clip"],
            step_sampling_power=config["step_sampling_power"],
            min_future=config["data"]["min_future_frames"],
        ),
        variables=lambda current: {"propose": {config["network"]: current.ema}},
    )


def _predicting(config, network, before) -> Parts:
    system = System.of(network)
    return _adversarial(
        config,
        network,
        system,
        future_frames=network.shift * (1 + config["max_unroll"]),
        forward=functools.partial(
            forward.predict_forward,
            network,
            system,
            max_unroll=config["max_unroll"],
            proposal_dropout=config["proposal_dropout"],
        ),
        variables=lambda current: {"predict": {"params": current.ema}},
    )


def _translating(config, network, before) -> Parts:
    system = System.of(*before, network)
    return _adversarial(
        config,
        network,
        system,
        future_frames=config["targets_per_clip"],
        forward=functools.partial(
            forward.translate_forward,
            network,
            system,
            targets_per_clip=config["targets_per_clip"],
            step_sampling_power=config["step_sampling_power"],
            predicted_fraction=config["predicted_fraction"],
            proposal_dropout=config["proposal_dropout"],
        ),
        variables=lambda current: {
            "translate": {"params": current.ema, "batch_stats": current.batch_stats["g"]}
        },
    )


def _adversarial(config, network, system, *, future_frames, forward, variables) -> Parts:
    """A generator beside its discriminator, where the loss asks for one.

    forward: `(names of the loss's terms) -> forward pass`. variables: `(state) -> those of
    System.variables that are trained`; the rest is frozen.
    """
    try:
        weights = steps.LossWeights(**config["loss"])
        options = dict(config["optimizer"], num_steps=config["num_steps"])
        d_rate = options.pop("discriminator_rate") or options["learning_rate"]
        tx = state.make_optimizer(**options)
        d_tx = state.make_optimizer(**{**options, "learning_rate": d_rate})
    except (TypeError, ValueError) as error:
        raise InputError(f"config: {error}") from error
    discriminator = d_inputs = None
    if weights.adversarial:
        fields = build.network_fields(config, "discriminator")
        discriminator = build.make_discriminator(fields, network.axis_name)
        shown = network.form.channels if network.stage.role == "predict" else 3
        d_inputs = (network.form.channels, shown)
        d_inputs = tuple(np.zeros((1, *network.size, n), np.float32) for n in d_inputs)
    frozen = {role: x for role, x in system.variables.items() if role != network.stage.role}
    first = state.create(
        jax.random.key(config["seed"]),
        network.module,
        discriminator,
        networks.example_inputs(network),
        d_inputs,
        tx,
        frozen,
        d_tx,
    )
    step = steps.make_train_step(
        forward(names=weights.terms),
        discriminator,
        tx,
        weights,
        d_tx=d_tx,
        seed=config["seed"] + 1,
        ema_decay=config["ema_decay"],
    )
    staged = network.stage.role != "translate" or system.predict is not None
    field, form, context = network.stage.field, system.form, config["context"]
    horizon = config["evaluation"]["horizon"]
    run = jax.jit(make_predict(system, horizon, known_maps=not staged, fields=(field,)))

    def predict(current, seen):
        lengths = {form.field: context + horizon * (not staged)}
        clip = {f: np.stack([e[f][: lengths.get(f, context)] for e in seen]) for f in system.inputs}
        return np.asarray(run({**current.frozen, **variables(current)}, clip)[field])

    judge = None
    if discriminator and network.stage.role == "translate":
        judge = _make_judge(system, discriminator, horizon, staged, variables)
    maps_alone = network.stage.role == "predict" and not system.proposals
    return Parts(
        first,
        step,
        predict,
        future_frames,
        (form.field,) if maps_alone else system.inputs,
        () if staged else (form.field,),
        proposals=system.proposals if "propose" in frozen else {},
        judge=judge,
    )


def _make_judge(system, discriminator, horizon, staged, variables):
    """`Experiment.judge` of stage 2."""
    fields = {"fields": ("frames", "maps"), "finish": lambda x: x}
    predict = make_predict(system, horizon, known_maps=not staged, **fields)
    future = slice(system.context, system.context + horizon)

    @jax.jit
    def run(current, clip):
        found = predict({**current.frozen, **variables(current)}, clip)
        form = system.form
        shown = found["maps"] if staged else form.encode(clip[form.field][:, future])
        true = fusion.to_float(clip["frames"][:, future])

        def score(frames):
            flat = lambda x: x.reshape(-1, *x.shape[2:])
            params = {"params": current.params["d"], "batch_stats": current.batch_stats["d"]}
            args = flat(shown), flat(frames), False
            scales = discriminator.apply(params, *args, method="activations")
            found = sum(outputs[-1].mean((1, 2)) for outputs in scales) / len(scales)
            return found.reshape(frames.shape[:2])

        return score(true), score(found["frames"])

    def judge(current, elements):
        clip = {field: np.stack([e[field] for e in elements]) for field in system.inputs}
        return tuple(map(np.asarray, run(current, clip)))

    return judge


def _validation_windows(config, parts, log):
    found = validation.windows(config, log)
    if parts.needs_validation and not found:
        raise InputError(
            f"data.name ({config['data']['name']!r}) with evaluation.clips "
            f"({config['evaluation']['clips']}): stage {config['stage']} needs validation clips of "
            f"{config['context'] + config['evaluation']['horizon']} frames, and there are none"
        )
    return found


_PARTS = {
    "propose": _proposing,
    "predict": _predicting,
    "translate": _translating,
    "sharpen": sharpening.make,
}


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
        fields=fields,
        process_index=jax.process_index(),
        process_count=count,
        log=log,
    )
