"""Linen layers shared by the networks: convolution and normalisation."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models import convolution

FUSION_NORMS = ("group", "none")
NORMS = ("batch", "instance", *FUSION_NORMS)


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
    """Batch (synchronised over `axis_name`), group, instance or no normalisation; float32 statistics."""

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
            return GroupNorm(_num_groups(x.shape[-1]), self.dtype)(x)
        if self.kind == "instance":
            return GroupNorm(x.shape[-1], self.dtype)(x)
        return x


class GroupNorm(nn.Module):
    """As Flax's; channels are summed before groups, which on a CPU is several times faster."""

    num_groups: int
    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "b *thw c"]) -> Float[Array, "b *thw c"]:
        b, features = x.shape[0], x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (features,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (features,), jnp.float32)
        places = x.reshape(b, -1, features).astype(jnp.float32)

        def mean(values):  # Over places and groups: (b, num_groups, 1).
            groups = values.mean(1).reshape(b, self.num_groups, -1)
            return groups.mean(-1, keepdims=True)

        center = mean(places)
        variance = jnp.maximum(mean(jnp.square(places)) - jnp.square(center), 0.0)
        factor = jax.lax.rsqrt(variance + self.epsilon) * scale.reshape(self.num_groups, -1)
        offset = bias.reshape(self.num_groups, -1) - center * factor
        each = (b, *[1] * (x.ndim - 2), features)
        return (x * factor.reshape(each) + offset.reshape(each)).astype(self.dtype)


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
