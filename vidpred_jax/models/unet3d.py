"""Stage 1: the fusion prediction generator, a U-Net of 3-D convolutions."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from vidpred_jax.data.fusion import PALETTE
from vidpred_jax.models import convolution
from vidpred_jax.models.layers import FUSION_NORMS, Conv, ConvBlock
from vidpred_jax.models.ops import composite, resize
from vidpred_jax.models.scene import renderer
from vidpred_jax.models.scene.renderer import Scene


class UNet3d(nn.Module):
    """16 fusion pictures in, 16 out, `shift` frames later (1: the paper's, inferred; 16: a block).

    widths: features per level; every level but the last is followed by a halving of h and w and,
        where `time_strides` says 2, of t.
    patch, time_patch: a stem that folds blocks of the input into channels (1: none).
    num_flows: 0 paints the output (the paper); k also moves the input picture nearest in time along k
        predicted coarse flows and blends them in (ours: thin edges survive self-feeding).
    num_labels: with flows and outputs equal to shift, how many labels (background included) are told
        apart, whose objects are also carried whole, and the background's edges with them (see
        `renderer.py`; ours); 0 for none.
    remat: whether blocks are computed again in the backward pass instead of kept: less memory.
    outputs: how many of the 16 output frames are computed, counted from the last (16: all, the
        paper; `shift`: only those not seen in the input, the cheapest).
    """

    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    patch: int = 1
    time_patch: int = 1
    time_strides: tuple[int, ...] = (2, 2)
    shift: int = 1
    num_flows: int = 0
    num_labels: int = 0
    outputs: int = 16
    norm: str = "group"
    remat: bool = False
    context: int = 16
    dtype: Any = jnp.float32

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        rules = {
            "shift": (self.shift, 1 <= self.shift <= self.context, f"must be 1 to {self.context}"),
            "outputs": (
                self.outputs,
                self.shift <= self.outputs <= self.context,
                f"must be shift ({self.shift}) to {self.context}",
            ),
            "patch": (self.patch, self.patch >= 1, "must be 1 or more"),
            "time_patch": (self.time_patch, self.time_patch >= 1, "must be 1 or more"),
            "num_flows": (self.num_flows, self.num_flows >= 0, "must be 0 or more"),
            "norm": (self.norm, self.norm in FUSION_NORMS, f"must be one of {FUSION_NORMS}"),
            "time_strides": (
                self.time_strides,
                len(self.time_strides) == len(self.widths) - 1,
                f"must hold {len(self.widths) - 1} numbers, one less than widths",
            ),
        }
        for field, (value, holds, rule) in rules.items():
            if not holds:
                raise ValueError(f"model.{field} ({value!r}) {rule}")
        if self.num_labels and (self.context < 4 or self.num_labels > len(PALETTE)):
            raise ValueError(
                f"model.num_labels ({self.num_labels}) must be at most {len(PALETTE)}, and model.context "
                f"({self.context}) 4 or more with them"
            )
        if self.num_labels and (
            self.num_labels < 2 or not self.num_flows or self.outputs != self.shift
        ):
            raise ValueError(
                f"model.num_labels ({self.num_labels}) must be 0, or 2 or more with model.num_flows of 1 or "
                "more and model.outputs equal to model.shift"
            )
        space = self.patch * 2 ** (len(self.widths) - 1)
        if height % space or width % space:
            raise ValueError(f"picture size ({height} x {width}) must be a multiple of {space}")
        time = self.time_patch
        for stride in self.time_strides:
            time *= stride
        if self.context % time:
            raise ValueError(f"context ({self.context}) must be a multiple of {time}")

    def observe(self, clip: Float[Array, "b t h w c"]) -> Scene | None:
        """What of an observed clip is remembered however often pictures are fed back, if the network
        carries anything."""
        return renderer.observe(clip, self.num_labels) if self.num_labels else None

    def trajectory_error(
        self, params: dict, observed: Scene, coming: Float[Array, "b n h w c"]
    ) -> Float[Array, " b"]:
        """How far from what of it the pictures that followed show its paths lead (`SceneRenderer.error`)."""
        carried = renderer.SceneRenderer(parent=None)
        return carried.apply({"params": params["scene"]}, observed, coming, method="error")

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        observed: Scene | None = None,
        frame_offset: int | Int[Array, ""] | Int[Array, " b"] = 0,
    ) -> Float[Array, "b {self.outputs} h w c"]:
        """observed: what `observe` found in clips that ended `frame_offset` frames before x does (one
        number, or one for each clip); None: x itself is observed."""
        self.check(*x.shape[2:4])
        clip = x
        observed = self.observe(x) if observed is None else observed
        x = convolution.space_to_depth(x.astype(self.dtype), self.patch, self.time_patch)
        x = self._conv(self.widths[0], 1, "stem")(x)
        # Convolutions alone see the time index only through their padding.
        when = self.param(
            "time_embedding", nn.initializers.normal(0.1), (x.shape[1], 1, 1, x.shape[-1])
        )
        x = x + when.astype(self.dtype)[None]
        skips = []
        for level, features in enumerate(self.widths):
            for i in range(self.blocks):
                x = self._block(features, f"down_{level}_{i}")(x)
            if level < len(self.widths) - 1:
                skips.append(x)
                x = convolution.space_to_depth(x, 2, self.time_strides[level])
                x = self._conv(self.widths[level + 1], 1, f"halve_{level}")(x)
        for level in reversed(range(len(self.widths) - 1)):
            x = self._conv(self.widths[level], 1, f"double_{level}")(x)
            x = convolution.upsample(x, self.time_strides[level])
            x = self._conv(self.widths[level], 1, f"join_{level}")(
                jnp.concatenate([x, skips[level]], -1)
            )
            for i in range(self.blocks):
                x = self._block(self.widths[level], f"up_{level}_{i}")(x)
        return self._head(x, clip, observed, frame_offset)

    def _head(self, x, clip, observed, frame_offset):
        channels = clip.shape[-1]
        slots = math.ceil(self.outputs / self.time_patch)
        x = x[:, -slots:]
        num_layers = self.num_flows + 1 + bool(self.num_labels) if self.num_flows else 0
        painted = channels + num_layers
        picture = self._conv(painted * self.time_patch * self.patch**2, 1, "paint")(x)
        picture = self._newest(convolution.depth_to_space(picture, self.patch, self.time_patch))
        if not self.num_flows:
            return jnp.tanh(picture)
        motion = self._conv(2 * self.num_flows * self.time_patch, 1, "motion", scale=0.1)(x)
        motion = self._newest(convolution.depth_to_space(motion, 1, self.time_patch))
        picture, gates = jnp.split(picture, [channels], -1)
        layers = [jnp.tanh(picture)]
        if self.num_labels:
            frame_offset = jnp.broadcast_to(frame_offset, len(clip))[:, None]
            ahead = frame_offset + jnp.arange(1.0, self.outputs + 1)
            layers.append(renderer.SceneRenderer(name="scene")(observed, ahead, clip.shape[2:4]))
        # Training starts by moving: what is moved does not fade as what is painted anew does.
        first = num_layers - 1 if self.num_labels else 0
        gates += 3.0 * jax.nn.one_hot(first, num_layers)
        return self._move(clip, layers, gates, motion)

    def _move(self, clip, layers, gates, motion):
        """Blends `layers` with the input picture nearest in time, moved along each flow."""
        source, ahead = self._sources()
        flat = lambda x: x.reshape(-1, *x.shape[2:]).astype(jnp.float32)
        # Flow per frame: steady motion is constant.
        ahead = jnp.tile(ahead, len(clip))[:, None, None, None]
        motion = resize(ahead * flat(motion), *clip.shape[2:4])
        picture = composite(flat(_frames(clip, source)), [*map(flat, layers)], flat(gates), motion)
        return picture.reshape(layers[0].shape)

    def _sources(self):
        """For each output frame, the input frame nearest in time and how far ahead of it it is."""
        output = np.arange(self.context - self.outputs, self.context) + self.shift
        source = np.minimum(output - 1, self.context - 1)
        return source, (output - source).astype(np.float32)

    def _newest(self, x):
        return x[:, -self.outputs :].astype(jnp.float32)

    def _conv(self, features, size, name, scale=1.0):
        return Conv(features, (size,) * 3, scale=scale, dtype=self.dtype, name=name)

    def _block(self, features, name):
        block = nn.remat(ConvBlock) if self.remat else ConvBlock
        return block(features, norm=self.norm, dtype=self.dtype, name=name)


def _frames(clip, places):
    """clip[:, places] of places that follow each other, the last perhaps repeated: without a gather."""
    first, last = places[0], places[-1]
    again = jnp.repeat(clip[:, last : last + 1], len(places) - (last - first), 1)
    return jnp.concatenate([clip[:, first:last], again], 1)
