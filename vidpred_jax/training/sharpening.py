"""Stage 3 made runnable: the accompanying convolution behind frozen stages 1 and 2."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax import processes
from vidpred_jax.data import fusion
from vidpred_jax.inference.networks import Network
from vidpred_jax.inference.system import System, make_predict
from vidpred_jax.models import build, schedules
from vidpred_jax.models.accompanying import Translated
from vidpred_jax.training import steps_accompanying
from vidpred_jax.training.parts import Parts
from vidpred_jax.types import InputError

_AT_ONCE = 4  # Clips translated at once.


def make(config: dict, network: Network, earlier: list[Network]) -> Parts:
    """config: parsed. earlier: of stages 1 and 2. Raises InputError."""
    stack = build.make_stack(build.network_fields(config), *network.size)
    if config["reference_steps"] > config["num_steps"]:
        raise InputError(
            f"reference_steps ({config['reference_steps']}) must be at most num_steps ({config['num_steps']})"
        )
    frozen = Frozen(System.of(*earlier))
    first, update = steps_accompanying.make_training(
        jax.random.key(config["seed"]),
        stack,
        network.size,
        loss=config["loss"],
        optimizer=config["optimizer"],
        num_steps=config["num_steps"],
        reference_steps=config["reference_steps"],
        ema_decay=config["ema_decay"],
        frozen=frozen.system.variables,
    )
    translate = steps_accompanying.make_translate(
        frozen.system,
        targets_per_clip=config["targets_per_clip"],
        predicted_fraction=config["predicted_fraction"],
    )
    schedule = _Schedule(stack, frozen, config)
    return Parts(
        first,
        steps_accompanying.make_train_step(translate, update, seed=config["seed"] + 1),
        schedule.predict,
        config["targets_per_clip"],
        frozen.system.inputs,
        freeze=schedule.freeze,
        beside={"translator": schedule.translate},
        proposals=frozen.system.proposals,
        needs_validation=True,
    )


class Frozen:
    """Stages 1 and 2, whose frames stage 3 sharpens."""

    def __init__(self, system: System):
        self.system = system
        self._run = functools.lru_cache(maxsize=4)(self._compile)

    def _compile(self, horizon):
        return jax.jit(make_predict(self.system, horizon, finish=lambda x: x))

    def predict(self, elements: list[dict], horizon: int, variables: dict | None = None):
        """(frames, fusion pictures (n, horizon, h, w, 3) in [-1, 1], steps ahead (n, horizon)) of clips.

        elements: as of `Predictor.predict_batch`. variables: instead of the runs' own.
        """
        variables = self.system.variables if variables is None else variables
        context = self.system.context
        clip = {f: np.stack([e[f][:context] for e in elements]) for f in self.system.inputs}
        found = self._run(horizon)(variables, clip)
        steps_ahead = jnp.arange(1.0, horizon + 1)
        steps_ahead = jnp.broadcast_to(steps_ahead, found["frames"].shape[:2])
        return found["frames"], found["fusion"], steps_ahead

    def windows(self, windows: list[tuple], variables: dict | None = None) -> list[Translated]:
        """Translated frames of (clip, start, element) windows, with their targets; on the host."""
        context, found = self.system.context, []
        for i in range(0, len(windows), _AT_ONCE):
            elements = [element for _, _, element in windows[i : i + _AT_ONCE]]
            horizon = len(elements[0]["frames"]) - context
            predicted = self.predict(elements, horizon, variables)
            target = fusion.to_float(np.stack([e["frames"][context:] for e in elements]))
            parts = (np.asarray(x) for x in (*predicted, target))
            found.append(Translated(*(x.reshape(-1, *x.shape[2:]) for x in parts)))
        return found


class _Schedule:
    """The schedule as it was last frozen, and prediction along it."""

    def __init__(self, stack, frozen, config):
        self._stack, self._frozen, self._config = stack, frozen, config
        self._schedule = schedules.alone(schedules.KEEP, stack)
        self._validation, self._compiled = None, functools.lru_cache(maxsize=2)(self._compile)

    def freeze(self, current, windows) -> dict:
        """The schedule by the state's EMA parameters; {} in processes without windows."""
        if not windows:
            return {}
        current = processes.to_host(current)
        if self._validation is None:
            self._validation = self._frozen.windows(windows, current.frozen)
        if int(current.step) <= self._config["reference_steps"]:
            reference = [schedules.alone("p", self._stack)]
            self._schedule = schedules.keep_best(self._stack, current.ema, reference, self._validation)
        else:
            self._schedule = schedules.freeze_schedule(self._stack, current.ema, self._validation)
        return {"schedule": self._schedule}

    def translate(self, current, seen):
        """The translator's frames, as they are."""
        return fusion.to_uint8(np.asarray(self._predict(current, seen)[0]))

    def predict(self, current, seen):
        """The same frames, sharpened along the schedule."""
        found = self._compiled(tuple(self._schedule))(current.ema, *self._predict(current, seen))
        return fusion.to_uint8(np.asarray(found))

    def _predict(self, current, seen):
        return self._frozen.predict(seen, self._config["evaluation"]["horizon"], current.frozen)

    def _compile(self, schedule):
        return jax.jit(lambda params, *videos: schedules.sharpen(self._stack, params, schedule, *videos))
