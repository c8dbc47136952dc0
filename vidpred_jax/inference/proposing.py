"""Proposals beside networks: what they forecast as input channels, and as the base that a network adds to.

With the network's output at zero the sum is the proposal's. Where a clip's proposals are
dropped, channels and base are zero, and the network predicts alone.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vidpred_jax.data import fusion
from vidpred_jax.models import build
from vidpred_jax.proposals import fitted
from vidpred_jax.proposals.forecast import Forecast, Window, merge


@dataclasses.dataclass(frozen=True, eq=False)
class Proposal:
    """A fitted proposal: its module and its numbers. described: config and facts of the run that it was
    fitted by, as checkpoints keep them."""

    name: str
    module: Any
    params: Any = None
    described: tuple[dict, dict] = ({}, {})

    def apply(self, params, method: str, *args):
        """A method of the module, in the precision that it was fitted in."""
        with build.numerics(self.described[0]):
            return self.module.apply({"params": params}, *args, method=method)

    def telling_apart(self, num_labels: int) -> "Proposal":
        """The same for data of more labels: its numbers are of none of them."""
        if not hasattr(self.module, "num_labels"):
            return self
        return dataclasses.replace(self, module=self.module.clone(num_labels=num_labels))

    def at_size(self, size: tuple[int, int], before: tuple[int, int]) -> "Proposal":
        """The same for frames of one size, that was for those of another. Raises InputError."""
        return dataclasses.replace(self, module=fitted.at_size(self.module, size, before))

    def at_clarity(self, clarity: float) -> "Proposal":
        """The same with the mean of what may come at 0, one clear future at 1; itself where it has one
        forecast alone."""
        if not hasattr(self.module, "clarity"):
            return self
        return dataclasses.replace(self, module=self.module.clone(clarity=float(clarity)))

    def trained_at(self, clarity: float) -> "Proposal":
        """The same at a clarity, which a checkpoint that carries it keeps."""
        found = self.at_clarity(clarity)
        if found is self:
            return self
        config, facts = self.described
        model = {**config["model"], "clarity": float(clarity)}
        return dataclasses.replace(found, described=({**config, "model": model}, facts))


def window_of(clip: dict[str, jax.Array], context: int) -> Window:
    """The observed window of uint8 arrays `frames` and `planes` (b, t, h, w, 3 or 2)."""
    frames = fusion.to_float(clip["frames"][:, :context])
    planes = clip["planes"][:, :context]
    return Window(frames, planes[..., 0].astype(jnp.float32) / 255, planes[..., 1].astype(jnp.int32))


def observe(proposals: dict[str, Proposal], params: dict, window: Window | None) -> dict:
    """What each proposal observes in a window, by name."""
    return {name: p.apply(params[name], "observe", window) for name, p in proposals.items()}


def propose(
    proposals: dict[str, Proposal], params: dict, observations: dict, steps_ahead
) -> dict[str, Forecast]:
    """Each proposal's forecast, by name."""
    return {
        name: p.apply(params[name], "propose", observations[name], steps_ahead)
        for name, p in proposals.items()
    }


def inputs(form, forecasts: dict[str, Forecast]) -> Float[Array, "b t h w c"]:
    """What a network sees of proposals: frames, maps and confidence of each."""
    parts = []
    for forecast in forecasts.values():
        maps = form.join(forecast.edges, forecast.labels)
        parts += [forecast.frames, maps, forecast.confidence[..., None]]
    return jnp.concatenate(parts, -1)


def map_base(form, forecasts: dict[str, Forecast]) -> Float[Array, "b t h w c"]:
    """The raw values that stage 1 adds to."""
    merged = merge(list(forecasts.values()))
    return form.base(form.join(merged.edges, merged.labels))


def proposed_maps(form, forecasts: dict[str, Forecast]) -> Float[Array, "b t h w c"]:
    """The maps of all proposals together, as a network whose output is zero gives them."""
    return form.activate(map_base(form, forecasts), based=True)


def frame_base(forecasts: dict[str, Forecast]) -> Float[Array, "b t h w 3"]:
    """The frames that stage 2 adds to."""
    return merge(list(forecasts.values())).frames


def add(apply, base: Float[Array, "b t h w c"], given: jax.Array, kept: Bool[Array, " b"] | None = None):
    """base + apply(given), and what else `apply` gives; both 0 for clips that are not `kept`.

    apply: `(given) -> (raw values, others)`.
    """
    if kept is not None:
        keep = functools.partial(_where, kept)
        base, given = keep(base), keep(given)
    raw, others = apply(jax.lax.stop_gradient(given))
    return jax.lax.stop_gradient(base) + raw, others


def _where(kept, x):
    return jnp.where(kept.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)
