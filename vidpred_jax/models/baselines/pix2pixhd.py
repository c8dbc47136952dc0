"""pix2pixHD (Wang et al. 2018), the paper's baseline for the translator: fusion picture -> RGB frame.

Its global generator and its discriminators at several scales, from the text of that paper; the
local enhancer (for 2048 x 1024) and the VGG loss (weights that we do not have) are left out.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models.layers import NORMS, Conv, Norm
from vidpred_jax.models.translator import PatchDiscriminator
from vidpred_jax.types import CONTEXT


class Pix2PixHD(nn.Module):
    """The global generator: halvings, residual blocks at the lowest resolution, doublings.

    width: features at full resolution, doubled at each of `levels` halvings. blocks: residual blocks.
    reference_frames: 0 is the original; n also shows the last n observed frames, as `Generator` does.
    """

    width: int = 64
    levels: int = 4
    blocks: int = 9
    norm: str = "instance"
    reference_frames: int = 0
    axis_name: str | None = None
    dtype: Any = jnp.float32
    needs_fusion = True  # At the size of its fusion pictures alone.

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        if self.norm not in NORMS:
            raise ValueError(f"model.norm ({self.norm!r}) must be one of {NORMS}")
        if self.width < 1 or not 0 <= self.levels <= 8:
            raise ValueError(
                f"model.width ({self.width}) must be 1 or more, model.levels ({self.levels}) 0 to 8"
            )
        if not 0 <= self.reference_frames <= CONTEXT:
            raise ValueError(
                f"model.reference_frames ({self.reference_frames}) must be 0 to {CONTEXT}"
            )
        space = 2**self.levels
        if height % space or width % space:
            raise ValueError(f"picture size ({height} x {width}) must be a multiple of {space}")

    @nn.compact
    def __call__(
        self,
        fusion: Float[Array, "b t h w 3"],
        references: Float[Array, "b {self.reference_frames} h w 6"],
        ahead: Float[Array, "b t"],
        train: bool = False,
    ) -> Float[Array, "b t h w 3"]:
        """As `translator.Generator`."""
        b, t, h, w, _ = fusion.shape
        x = fusion.reshape(b * t, h, w, 3)
        if self.reference_frames:
            seen = references.transpose(0, 2, 3, 1, 4).reshape(b, h, w, -1)
            far = jnp.broadcast_to((ahead / 16 - 1).reshape(b * t, 1, 1, 1), (b * t, h, w, 1))
            x = jnp.concatenate([x, jnp.repeat(seen, t, 0), far], -1)

        def layer(x, features, name, size=3, **fields):
            x = Conv(features, (size, size), dtype=self.dtype, name=name, **fields)(x)
            return Norm(self.norm, self.axis_name, self.dtype, name=f"{name}_norm")(x, train)

        x = nn.relu(layer(x.astype(self.dtype), self.width, "first", 7))
        for level in range(1, self.levels + 1):
            x = nn.relu(layer(x, self.width * 2**level, f"down_{level}", stride=2))
        for block in range(self.blocks):
            y = nn.relu(layer(x, x.shape[-1], f"block_{block}_0"))
            x = x + layer(y, x.shape[-1], f"block_{block}_1")
        for level in reversed(range(self.levels)):
            x = nn.relu(layer(x, self.width * 2**level, f"up_{level}", upsample=True))
        x = Conv(3, (7, 7), dtype=self.dtype, name="paint")(x).astype(jnp.float32)
        return jnp.tanh(x).reshape(b, t, h, w, 3)


class MultiScaleDiscriminator(nn.Module):
    """A PatchDiscriminator at each of `scales` resolutions, every one half of the one before."""

    scales: int = 2
    widths: tuple[int, ...] = (64, 128, 256)
    last_width: int = 512
    norm: str = "instance"
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def check(self) -> None:
        """Raises ValueError if a field has no meaning."""
        if not 1 <= self.scales <= 8:
            raise ValueError(f"discriminator.scales ({self.scales}) must be 1 to 8")
        self._patches(0, parent=None).check()

    def _patches(self, scale, **fields):
        name = None if "parent" in fields else f"scale_{scale}"
        return PatchDiscriminator(
            self.widths, self.last_width, self.norm, self.axis_name, self.dtype, name=name, **fields
        )

    def __call__(self, condition, frame, train: bool = True):
        return self.activations(condition, frame, train)

    @nn.compact
    def activations(
        self, condition: Float[Array, "b h w _"], frame: Float[Array, "b h w c"], train: bool = True
    ) -> list[list[jax.Array]]:
        """For each scale what every layer gives, logits (b, h', w') last."""
        found = []
        for scale in range(self.scales):
            if scale:
                half = lambda x: nn.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False)
                condition, frame = half(condition), half(frame)
            found += self._patches(scale).activations(condition, frame, train)
        return found
