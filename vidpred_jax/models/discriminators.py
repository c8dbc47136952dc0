"""Discriminators of the conditional GAN: condition and frame -> logits."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models.layers import NORMS, Conv, Norm


class PatchDiscriminator(nn.Module):
    """Condition and frame -> patch logits; by default a receptive field of 47 pixels.

    After the notebook beside the paper, with the activation its first layer lacks. norm: as of the
    networks, or `spectral`: every kernel divided by its largest singular value (Miyato et al. 2018).
    """

    widths: tuple[int, ...] = (32, 64, 128)
    last_width: int = 256
    norm: str = "batch"
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def check(self) -> None:
        """Raises ValueError if a field has no meaning."""
        if self.norm not in (known := (*NORMS, "spectral")):
            raise ValueError(f"discriminator.norm ({self.norm!r}) must be one of {known}")

    @nn.compact
    def __call__(
        self, condition: Float[Array, "b h w _"], frame: Float[Array, "b h w c"], train: bool = True
    ) -> list[list[jax.Array]]:
        """For its one scale the output of each layer, the logits (b, h', w') last."""
        x, features = jnp.concatenate([condition, frame], -1).astype(self.dtype), []
        for level, width in enumerate((*self.widths, self.last_width)):
            stride = 2 if level < len(self.widths) else 1
            x = self._conv(x, width, f"down_{level}", train, stride=stride)
            if level and self.norm != "spectral":
                x = Norm(self.norm, self.axis_name, self.dtype, name=f"norm_{level}")(x, train)
            x = nn.leaky_relu(x, 0.2)
            features.append(x)
        logits = self._conv(x, 1, "logits", train)[..., 0]
        return [[*features, logits.astype(jnp.float32)]]

    def _conv(self, x, width, name, train, **fields):
        conv = Conv(width, (3, 3), dtype=self.dtype, name=name, **fields)
        if self.norm != "spectral":
            return conv(x)
        return nn.SpectralNorm(conv, name=f"{name}_norm")(x, update_stats=train)


class MultiScaleDiscriminator(nn.Module):
    """A PatchDiscriminator at each of `scales` resolutions, each half the one before (pix2pixHD)."""

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

    @nn.compact
    def __call__(
        self, condition: Float[Array, "b h w _"], frame: Float[Array, "b h w c"], train: bool = True
    ) -> list[list[jax.Array]]:
        """For each scale the output of each layer, the logits (b, h', w') last."""
        outputs = []
        for scale in range(self.scales):
            if scale:
                half = lambda x: nn.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False)
                condition, frame = half(condition), half(frame)
            outputs += self._patches(scale)(condition, frame, train)
        return outputs
