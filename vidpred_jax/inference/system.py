"""Networks put together: the one way from observed frames and fusion pictures to predicted ones.

`Predictor`, validation, evaluation and the training of stage 3 all predict by `make_predict`.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp

from vidpred_jax.data import fusion, sizes
from vidpred_jax.inference import rollout
from vidpred_jax.inference.networks import Network
from vidpred_jax.types import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """A network for each role that is filled; `predict` may be missing where fusion pictures are given.

    quantize_labels: as of `rollout.make_rollout`.
    """

    predict: Network | None = None
    translate: Network | None = None
    sharpen: Network | None = None
    quantize_labels: int = 0

    @classmethod
    def of(cls, *networks: Network, quantize_labels: int | None = None) -> "System":
        """Raises InputError where a role is filled twice or the networks do not fit each other.

        quantize_labels: None takes that of the run of stage 1.
        """
        roles = {}
        for network in networks:
            role = network.stage.role
            if role in roles:
                raise InputError(f"runs {roles[role].run!r} and {network.run!r} both {role}")
            roles[role] = network
        if quantize_labels is None:
            quantize_labels = roles["predict"].quantize_labels if "predict" in roles else 0
        system = cls(**roles, quantize_labels=quantize_labels)
        system._check()
        return system

    def _check(self):
        first, second, third = self.predict, self.translate, self.sharpen
        if len({network.context for network in self.networks}) > 1:
            found = ", ".join(f"{n.run!r} {n.context}" for n in self.networks)
            raise InputError(
                f"the runs observe several numbers of frames: {found}; they must be equal"
            )
        if first and second and first.stage.field == "frames":
            raise InputError(f"run {first.run!r} predicts frames: no translator run goes with it")
        if first and second and first.size != second.size and second.module.needs_fusion:
            raise InputError(
                f"fusion run {first.run!r} works at {sizes.by(first.size)}, translator run "
                f"{second.run!r} at {sizes.by(second.size)}; they must be equal, unless stage 2 needs "
                "no fusion pictures: a compositor whose model.widths is ()"
            )
        if third and not second:
            raise InputError(f"accompanying run {third.run!r} needs a translator run")
        if third and {third.size} != {self.size, self.picture_size}:
            raise InputError(
                f"accompanying run {third.run!r} works at {sizes.by(third.size)}, the frames are "
                f"{sizes.by(self.size)}, fusion pictures {sizes.by(self.picture_size)}; they must be equal"
            )

    @property
    def networks(self) -> list[Network]:
        return [n for n in (self.predict, self.translate, self.sharpen) if n is not None]

    @property
    def variables(self) -> dict[str, Any]:
        """By role, as `make_predict` takes them."""
        return {network.stage.role: network.variables for network in self.networks}

    @property
    def context(self) -> int:
        return self.networks[0].context

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return (self.translate or self.predict).size

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of the fusion pictures."""
        return (self.predict or self.translate).size

    @property
    def fields(self) -> tuple[str, ...]:
        """What is predicted."""
        fields = () if self.predict is None else (self.predict.stage.field,)
        return (*fields, "frames") if self.translate else fields


def make_predict(
    system: System, horizon: int, *, true_fusion: bool = False, finish=fusion.to_uint8
):
    """A function `(variables, frames, pictures) -> {field: (b, horizon, h, w, 3)}` to jit.

    variables: `System.variables`. frames, pictures: uint8 (b, t, h, w, 3), of which the first `context`
    are observed; None for what no network sees. true_fusion: frames of the pictures that follow in
    `pictures`, which stage 2 is given instead of predicted ones. finish: as of `rollout.make_rollout`.
    """
    context, first = system.context, system.predict

    def predict(variables, frames, pictures):
        observed = {
            "frames": None if frames is None else fusion.to_float(frames[:, :context]),
            "fusion": None if pictures is None else fusion.to_float(pictures[:, :context]),
        }
        translate = system.translate and _translator(system, variables, **observed)
        if true_fusion:
            coming = pictures[:, context : context + horizon]
            return {"frames": rollout.translate_pictures(translate, coming, finish)}
        roll = rollout.make_rollout(
            first,
            horizon,
            quantize_labels=system.quantize_labels,
            finish=finish,
        )
        found = roll(variables["predict"]["params"], observed[first.stage.field], translate)
        return dict(zip(system.fields, found if translate else (found,), strict=True))

    return predict


def _translator(system, variables, frames, fusion):
    """`(pictures, steps_ahead) -> frames` after a clip, whose references are observed once."""
    network = system.translate
    if fusion is None or fusion.shape != frames.shape:  # Then stage 2 does not see them.
        fusion = jnp.zeros_like(frames)
    seen = rollout.references(frames, fusion, network.reference_frames)
    apply = functools.partial(network.apply, variables["translate"])
    observations = network.observe(seen)

    def translate(pictures, steps_ahead):
        found = apply(pictures, seen, steps_ahead, observations)
        if system.sharpen is not None:
            found = system.sharpen.apply(variables["sharpen"], found, pictures, steps_ahead)
        return found

    return translate
