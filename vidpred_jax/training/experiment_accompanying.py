"""A config of stage 3 made runnable: the accompanying convolution behind frozen stages 1 and 2."""

import functools

import jax
import numpy as np

from vidpred_jax import processes
from vidpred_jax.config import parse
from vidpred_jax.data import fusion, pipeline
from vidpred_jax.data.datasets import clips, registry
from vidpred_jax.inference import translated
from vidpred_jax.models import build, schedules
from vidpred_jax.training import experiment, steps_accompanying, validation
from vidpred_jax.types import CONTEXT, InputError


def make(config: dict, *, axis_name: str | None = None, log=print) -> experiment.Experiment:
    """Builds everything a run needs. config: plain dicts and lists. Raises InputError."""
    config = parse(config)
    data, size = config["data"], (config["data"]["height"], config["data"]["width"])
    builder = experiment.open_builder(data, log)
    stack, selection = build.make_stack(build.network_fields(config), config["selection"], *size)
    frozen = translated.load(config["fusion_run"], config["translator_run"])
    if (frozen.height, frozen.width) != size:
        raise InputError(
            f"translator_run {config['translator_run']!r} was trained at {frozen.height} x "
            f"{frozen.width}, not {size[0]} x {size[1]}"
        )
    _check(config, builder)
    try:
        first, update = steps_accompanying.make_training(
            jax.random.key(config["seed"]),
            stack,
            selection,
            size,
            loss=config["loss"],
            optimizer=config["optimizer"],
            num_steps=config["num_steps"],
            reference_steps=config["reference_steps"],
            ema_decay=config["ema_decay"],
            frozen=frozen.variables,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"config: {error}") from error
    translate = steps_accompanying.make_translate(
        frozen.predictor,
        frozen.translator,
        targets_per_clip=config["targets_per_clip"],
        predicted_fraction=config["predicted_fraction"],
        quantize_labels=frozen.quantize_labels,
    )
    schedule = _Schedule(stack, frozen, config)
    horizon = config["evaluation"]["horizon"]
    return experiment.Experiment(
        state=first,
        step=steps_accompanying.make_train_step(translate, update, seed=config["seed"] + 1),
        predict=functools.partial(schedule.predict, horizon),
        field="frames",
        batches=experiment.train_batches(config, log),
        validation=functools.partial(validation.windows, config, log),
        fingerprint=registry.fingerprint(builder),
        clip_name=experiment.train_source(config, log).clip_name,
        freeze=schedule.freeze,
        beside={"translator": functools.partial(schedule.translate, horizon)},
    )


def _check(config, builder) -> None:
    future, needed = config["data"]["future_frames"], config["targets_per_clip"]
    if future < needed:
        raise InputError(f"data.future_frames ({future}) must be at least {needed} for this config")
    length, wanted = CONTEXT + config["evaluation"]["horizon"], config["evaluation"]["clips"]
    places = []
    if "validation" in builder.info.splits and wanted:
        places = pipeline.window_places(clips.Source(builder, "validation"), length, length)
    if not places:
        raise InputError(
            f"data.name ({config['data']['name']!r}) with evaluation.clips ({wanted}): the schedule is "
            f"chosen on validation clips of {length} frames, and there are none"
        )
    if not 1 <= config["reference_steps"] <= config["num_steps"]:
        raise InputError(
            f"reference_steps ({config['reference_steps']}) must be 1 or more and at most num_steps "
            f"({config['num_steps']})"
        )


class _Schedule:
    """The schedule as it was last frozen, and prediction along it."""

    def __init__(self, stack, frozen, config):
        self._stack, self._frozen = stack, frozen
        self._reference_steps = config["reference_steps"]
        self._schedule = [schedules.KEPT] * len(stack.scales)
        self._validation, self._compiled = None, functools.lru_cache(maxsize=2)(self._compile)

    def freeze(self, current, windows) -> dict:
        """The schedule by the state's EMA parameters; {} where there are no windows (other processes)."""
        if not windows:
            return {}
        current = processes.to_host(current)
        if self._validation is None:
            self._validation = self._frozen.windows(windows, current.frozen)
        if int(current.step) <= self._reference_steps:
            reference = [schedules.alone("p", self._stack)]
            self._schedule = schedules.keep_best(
                self._stack, current.ema, reference, self._validation
            )
        else:
            self._schedule = schedules.freeze_schedule(self._stack, current.ema, self._validation)
        return {"schedule": self._schedule}

    def translate(self, horizon, current, seen):
        """The translator's frames, as they are."""
        return fusion.to_uint8(np.asarray(self._frozen.predict(seen, horizon, current.frozen)[0]))

    def predict(self, horizon, current, seen):
        frames, pictures, ahead = self._frozen.predict(seen, horizon, current.frozen)
        schedule = tuple(map(tuple, self._schedule))
        return fusion.to_uint8(
            np.asarray(self._compiled(schedule)(current.ema, frames, pictures, ahead))
        )

    def _compile(self, schedule):
        return jax.jit(
            lambda params, *videos: schedules.sharpen(self._stack, params, schedule, *videos)
        )
