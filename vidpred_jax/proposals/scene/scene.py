"""Proposal `scene`: tracked objects and a background mosaic, each moved on as a whole (ours)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from vidpred_jax.ops import blur_planes
from vidpred_jax.proposals.forecast import Forecast, Window, confidence
from vidpred_jax.proposals.scene import background, matting, tracking
from vidpred_jax.proposals.scene.trajectories import Pan, Rotation, Trajectories

_LEAST_FRAMES = 4  # That a scene is observed in.
_BACKTEST = 4  # Frames ago.
_WIDTH = 10  # Sigma of the backtest's local means: the lesser side divided by it.
_ERROR_FRAMES = 3  # Future frames that trajectories are compared with.


@struct.dataclass
class State:
    """Objects, one for each label, their pixels (`matting.cut_out`), the background's edges and frames."""

    objects: tracking.Objects
    cutouts: Float[Array, "b k 4 h w"]
    edges: background.Background
    frames: background.Background


@struct.dataclass
class Observations:
    """The scene of a window, and the confidence that its backtest leaves."""

    state: State
    confidence: Float[Array, "b h w"]


class Scene(nn.Module):
    """One object for each label, tracked through the window, over a background that pans.

    The state is estimated once from the context; each object keeps its shape and its pixels, moves on
    along its trajectory, reflected near the border, and turns on; the background pans on. 14 numbers are
    learned: how far to trust which velocity, and how fast each decays (`trajectories.py`). A background
    that was never seen is a blur of what was; what enters at the border has no edges.

    num_labels: of the data set, background included.
    """

    num_labels: int = 4

    def setup(self):
        self.objects, self.rotation, self.pan = Trajectories(), Rotation(), Pan()

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if a field has no meaning."""
        if not 2 <= self.num_labels <= 256:
            raise ValueError(f"the data's number of labels ({self.num_labels}) must be 2 to 256")

    def __call__(self, window: Window, steps_ahead: Float[Array, "b t"]) -> Forecast:
        return self.propose(self.observe(window), steps_ahead)

    def observe(self, window: Window) -> Observations:
        """What is computed once for all steps; the confidence depends on the learned numbers."""
        return Observations(self._scene_of(window), self._backtest(window))

    def propose(self, observations: Observations, steps_ahead: Float[Array, "b t"]) -> Forecast:
        """The forecast at some steps after the window. The gradient reaches its frames alone."""
        state, size = observations.state, observations.confidence.shape[1:]
        frames, trajectory, angle = self._draw(state, steps_ahead)
        edges = state.edges.edges(self.pan(state.edges.pans, steps_ahead))
        labels = jnp.zeros(edges.shape, jnp.int32)
        for label, (inside, outline) in enumerate(
            zip(*state.objects.render(trajectory, angle), strict=True), 1
        ):
            labels = jnp.where(inside, label, labels)
            edges = edges & ~inside | outline
        trust = jnp.broadcast_to(observations.confidence[:, None], (*steps_ahead.shape, *size))
        return Forecast(frames, edges.astype(jnp.float32), labels, trust)

    def fit_error(self, observations: Observations, future: Window) -> Float[Array, " b"]:
        """Distance of extrapolated objects, rotations and background from those of the frames that followed,
        in picture sides: a loss that reaches far where frames give no gradient.
        """
        state, (b, n) = observations.state, future.labels.shape[:2]
        frames = np.unique(np.linspace(1, n, _ERROR_FRAMES).round().astype(int))
        steps_ahead = jnp.tile(jnp.asarray(frames, jnp.float32), (b, 1))
        size = future.labels.shape[2:]
        trajectory = self.objects(*state.objects.motion, steps_ahead, size)
        error = tracking.trajectory_error(trajectory, state.objects, future.labels[:, frames - 1])
        angle = self.rotation(state.objects.rotation, state.objects.age, steps_ahead)
        turned = angle[..., -1] - angle[..., 0]
        error += tracking.rotation_error(turned, state.objects, future.labels)
        pan = self.pan(state.edges.pans, steps_ahead)
        panned = pan[:, -1] - pan[:, 0]
        return error + background.pan_error(panned, future.edges, future.labels, self.num_labels)

    def _scene_of(self, window):
        edges, labels, frames = window.edges, window.labels, window.frames
        objects = tracking.observe(edges, labels, self.num_labels)
        mosaic = background.observe_frames(frames, labels, self.num_labels)
        return State(
            objects=objects,
            cutouts=matting.cut_out(frames, labels, objects, mosaic),
            edges=background.observe_edges(edges, labels, self.num_labels),
            frames=mosaic,
        )

    def _draw(self, state, steps_ahead):
        """Frames, and the objects' trajectories and angles in them."""
        objects, size = state.objects, state.cutouts.shape[-2:]
        trajectory = self.objects(*objects.motion, steps_ahead, size)
        angle = self.rotation(objects.rotation, objects.age, steps_ahead)
        behind = state.frames.frames(self.pan(state.frames.pans, steps_ahead))
        return matting.draw(state.cutouts, objects, trajectory, angle, behind), trajectory, angle

    def _backtest(self, window):
        """Confidence (b, h, w): the scene of some frames ago against what followed, averaged nearby."""
        b, n, h, w = window.labels.shape
        ago = min(_BACKTEST, n - _LEAST_FRAMES)
        if ago < 1:
            return jnp.full((b, h, w), 0.5)
        window = jax.lax.stop_gradient(window)
        steps_ahead = jnp.tile(jnp.arange(1.0, ago + 1), (b, 1))
        found, _, _ = self._draw(self._scene_of(window.until(-ago)), steps_ahead)
        truth, copied = window.frames[:, -ago:], window.frames[:, -ago - 1, None]
        error, naive = (jnp.square(x - truth).sum(-1).mean(1) for x in (found, copied))
        sigma = min(h, w) / _WIDTH
        return confidence(blur_planes(error, sigma), blur_planes(naive, sigma))
