"""What every proposal is given and gives: a window of observed frames, and a forecast of those to come."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

_SMALL = 1e-4  # Added to squared errors, summed over channels in [-1, 1].


@struct.dataclass
class Window:
    """Observed frames in [-1, 1], their edges (0 to 1) and labels (0: background)."""

    frames: Float[Array, "b n h w 3"]
    edges: Float[Array, "b n h w"]
    labels: Int[Array, "b n h w"]

    def until(self, end: int) -> "Window":
        """Its first frames; a negative end counts from the last."""
        return jax.tree.map(lambda x: x[:, :end], self)


@struct.dataclass
class Forecast:
    """Frames in [-1, 1], edges (0 to 1) and labels of coming steps. confidence: 0 to 1, how far the same
    proposal, made some frames ago, was right about the frames that followed: see `confidence`.
    """

    frames: Float[Array, "b t h w 3"]
    edges: Float[Array, "b t h w"]
    labels: Int[Array, "b t h w"]
    confidence: Float[Array, "b t h w"]


def confidence(error: Float[Array, "*b"], copied: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The confidence that a backtest leaves in a proposal: 1 where it was right, 0.5 where no better than a
    copy of the last frame. No gradient.

    error, copied: squared errors, summed over channels, of the proposal and of the copy.
    """
    return jax.lax.stop_gradient((copied + _SMALL) / (error + copied + 2 * _SMALL))


def merge(forecasts: Sequence[Forecast]) -> Forecast:
    """One forecast of several: at each pixel frames and edges are averaged by the odds of their
    confidence, and the label is that of the most confident. One alone is given back as it is.
    """
    if len(forecasts) == 1:
        return forecasts[0]
    every = lambda field: jnp.stack([getattr(forecast, field) for forecast in forecasts])
    trust = every("confidence")
    odds = trust / (1 - trust + _SMALL)
    odds /= odds.sum(0)
    best = jnp.argmax(odds, 0)[None]
    return Forecast(
        frames=(odds[..., None] * every("frames")).sum(0),
        edges=(odds * every("edges")).sum(0),
        labels=jnp.take_along_axis(every("labels"), best, 0)[0],
        confidence=trust.max(0),
    )
