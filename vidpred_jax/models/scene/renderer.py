"""What is remembered of observed fusion pictures however often they are fed back, and how it goes on."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from vidpred_jax.data.fusion import PALETTE, to_float
from vidpred_jax.models.scene import background, tracking
from vidpred_jax.models.scene.trajectories import Pan, Rotation, Trajectories

_ERROR_AT = 3  # Coming pictures in which paths are held against them.


@struct.dataclass
class Scene:
    """Objects, one for each label, and the edges of the background behind them."""

    objects: tracking.Objects
    background: background.Background


def observe(clip: Float[Array, "b t h w 3"], labels: int) -> Scene:
    """Those of fusion pictures, labels counting the background. No gradient reaches them."""
    return Scene(tracking.observe(clip, labels), background.observe_edges(clip, labels))


class SceneRenderer(nn.Module):
    """The fusion pictures to which a scene goes on: objects and background, each moved whole (ours).

    What is moved whole neither fades nor frays. Fourteen numbers are learned (see `paths.py`).
    """

    def setup(self):
        self.objects, self.rotation, self.background = Trajectories(), Rotation(), Pan()

    def __call__(
        self, scene: Scene, ahead: Float[Array, "b t"], size: tuple[int, int]
    ) -> Float[Array, "b t {size[0]} {size[1]} 3"]:
        """Clean pictures `ahead` frames after the scene was observed, of size. No gradient.

        Objects are drawn over the edges of the background, later labels over earlier ones; what comes
        in at the border is background without edges.
        """
        path = self.objects(*scene.objects.start, ahead, size)
        angle = self.rotation(scene.objects.rotation, scene.objects.age, ahead)
        plain, white = scene.objects.moved(path, angle)
        edges = scene.background.edges(self.background(scene.background.pans, ahead))
        colors = to_float(jnp.asarray(PALETTE[: len(plain) + 1])) + 1  # Above black.
        channels = []
        for channel in range(3):
            shown = jnp.where(edges, 2.0, colors[0, channel])
            for color, a, b in zip(colors[1:, channel], plain, white, strict=True):
                shown = shown * (1 - a - b) + a * color + 2 * b
            channels.append(shown)
        return jnp.stack(channels, -1) - 1

    def error(self, scene: Scene, coming: Float[Array, "b n h w 3"]) -> Float[Array, " b"]:
        """How far from the objects and the background of the pictures that followed the paths lead: the
        loss of their numbers, which the pictures give no gradient.
        """
        (b, n), size = coming.shape[:2], coming.shape[2:4]
        frames = np.unique(np.linspace(1, n, _ERROR_AT).round().astype(int))
        ahead = jnp.tile(jnp.asarray(frames, jnp.float32), (b, 1))
        path = self.objects(*scene.objects.start, ahead, size)
        error = tracking.trajectory_error(path, scene.objects, coming[:, frames - 1])
        angle = self.rotation(scene.objects.rotation, scene.objects.age, ahead)
        error += tracking.rotation_error(angle[..., -1] - angle[..., 0], scene.objects, coming)
        pan = self.background(scene.background.pans, ahead)
        labels = path.shape[1] + 1
        return error + background.trajectory_error(pan[:, -1] - pan[:, 0], coming, labels)
