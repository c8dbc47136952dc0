"""Stages 1 and 2, trained and frozen, as one function: the frames that stage 3 mends."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax.checkpoints import restore
from vidpred_jax.data import fusion
from vidpred_jax.inference import networks, rollout
from vidpred_jax.models.accompanying import Translated
from vidpred_jax.types import CONTEXT, HORIZON, InputError

_AT_ONCE = 4  # Clips translated at once.


@dataclasses.dataclass(eq=False)
class Frozen:
    """predictor, translator: modules. variables: {"fusion": parameters, "translator": variables}."""

    predictor: Any
    translator: Any
    variables: dict
    height: int
    width: int
    quantize_labels: int

    def predict(self, elements: list[dict], horizon: int = HORIZON, variables: dict | None = None):
        """(frames, pictures (n, horizon, h, w, 3) in [-1, 1], ahead (n, horizon)) of prepared clips.

        elements: as of `Predictor.predict_batch`. variables: instead of the runs' own.
        """
        variables = self.variables if variables is None else variables
        frames, pictures = (
            np.stack([e[field][:CONTEXT] for e in elements]) for field in ("frames", "fusion")
        )
        pictures, frames = self._roll(horizon)(variables, frames, pictures)
        ahead = jnp.broadcast_to(jnp.arange(1.0, horizon + 1), frames.shape[:2])
        return frames, pictures, ahead

    @functools.cached_property
    def _roll(self):
        """horizon -> the compiled rollout."""
        return functools.lru_cache(maxsize=4)(self._make_roll)

    def _make_roll(self, horizon):
        roll = rollout.make_rollout(
            self.predictor,
            horizon,
            quantize_labels=self.quantize_labels,
            translate=self.translator.apply,
        )

        @jax.jit
        def predict(variables, frames, pictures):
            frames, pictures = fusion.to_float(frames), fusion.to_float(pictures)
            seen = rollout.references(frames, pictures, self.translator.reference_frames)
            return roll(variables["fusion"], pictures, variables["translator"], seen)

        return predict

    def windows(self, windows: list[tuple], variables: dict | None = None) -> list[Translated]:
        """Translated frames of (clip, start, element) windows, with their targets; on the host."""
        found = []
        for i in range(0, len(windows), _AT_ONCE):
            elements = [element for _, _, element in windows[i : i + _AT_ONCE]]
            horizon = len(elements[0]["frames"]) - CONTEXT
            frames, pictures, ahead = self.predict(elements, horizon, variables)
            target = fusion.to_float(np.stack([e["frames"][CONTEXT:] for e in elements]))
            parts = (np.asarray(x) for x in (frames, pictures, ahead, target))
            found.append(Translated(*(x.reshape(-1, *x.shape[2:]) for x in parts)))
        return found


def load(fusion_run: str, translator_run: str) -> Frozen:
    """Both networks of two runs. Raises InputError if one is of another stage or they do not fit."""
    sizes, metas = {}, {}
    for stage, run in (("fusion", fusion_run), ("translator", translator_run)):
        metas[stage] = restore.read_meta(run)
        if metas[stage]["stage"] != stage:
            raise InputError(
                f"{stage}_run {run!r} holds a {metas[stage]['stage']} run; a {stage} run is needed"
            )
        data = metas[stage]["config"]["data"]
        sizes[run] = data["height"], data["width"]
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{run!r} at {h} x {w}" for run, (h, w) in sizes.items())
        raise InputError(f"the runs work at different sizes: {told}; they must be equal")
    predictor, fusion_variables = networks.load_generator(fusion_run)
    translator, variables = networks.load_generator(translator_run)
    height, width = sizes[translator_run]
    return Frozen(
        predictor,
        translator,
        {"fusion": fusion_variables["params"], "translator": variables},
        height,
        width,
        metas["fusion"]["config"]["evaluation"].get("quantize_labels", 0),
    )
