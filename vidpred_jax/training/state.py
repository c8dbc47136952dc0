"""What training carries from step to step, and what is saved."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vidpred_jax.config import Optimizer
from vidpred_jax.training.muon import muon


@struct.dataclass
class TrainState:
    """One pytree of arrays; `g` is the predictor or generator, `d` the discriminator (or empty).

    step: int32, steps done. updates: int32, updates of the optimizer: fewer where gradients are
    accumulated or steps skipped. ema: the moving average of params["g"], used for prediction.
    frozen: parameters used but not trained: of earlier stages by role, of proposals as `propose`.
    """

    step: Any
    params: dict
    batch_stats: dict
    opt_state: dict
    ema: Any
    frozen: Any
    updates: Any


def to_items(state: TrainState) -> dict[str, dict]:
    """The state as the items of a checkpoint: what prediction needs, and the rest."""
    return {
        "inference": {
            "step": state.step,
            "ema": state.ema,
            "batch_stats": state.batch_stats["g"],
            "proposals": state.frozen.get("propose", {}),
        },
        "training": {
            "params": state.params,
            "d_batch_stats": state.batch_stats["d"],
            "opt_state": state.opt_state,
            "frozen": state.frozen,
            "updates": state.updates,
        },
    }


def from_items(items: dict[str, dict]) -> TrainState:
    """The inverse of `to_items`."""
    inference, training = items["inference"], items["training"]
    return TrainState(
        step=inference["step"],
        params=training["params"],
        batch_stats={"g": inference["batch_stats"], "d": training["d_batch_stats"]},
        opt_state=training["opt_state"],
        ema=inference["ema"],
        frozen=training["frozen"],
        updates=training["updates"],
    )


def make_optimizer(options: Optimizer, num_steps: int) -> optax.GradientTransformation:
    """Adam (notebook: 2e-4, b1 .5) or `muon.muon`, with linear warm-up; `cosine` ends at 0."""
    learning_rate, b1, b2, accumulate = options.learning_rate, options.b1, options.b2, options.accumulate
    warmup_steps, num_steps = options.warmup_steps // accumulate, max(num_steps // accumulate, 1)
    if options.schedule == "cosine":
        rate = optax.cosine_decay_schedule(learning_rate, max(num_steps - warmup_steps, 1))
    else:
        rate = optax.constant_schedule(learning_rate)
    if warmup_steps:
        warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
        rate = optax.join_schedules([warmup, rate], [warmup_steps])
    tx = muon(rate, b1, b2) if options.kind == "muon" else optax.adam(rate, b1=b1, b2=b2)
    tx = optax.chain(optax.clip_by_global_norm(options.clip), tx) if options.clip else tx
    return optax.MultiSteps(tx, accumulate).gradient_transformation() if accumulate > 1 else tx


def create(key, generator, discriminator, g_inputs, d_inputs, tx, frozen=None, d_tx=None) -> TrainState:
    """A fresh state; discriminator None leaves `d` empty. Inputs are example arrays for init.

    tx, d_tx: optimizers, as of `steps.make_train_step`.
    """
    g_key, d_key = jax.random.split(key)
    params, batch_stats, opt_state = {}, {}, {}
    for name, module, inputs, module_key, optimizer in (
        ("g", generator, g_inputs, g_key, tx),
        ("d", discriminator, d_inputs, d_key, d_tx or tx),
    ):
        variables = _init(module, module_key, inputs) if module is not None else {}
        params[name] = variables.get("params", {})
        batch_stats[name] = variables.get("batch_stats", {})
        opt_state[name] = optimizer.init(params[name])
    # Copies: the step donates its state, and one buffer cannot be donated twice.
    ema = jax.tree.map(jnp.copy, params["g"])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema=ema,
        frozen=frozen if frozen is not None else {},
        updates=jnp.zeros((), jnp.int32),
    )


def has_updated(opt_state):
    """Whether the last `update` of `make_optimizer` moved parameters, or only accumulated gradients."""
    if isinstance(opt_state, optax.MultiStepsState):
        return opt_state.mini_step == 0
    return jnp.asarray(True)


def _init(module, key, inputs):
    # Run once: LLVM's higher levels take seconds for all that is drawn. Only what is run has options.
    runs_here = jax.default_backend() == "cpu" and not isinstance(key, jax.core.Tracer)
    options = {"xla_backend_optimization_level": 1} if runs_here else None
    return jax.jit(module.init, compiler_options=options)(key, *inputs)


def ema_rate(updates, decay: float):
    """Decay that starts low, so that the average forgets the random start: min(decay, (1+t)/(10+t))."""
    t = updates.astype(jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))
