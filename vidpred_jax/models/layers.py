"""Linen layers shared by the networks: convolution and normalisation."""

import functools
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
        factor = jax.lax.rsqrt(variance + 1e-6) * scale.reshape(self.num_groups, -1)
        offset = bias.reshape(self.num_groups, -1) - center * factor
        each = (b, *[1] * (x.ndim - 2), features)
        return (x * factor.reshape(each) + offset.reshape(each)).astype(self.dtype)


class ConvBlock(nn.Module):
    """Conv, norm, SiLU; keeps t, h and w."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w {self.features}"]:
        x = Conv(self.features, (3, 3, 3), use_bias=False, dtype=self.dtype)(x)
        return nn.silu(Norm("group", dtype=self.dtype)(x))


class GatedShiftBlock(nn.Module):
    """Norm, shift, expansion to twice the features, half of which gate the others, shift, back: added to x.

    Where products of features are formed, what a thing looks like can be moved by how fast it is; a shift
    before a product of one place costs a ninth of a 3 x 3 convolution (Wu et al. 2018). reach: of `shift`.
    """

    features: int
    reach: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        conv = lambda n, name, scale: Conv(n, (1,) * 3, scale=scale, dtype=self.dtype, name=name)
        y = shift(Norm("group", dtype=self.dtype)(x), self.reach)
        y, gate = jnp.split(conv(2 * self.features, "expand", 1.0)(y), 2, -1)
        y = shift(y * nn.silu(gate), self.reach)
        return x + conv(self.features, "reduce", 1.0)(y)


# Neighbours in t, h and w: those of a frame, and the frames before and after.
_NEIGHBOURS = (*((0, i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j), *((-1, 0, 0), (1, 0, 0)))


def shift(x: Float[Array, "b t h w c"], reach: int = 1) -> Float[Array, "b t h w c"]:
    """Some channels from each neighbour, `reach` places away in h and w and one in t; zeros beyond the
    edges. The first channels, a third or more, stay.
    """
    return _shift(x, reach, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _shift(x, reach, way):
    t, h, w, c = x.shape[1:]
    neighbours = _NEIGHBOURS if t > 1 else _NEIGHBOURS[:8]
    each = max(c // (len(neighbours) + 4), 1)
    neighbours = neighbours[: c // each]
    kept = c - each * len(neighbours)
    padded = jnp.pad(x, ((0, 0), (1, 1), (reach,) * 2, (reach,) * 2, (0, 0)))
    parts = [x[..., :kept]]
    for i, (dt, dh, dw) in enumerate(neighbours):
        begin = 1 + way * dt, reach * (1 + way * dh), reach * (1 + way * dw)
        at = [slice(start, start + n) for start, n in zip(begin, (t, h, w), strict=True)]
        parts.append(padded[:, *at, kept + i * each : kept + (i + 1) * each])
    return jnp.concatenate(parts, -1)


# Its gradient is the shift back, which XLA does not see in a sum of padded pieces.
_shift.defvjp(
    lambda x, reach, way: (_shift(x, reach, way), None),
    lambda reach, way, _, gradient: (_shift(gradient, reach, -way),),
)


def _num_groups(channels: int) -> int:
    """The most groups up to 8 that divide `channels`."""
    return next(n for n in range(min(8, channels), 0, -1) if channels % n == 0)
