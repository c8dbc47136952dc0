"""Proposal `flow_blend`: frames as a softmax blend of observed frames, moved and blurred (ours)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from vidpred_jax.ops import nearest_warp, warp
from vidpred_jax.proposals import backtest, candidates
from vidpred_jax.proposals.candidates import NUM_CANDIDATES
from vidpred_jax.proposals.flow import check_levels
from vidpred_jax.proposals.forecast import Forecast, Window, confidence
from vidpred_jax.proposals.gates import Gates
from vidpred_jax.types import HORIZON


@struct.dataclass
class Observations:
    """The candidates of a window, and its newest edges and labels."""

    candidates: backtest.Observations
    edges: Float[Array, "b h w 1"]
    labels: Float[Array, "b h w 1"]


class FlowBlend(nn.Module):
    """A blend of 28 candidate frames (`candidates.py`), for clips of any kind.

    The larger a candidate's error in the window itself (`backtest.py`), the smaller its gate (`gates.py`):
    so it works on clips unlike those it was fitted on. Steps beyond 32 are blended as step 32. Edges and
    labels are those of the newest frame, moved along the mean displacement.

    flow_levels: pyramid levels of the flows (`flow.track`). clarity: 0 gives this blend, the most accurate
    mean of what may come; 1 one clear future, the newest frame moved along the mean displacement of the
    candidates without blur, which dies out as fast as motion did within the window; its coarse parts are
    drawn to the mean's. Between them both are mixed: the best trade-offs of accuracy and clarity lie on a
    straight line (Blau and Michaeli 2018; Freirich et al. 2021).
    """

    flow_levels: int = 5
    clarity: float = 0.0

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit frames of height x width."""
        if not 1 <= self.flow_levels <= 16:
            raise ValueError(f"model.flow_levels ({self.flow_levels}) must be 1 to 16")
        check_levels(self.flow_levels, height, width, "model.flow_levels")

    def setup(self):
        self.gates = Gates()

    def __call__(self, window: Window, steps_ahead: Float[Array, "b t"]) -> Forecast:
        return self.propose(self.observe(window), steps_ahead)

    def observe(self, window: Window) -> Observations:
        """What the observed frames alone determine, for all steps."""
        frames = window.frames.astype(jnp.float32)
        # Nothing here has parameters, and tracing it takes a second.
        blank = self.is_initializing()
        found = backtest.blank(frames) if blank else backtest.observe(frames, self.flow_levels)
        labels = window.labels[:, -1, ..., None].astype(jnp.float32)
        return Observations(found, window.edges[:, -1, ..., None], labels)

    def propose(self, observations: Observations, steps_ahead: Float[Array, "b t"]) -> Forecast:
        """The forecast at some steps after the window."""
        seen = observations.candidates
        displacements = candidates.extrapolate_all(seen.flows, steps_ahead)
        gates = self.gates(jnp.minimum(steps_ahead, HORIZON), seen.errors)
        errors = jnp.exp(seen.errors["place"]).mean(1)
        rate = candidates.slowing(seen.errors["frame"][:, -1, :, 0, 0])

        def blend(displacements, gates, steps_ahead):
            layers = candidates.move(seen.newest, displacements, steps_ahead)
            layers += [seen.still[:, i] for i in range(seen.still.shape[1])]
            shares = jax.nn.softmax(gates, 1)
            # Written out: XLA:CPU's own sum takes several times as long.
            frames = sum(shares[:, i, None] * layer for i, layer in enumerate(layers))
            flow = candidates.mean_displacement(displacements, steps_ahead, shares)
            return jnp.moveaxis(frames, 1, -1), flow, shares

        def clear(displacements, gates, steps_ahead):
            shares = candidates.clear_shares(gates)
            return *candidates.clear(seen.newest, displacements, steps_ahead, shares, rate), shares

        def mix(step):  # One step at a time: what it reads and writes stays in the cache.
            found = blend(*step)
            if self.clarity:
                frame, *others = clear(*step)
                one = candidates.with_coarse_of(found[0], frame), *others
                found = jax.tree.map(lambda mean, one: mean + self.clarity * (one - mean), found, one)
            frames, flow, shares = found
            edges = warp(observations.edges, flow)[..., 0]
            labels = nearest_warp(observations.labels, flow)[..., 0].astype(jnp.int32)
            # The error of a blend is at most the mean of its layers' errors.
            own = sum(shares[:, i] * errors[:, i] for i in range(NUM_CANDIDATES))
            trust = confidence(own, errors[:, candidates.COPY])
            return frames, edges, labels, trust

        by_step = jax.tree.map(lambda x: x.swapaxes(0, 1), (displacements, gates, steps_ahead))
        return Forecast(*(x.swapaxes(0, 1) for x in jax.lax.map(mix, by_step)))
