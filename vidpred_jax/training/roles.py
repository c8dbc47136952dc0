"""What each role brings to an experiment: first state, train step, prediction for validation."""

import dataclasses
import functools

import jax
import numpy as np

from vidpred_jax.config import GanOptimizer, Loss, ProposalLoss
from vidpred_jax.data import fusion
from vidpred_jax.inference import networks
from vidpred_jax.inference.proposing import Proposal
from vidpred_jax.inference.system import System, make_predict
from vidpred_jax.models import build
from vidpred_jax.training import forward, sharpening, state, steps
from vidpred_jax.training.parts import Parts


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
            min_future=config["data"]["min_future_frames"],
            **_fields(config, "context", "targets_per_clip", "step_sampling_power"),
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
            forward.predict_forward, network, system, **_fields(config, "max_unroll", "proposal_dropout")
        ),
        variables=lambda current: {"predict": {"params": current.ema}},
    )


def _translating(config, network, before) -> Parts:
    system = System.of(*before, network)
    names = ("targets_per_clip", "step_sampling_power", "predicted_fraction", "proposal_dropout")
    return _adversarial(
        config,
        network,
        system,
        future_frames=config["targets_per_clip"],
        forward=functools.partial(forward.translate_forward, network, system, **_fields(config, *names)),
        variables=lambda current: {
            "translate": {"params": current.ema, "batch_stats": current.batch_stats["g"]}
        },
    )


def _fields(config, *names) -> dict:
    return {name: config[name] for name in names}


def _adversarial(config, network, system, *, future_frames, forward, variables) -> Parts:
    """A generator beside its discriminator, where the loss asks for one.

    forward: `(names of the loss's terms) -> forward pass`. variables: `(state) -> those of
    System.variables that are trained`; the rest is frozen.
    """
    kind = ProposalLoss if network.stage.role == "propose" else Loss
    weights, options = kind(**config["loss"]), GanOptimizer(**config["optimizer"])
    d_rate = options.discriminator_rate or options.learning_rate
    tx = state.make_optimizer(options, config["num_steps"])
    d_tx = state.make_optimizer(options.model_copy(update={"learning_rate": d_rate}), config["num_steps"])
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
    staged = network.stage.role != "translate" or bool(system.predict or system.proposals)
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
    """`Parts.judge` of stage 2."""
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
            scales = discriminator.apply(params, *args)
            found = sum(outputs[-1].mean((1, 2)) for outputs in scales) / len(scales)
            return found.reshape(frames.shape[:2])

        return score(true), score(found["frames"])

    def judge(current, elements):
        clip = {field: np.stack([e[field] for e in elements]) for field in system.inputs}
        return tuple(map(np.asarray, run(current, clip)))

    return judge


PARTS = {"propose": _proposing, "predict": _predicting, "translate": _translating, "sharpen": sharpening.make}
