"""The two U-Net bodies, 3-D and 2-D: input to features; what is made of them stands with each network."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models import convolution
from vidpred_jax.models.layers import Conv, ConvBlock, GatedShiftBlock, Norm

BLOCKS = ("conv", "gated")
_REACH = (1, 2, 4)  # Of one gated block after the other.


class UNet3d(nn.Module):
    """Features of a clip, at the resolution it is given in.

    widths: per level; every level but the last is followed by a halving of h and w and, where
    `time_strides` says 2, of t. blocks: at each level on either side. block: their kind, `conv` (ConvBlock)
    or `gated` (GatedShiftBlock). remat: whether blocks are computed again in the backward pass instead of
    kept: less memory.
    """

    widths: tuple[int, ...]
    blocks: int
    time_strides: tuple[int, ...]
    block: str = "conv"
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w _"]) -> Float[Array, "b t h w {self.widths[0]}"]:
        conv = lambda level, name: Conv(self.widths[level], (1,) * 3, dtype=self.dtype, name=name)
        skips, last = [], len(self.widths) - 1
        for level in range(last + 1):
            x = self._blocks(x, level, "down")
            if level < last:
                skips.append(x)
                x = convolution.space_to_depth(x, 2, self.time_strides[level])
                x = conv(level + 1, f"halve_{level}")(x)
        for level in reversed(range(last)):
            x = convolution.upsample(conv(level, f"double_{level}")(x), self.time_strides[level])
            x = conv(level, f"join_{level}")(jnp.concatenate([x, skips[level]], -1))
            x = self._blocks(x, level, "up")
        return x

    def _blocks(self, x, level, name):
        kind = GatedShiftBlock if self.block == "gated" else ConvBlock
        kind = nn.remat(kind) if self.remat else kind
        for i in range(self.blocks):
            fields = {"dtype": self.dtype, "name": f"{name}_{level}_{i}"}
            if self.block == "gated":
                fields["reach"] = _REACH[i % len(_REACH)]
            x = kind(self.widths[level], **fields)(x)
        return x


class UNet2d(nn.Module):
    """Features of pictures at half their resolution, after the notebook beside the paper.

    widths: after each halving (kernel 3, stride 2). dropout: rate on the first three doublings.
    axis_name: of the devices over which batch statistics are taken.
    """

    widths: tuple[int, ...]
    dropout: float = 0.0
    norm: str = "batch"
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w _"], train: bool = False) -> Float[Array, "n _ _ _"]:
        def norm(x, name):
            return Norm(self.norm, self.axis_name, self.dtype, name=name)(x, train)

        skips, levels = [], len(self.widths)
        for level, features in enumerate(self.widths):
            x = Conv(features, (3, 3), stride=2, dtype=self.dtype, name=f"down_{level}")(x)
            x = nn.leaky_relu(norm(x, f"down_norm_{level}") if level else x, 0.2)
            skips.append(x)
        for level in reversed(range(levels - 1)):
            features = self.widths[level]
            x = Conv(features, (3, 3), upsample=True, dtype=self.dtype, name=f"up_{level}")(x)
            x = norm(x, f"up_norm_{level}")
            if self.dropout and level >= levels - 4:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = jnp.concatenate([nn.relu(x), skips[level]], -1)
        return x
