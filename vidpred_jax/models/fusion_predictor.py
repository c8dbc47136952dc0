"""Stage 1: the fusion prediction generator, a U-Net of 3-D convolutions."""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.data.sizes import check_multiple
from vidpred_jax.models import convolution
from vidpred_jax.models.fields import require
from vidpred_jax.models.layers import Conv, Norm
from vidpred_jax.models.unet import BLOCKS, UNet3d


class FusionPredictor(nn.Module):
    """`context` maps in, raw values of `outputs` maps out, which are those of `shift` frames later.

    shift 1 is the paper's (inferred). A larger one predicts a block of frames at once, which may be
    longer than the context.

    widths, blocks, time_strides, block, remat: as of `unet.UNet3d`.
    patch, time_patch: a stem that folds blocks of the input into channels (1: none).
    frame_features: of an encoder and a decoder of single frames, the same for all, around what is folded in
        time; 0: none. They learn what things look like from every frame.
    outputs: how many output maps are computed, counted from the last; 0 for `context` (the paper), or
        shift if that is more. As many as shift: only those that are not in the input, the cheapest.
    context: observed frames, 4 to 32. Where they are not a multiple of the time patch and strides, zeros
        are put in front, and one more input channel is 1 for observed frames and 0 for these.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    patch: int = 1
    time_patch: int = 1
    time_strides: tuple[int, ...] = (2, 2)
    shift: int = 1
    outputs: int = 0
    block: str = "conv"
    frame_features: int = 0
    remat: bool = False
    context: int = 16
    dtype: Any = jnp.float32

    def __post_init__(self):
        self.outputs = self.outputs or max(self.context, self.shift)
        super().__post_init__()

    @property
    def slots(self) -> int:
        """Frames that the convolutions work on: the context, padded."""
        factor = self.time_patch * math.prod(self.time_strides)
        return math.ceil(self.context / factor) * factor

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or maps of height x width."""
        halvings, most = len(self.widths) - 1, max(self.context, self.shift)
        require(
            self,
            patch=(self.patch >= 1, "must be 1 or more"),
            time_patch=(self.time_patch >= 1, "must be 1 or more"),
            time_strides=(
                len(self.time_strides) == halvings and set(self.time_strides) <= {1, 2},
                f"must hold {halvings} numbers of 1 or 2, one less than widths",
            ),
        )
        require(
            self,
            shift=(1 <= self.shift <= self.slots, f"must be 1 to {self.slots}"),
            outputs=(self.shift <= self.outputs <= most, f"must be 0, or shift ({self.shift}) to {most}"),
            block=(self.block in BLOCKS, f"must be one of {BLOCKS}"),
        )
        check_multiple((height, width), self.patch * 2**halvings)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b {self.context} h w c"],
        proposed: Float[Array, "b {self.outputs} h w _"] | None = None,
    ) -> Float[Array, "b {self.outputs} h w c"]:
        """proposed: input channels of each output map, what is proposed for it. The output's slot is the
        same slot of the input, so that the network compares what stands at one place of its clip."""
        channels = x.shape[-1]
        x = pad_time(x.astype(self.dtype), self.slots)
        if proposed is not None:
            before = [(0, 0)] * proposed.ndim
            before[1] = (self.slots - self.outputs, 0)
            x = jnp.concatenate([x, jnp.pad(proposed.astype(self.dtype), before)], -1)
        x = convolution.space_to_depth(x, self.patch, 1 if self.frame_features else self.time_patch)
        if self.frame_features:
            encoded = self._frames(x, 1, "encode")
            x = convolution.space_to_depth(encoded, 1, self.time_patch)
        x = self._conv(self.widths[0], "stem")(x)
        # Convolutions alone see the time index only through their padding.
        shape = (x.shape[1], 1, 1, x.shape[-1])
        time_embedding = self.param("time_embedding", nn.initializers.normal(0.1), shape)
        x = x + time_embedding.astype(self.dtype)[None]
        fields = (self.widths, self.blocks, self.time_strides, self.block, self.remat, self.dtype)
        x = UNet3d(*fields, name="unet")(x)
        x = x[:, -math.ceil(self.outputs / self.time_patch) :]
        # Added to a proposal, the output starts small.
        scale, painted = 1.0 if proposed is None else 0.1, channels * self.patch**2
        if self.frame_features:
            x = self._conv(self.time_patch * self.frame_features, "unfold")(x)
            x = convolution.depth_to_space(x, 1, self.time_patch)
            x = self._frames(x + encoded[:, -x.shape[1] :], 2, "decode")
            x = self._conv(painted, "paint", scale)(nn.silu(Norm("group", dtype=self.dtype)(x)))
            x = convolution.depth_to_space(x, self.patch)
        else:
            x = self._conv(painted * self.time_patch, "paint", scale)(x)
            x = convolution.depth_to_space(x, self.patch, self.time_patch)
        return x[:, -self.outputs :].astype(jnp.float32)

    def _frames(self, x, blocks, name):
        """Features of single frames."""
        b, t = x.shape[:2]
        x = x.reshape(b * t, *x.shape[2:])
        conv = lambda name: Conv(self.frame_features, (3, 3), dtype=self.dtype, name=name)
        if name == "encode":
            x = conv("encode")(x)
        for i in range(blocks):
            y = nn.silu(Norm("group", dtype=self.dtype, name=f"{name}_norm_{i}")(x))
            x = x + conv(f"{name}_{i}")(y)
        return x.reshape(b, t, *x.shape[1:])

    def _conv(self, features, name, scale=1.0):
        return Conv(features, (1, 1, 1), scale=scale, dtype=self.dtype, name=name)


def pad_time(x: Float[Array, "b t h w c"], slots: int) -> Float[Array, "b {slots} h w _"]:
    """Zeros before the first frame up to `slots` frames, and a last channel that is 1 for frames of x; x
    as it is if it has as many."""
    missing = slots - x.shape[1]
    if not missing:
        return x
    x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], -1)
    return jnp.pad(x, ((0, 0), (missing, 0), (0, 0), (0, 0), (0, 0)))
