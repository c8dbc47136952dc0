"""Stage 1: the fusion prediction generator, a U-Net of 3-D convolutions."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from vidpred_jax.data.fusion import PALETTE
from vidpred_jax.data.sizes import check_multiple
from vidpred_jax.models import convolution
from vidpred_jax.models.fields import CONTEXT_RULE, CONTEXTS, require
from vidpred_jax.models.layers import FUSION_NORMS, Conv, ConvBlock
from vidpred_jax.models.ops import composite, resize
from vidpred_jax.models.scene import renderer
from vidpred_jax.models.scene.renderer import Scene


class UNet3d(nn.Module):
    """`context` fusion pictures in, `outputs` out, `shift` frames later.

    shift 1 is the paper's (inferred). A larger one predicts a block of frames at once, which may be
    longer than the context.

    widths: features per level; every level but the last is followed by a halving of h and w and,
        where `time_strides` says 2, of t.
    patch, time_patch: a stem that folds blocks of the input into channels (1: none).
    num_flows: 0 paints the output (the paper); k also warps the input picture nearest in time along k
        predicted coarse flows and blends the results in (ours: thin edges survive self-feeding).
    num_labels: with flows and outputs equal to shift, the number of labels (background included) whose
        objects are tracked and rendered as one more layer of the blend, with the background's edges
        (`scene/renderer.py`; ours); 0 for none.
    outputs: how many output frames are computed, counted from the last; 0 for `context` (the paper), or
        shift if that is more. As many as shift: only frames that are not in the input, the cheapest.
    remat: whether blocks are computed again in the backward pass instead of kept: less memory.
    context: observed frames, 4 to 32. Where they are not a multiple of the time patch and strides, zeros
        are put in front, and one more input channel is 1 for observed frames and 0 for these.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    patch: int = 1
    time_patch: int = 1
    time_strides: tuple[int, ...] = (2, 2)
    shift: int = 1
    num_flows: int = 0
    num_labels: int = 0
    outputs: int = 0
    norm: str = "group"
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
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        halvings, most = len(self.widths) - 1, max(self.context, self.shift)
        require(
            self,
            context=(self.context in CONTEXTS, CONTEXT_RULE),
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
            outputs=(
                self.shift <= self.outputs <= most,
                f"must be 0, or shift ({self.shift}) to {most}",
            ),
            num_flows=(self.num_flows >= 0, "must be 0 or more"),
            norm=(self.norm in FUSION_NORMS, f"must be one of {FUSION_NORMS}"),
            num_labels=(
                not self.num_labels
                or (
                    2 <= self.num_labels <= len(PALETTE)
                    and self.num_flows
                    and self.outputs == self.shift
                ),
                f"must be 0, or 2 to {len(PALETTE)} with model.num_flows of 1 or more and model.outputs "
                "equal to model.shift",
            ),
        )
        check_multiple((height, width), self.patch * 2**halvings)

    def observe(self, clip: Float[Array, "b t h w c"]) -> Scene | None:
        """The scene of an observed clip, which fed-back predictions do not change; None without
        `num_labels`."""
        return renderer.observe(clip, self.num_labels) if self.num_labels else None

    def trajectory_error(
        self, params: dict, observed: Scene, future: Float[Array, "b n h w c"]
    ) -> Float[Array, " b"]:
        """Distance of the extrapolated scene from the pictures that followed (see `SceneRenderer`)."""
        scene_renderer = renderer.SceneRenderer(parent=None)
        params = {"params": params["scene"]}
        return scene_renderer.apply(params, observed, future, method="trajectory_error")

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b {self.context} h w c"],
        observed: Scene | None = None,
        frame_offset: int | Int[Array, ""] | Int[Array, " b"] = 0,
    ) -> Float[Array, "b {self.outputs} h w c"]:
        """observed: the result of `observe` for clips that ended `frame_offset` frames before x does (one
        number, or one for each clip); None: x itself is observed."""
        self.check(*x.shape[2:4])
        clip = x
        observed = self.observe(x) if observed is None else observed
        x = pad_time(x.astype(self.dtype), self.slots)
        x = convolution.space_to_depth(x, self.patch, self.time_patch)
        x = self._conv(self.widths[0], 1, "stem")(x)
        # Convolutions alone see the time index only through their padding.
        shape = (x.shape[1], 1, 1, x.shape[-1])
        time_embedding = self.param("time_embedding", nn.initializers.normal(0.1), shape)
        x = x + time_embedding.astype(self.dtype)[None]
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
        x = x[:, -math.ceil(self.outputs / self.time_patch) :]
        num_layers = self.num_flows + 1 + bool(self.num_labels) if self.num_flows else 0
        features = channels + num_layers
        picture = self._conv(features * self.time_patch * self.patch**2, 1, "paint")(x)
        picture = self._newest(convolution.depth_to_space(picture, self.patch, self.time_patch))
        if not self.num_flows:
            return jnp.tanh(picture)
        motion = self._conv(2 * self.num_flows * self.time_patch, 1, "motion", scale=0.1)(x)
        motion = self._newest(convolution.depth_to_space(motion, 1, self.time_patch))
        picture, gates = jnp.split(picture, [channels], -1)
        layers = [jnp.tanh(picture)]
        if self.num_labels:
            frame_offset = jnp.broadcast_to(frame_offset, len(clip))[:, None]
            steps_ahead = frame_offset + jnp.arange(1.0, self.outputs + 1)
            scene_renderer = renderer.SceneRenderer(name="scene")
            layers.append(scene_renderer(observed, steps_ahead, clip.shape[2:4]))
        # Training starts from warped or rendered pictures: they do not fade as painted ones do.
        first = num_layers - 1 if self.num_labels else 0
        gates += 3.0 * jax.nn.one_hot(first, num_layers)
        return self._blend(clip, layers, gates, motion)

    def _blend(self, clip, layers, gates, motion):
        """`layers`, blended with the input picture nearest in time, warped along each flow."""
        source, distance = self._sources()
        flat = lambda x: x.reshape(-1, *x.shape[2:]).astype(jnp.float32)
        # Flow per frame: steady motion is constant.
        distance = jnp.tile(distance, len(clip))[:, None, None, None]
        motion = resize(distance * flat(motion), *clip.shape[2:4])
        nearest = flat(take_frames(clip, source))
        return composite(nearest, [*map(flat, layers)], flat(gates), motion).reshape(
            layers[0].shape
        )

    def _sources(self):
        """For each output frame, the input frame nearest in time and how many frames before it is."""
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


def pad_time(x: Float[Array, "b t h w c"], slots: int) -> Float[Array, "b {slots} h w _"]:
    """Zeros before the first frame up to `slots` frames, and a last channel that is 1 for frames of x; x
    as it is if it has as many."""
    missing = slots - x.shape[1]
    if not missing:
        return x
    x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], -1)
    return jnp.pad(x, ((0, 0), (missing, 0), (0, 0), (0, 0), (0, 0)))


def take_frames(clip, places):
    """clip[:, places] of consecutive places, the last perhaps repeated: without a gather."""
    first, last = places[0], places[-1]
    repeated = jnp.repeat(clip[:, last : last + 1], len(places) - (last - first), 1)
    return jnp.concatenate([clip[:, first:last], repeated], 1)
