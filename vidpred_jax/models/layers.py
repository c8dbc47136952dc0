"""Linen layers shared by the networks: convolution, normalisation and the warp head."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models import convolution

FUSION_NORMS = ("group", "none")
NORMS = ("batch", *FUSION_NORMS)


class Conv(nn.Module):
    """SAME convolution, 2-D or 3-D by the length of `kernel`; parameters float32, compute `dtype`.

    `upsample` doubles h and w (nearest neighbour) before a 3 x 3 convolution. `scale` multiplies
    the initial weights.
    """

    features: int
    kernel: tuple[int, ...]
    stride: int = 1
    use_bias: bool = True
    upsample: bool = False
    scale: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, " b *thw c"]) -> Float[Array, " b *_ {self.features}"]:
        shape = (*self.kernel, x.shape[-1], self.features)
        init = nn.initializers.variance_scaling(self.scale**2, "fan_in", "truncated_normal")
        kernel = self.param("kernel", init, shape, jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = (
            convolution.upsample_conv(x, kernel)
            if self.upsample
            else convolution.conv(x, kernel, self.stride)
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            x = x + bias.astype(self.dtype)
        return x


class Norm(nn.Module):
    """Batch (synchronised over `axis_name`), group or no normalisation; statistics in float32."""

    kind: str
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], train: bool = False) -> Float[Array, "*b c"]:
        if self.kind == "batch":
            return nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                axis_name=self.axis_name if train else None,
                dtype=self.dtype,
            )(x)
        if self.kind == "group":
            return nn.GroupNorm(num_groups=_num_groups(x.shape[-1]), dtype=self.dtype)(x)
        return x


class ConvBlock(nn.Module):
    """Conv, norm, SiLU; keeps t, h and w."""

    features: int
    kernel: tuple[int, ...] = (3, 3, 3)
    norm: str = "group"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, " b *thw c"]) -> Float[Array, " b *thw {self.features}"]:
        x = Conv(self.features, self.kernel, use_bias=self.norm == "none", dtype=self.dtype)(x)
        return nn.silu(Norm(self.norm, dtype=self.dtype)(x))


def _num_groups(channels: int) -> int:
    """The most groups up to 8 that divide `channels`."""
    return next(n for n in range(min(8, channels), 0, -1) if channels % n == 0)


def composite(
    source: Float[Array, "b h w c"],
    painted: Float[Array, "b h w p c"],
    gates: Float[Array, "b h w k"],
    motion: Float[Array, "b hm wm _"],
) -> Float[Array, "b h w c"]:
    """`source` moved along flows, and `painted` layers, blended by a softmax over `gates`.

    motion holds k - p flows (dy, dx), in pixels of the source, at any resolution. Ours; after the
    compositing masks of Finn et al. 2016.
    """
    b, h, w, _ = source.shape
    motion = jax.image.resize(motion, (b, h, w, motion.shape[-1]), "linear")
    moved = [warp(source, motion[..., i : i + 2]) for i in range(0, motion.shape[-1], 2)]
    layers = jnp.concatenate([jnp.stack(moved, -2), painted], -2)
    return (layers * jax.nn.softmax(gates, -1)[..., None]).sum(-2)


def warp(
    picture: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"]
) -> Float[Array, "b h w c"]:
    """Backward warp: out(y, x) = picture((y, x) + flow(y, x)), bilinear, border replicated.

    flow is in pixels, (dy, dx). The gradient reaches the flow and the picture.
    """
    _, height, width, _ = picture.shape
    y = jnp.clip(jnp.arange(height)[:, None] + flow[..., 0], 0, height - 1)
    x = jnp.clip(jnp.arange(width) + flow[..., 1], 0, width - 1)
    top = jnp.clip(jnp.floor(y), 0, max(height - 2, 0)).astype(jnp.int32)
    left = jnp.clip(jnp.floor(x), 0, max(width - 2, 0)).astype(jnp.int32)
    dy, dx = (y - top)[..., None], (x - left)[..., None]

    def at(rows, columns):
        gather = jax.vmap(lambda image, r, c: image[r, c])
        return gather(picture, jnp.minimum(rows, height - 1), jnp.minimum(columns, width - 1))

    upper = at(top, left) * (1 - dx) + at(top, left + 1) * dx
    lower = at(top + 1, left) * (1 - dx) + at(top + 1, left + 1) * dx
    return upper * (1 - dy) + lower * dy
