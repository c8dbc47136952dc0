"""Scene state of observed fusion pictures, and the pictures that it is extrapolated to.

Tracked objects and a background mosaic are estimated once from the context and extrapolated over the
rollout; fed-back predictions do not change them.
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from vidpred_jax.data.fusion import PALETTE, to_float
from vidpred_jax.models.scene import background, tracking
from vidpred_jax.models.scene.trajectories import Pan, Rotation, Trajectories

_ERROR_FRAMES = 3  # Future pictures that trajectories are compared with.


@struct.dataclass
class Scene:
    """Objects, one for each label, and the edges of the background behind them."""

    objects: tracking.Objects
    background: background.Background


def observe(clip: Float[Array, "b t h w 3"], num_labels: int) -> Scene:
    """The scene of 4 or more fusion pictures; num_labels counts the background. No gradient."""
    objects = tracking.observe(clip, num_labels)
    return Scene(objects, background.observe_edges(clip, num_labels))


class SceneRenderer(nn.Module):
    """Renders fusion pictures of an extrapolated scene, objects and background moved as wholes (ours).

    So they neither fade nor fray. Fourteen parameters are learned (see `trajectories.py`).
    """

    def setup(self):
        self.objects, self.rotation, self.background = Trajectories(), Rotation(), Pan()

    def __call__(
        self, scene: Scene, steps_ahead: Float[Array, "b t"], size: tuple[int, int]
    ) -> Float[Array, "b t {size[0]} {size[1]} 3"]:
        """Clean pictures of a size, `steps_ahead` frames after the scene was observed. No gradient.

        Objects are drawn over the edges of the background, later labels over earlier ones. What enters at
        the border is background without edges.
        """
        trajectory = self.objects(*scene.objects.motion, steps_ahead, size)
        angle = self.rotation(scene.objects.rotation, scene.objects.age, steps_ahead)
        plain, white = scene.objects.render(trajectory, angle)
        edges = scene.background.edges(self.background(scene.background.pans, steps_ahead))
        colors = to_float(jnp.asarray(PALETTE[: len(plain) + 1])) + 1  # Above black.
        channels = []
        for channel in range(3):
            picture = jnp.where(edges, 2.0, colors[0, channel])
            for color, a, b in zip(colors[1:, channel], plain, white, strict=True):
                picture = picture * (1 - a - b) + a * color + 2 * b
            channels.append(picture)
        return jnp.stack(channels, -1) - 1

    def trajectory_error(
        self, scene: Scene, future: Float[Array, "b n h w 3"]
    ) -> Float[Array, " b"]:
        """Distance of the extrapolated objects and background from those of the future pictures.

        It is the loss of the trajectories' parameters, which the pictures give no gradient.
        """
        (b, n), size = future.shape[:2], future.shape[2:4]
        frames = np.unique(np.linspace(1, n, _ERROR_FRAMES).round().astype(int))
        steps_ahead = jnp.tile(jnp.asarray(frames, jnp.float32), (b, 1))
        trajectory = self.objects(*scene.objects.motion, steps_ahead, size)
        error = tracking.trajectory_error(trajectory, scene.objects, future[:, frames - 1])
        angle = self.rotation(scene.objects.rotation, scene.objects.age, steps_ahead)
        error += tracking.rotation_error(angle[..., -1] - angle[..., 0], scene.objects, future)
        pan = self.background(scene.background.pans, steps_ahead)
        num_labels = trajectory.shape[1] + 1
        return error + background.pan_error(pan[:, -1] - pan[:, 0], future, num_labels)
