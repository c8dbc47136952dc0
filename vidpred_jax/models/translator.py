"""Stage 2: the image-video translator, the generator of a conditional GAN of 2-D convolutions."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax import ops
from vidpred_jax.data.sizes import check_multiple
from vidpred_jax.models import regions
from vidpred_jax.models.fields import require
from vidpred_jax.models.layers import NORMS, Conv
from vidpred_jax.models.unet import UNet2d

_FAR = 16.0  # Pixels that count as 1.


class Translator(nn.Module):
    """Map -> raw values of its RGB frame: a U-Net after the notebook beside the paper.

    widths, dropout, norm, axis_name: as of `unet.UNet2d`.
    reference_frames: 0 is the paper; with n, the last n observed frames and their maps are input as well.
        Without them the colours of a new scene cannot be known. At most the context.
    head_features: features at full resolution before the last layer, whose input they are beside the
        U-Net's input itself: outlines become exact to the pixel (ours); 0 is the paper.
    regions: the U-Net sees the newest reference alone, and what `models.regions` computes from all of them:
        how far each label has moved, and the background. The newest reference, warped by that motion plus a
        learned flow, and the background are blended with what the network paints (after vid2vid, Wang et
        al. 2018). For maps that are planes.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    dropout: float = 0.5
    norm: str = "batch"
    reference_frames: int = 0
    head_features: int = 0
    regions: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or maps of height x width."""
        require(
            self,
            widths=(len(self.widths) >= 1, "must hold one number or more"),
            norm=(self.norm in NORMS, f"must be one of {NORMS}"),
            dropout=(0 <= self.dropout < 1, "must be at least 0 and below 1"),
        )
        require(self, regions=(self.reference_frames or not self.regions, "needs model.reference_frames"))
        check_multiple((height, width), 2 ** len(self.widths))

    @nn.compact
    def __call__(
        self,
        maps: Float[Array, "b t h w c"],
        references: Float[Array, "b {self.reference_frames} h w _"],
        steps_ahead: Float[Array, "b t"],
        proposed: Float[Array, "b t h w _"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b t h w 3"]:
        """references: the last observed RGB frames, oldest first, and their maps, as channels.

        steps_ahead: frames from the newest reference to each map; an input with references. proposed:
        input channels of each frame, what is proposed for it.
        """
        b, t, h, w, _ = maps.shape
        shown, told = references, ()
        if self.regions:
            shown, told = references[:, -1:], self._told(maps, references, steps_ahead)
        inputs = jnp.concatenate([join_inputs(maps, shown, steps_ahead, proposed), *told], -1)
        inputs = inputs.astype(self.dtype)
        fields = (self.widths, self.dropout, self.norm, self.axis_name, self.dtype)
        features = UNet2d(*fields, name="unet")(inputs, train)
        if self.head_features:
            x = self._conv(self.head_features, "head_features", upsample=True)(features)
            features = jnp.concatenate([nn.leaky_relu(x, 0.2), inputs], -1)
        # Added to a proposal, the output starts small.
        scale = 1.0 if proposed is None else 0.1
        x = self._conv(3, "paint", upsample=not self.head_features, scale=scale)(features).astype(jnp.float32)
        if self.regions:
            flow, _, behind = told
            found = self._conv(4, "move", upsample=not self.head_features, scale=0.1)(features)
            found = found.astype(jnp.float32)
            newest = jnp.repeat(references[:, -1, ..., :3], t, 0)
            moved = ops.warp(newest, _FAR * (flow + found[..., :2]))
            shares = found[..., 2:] + (2.0 if proposed is None else -4.0)
            shares = nn.softmax(jnp.pad(shares, ((0, 0),) * 3 + ((0, 1),)))[..., None, :]
            painted = jnp.tanh(x) if proposed is None else x
            x = (shares * jnp.stack([moved, behind[..., :3], painted], -1)).sum(-1)
        return x.reshape(b, t, h, w, 3)

    def _told(self, maps, references, steps_ahead):
        """Of each pixel of each map: flow (1 is _FAR pixels) and share of its label, the background."""
        frames, background = references[..., :3], references[..., 4]
        pan = jax.lax.stop_gradient(regions.velocity(frames, background))
        found = regions.describe(maps, references[:, -1, ..., 3:], steps_ahead, pan)
        behind = regions.behind(frames, background, pan)[:, None]
        behind = regions.carry(jnp.repeat(behind, maps.shape[1], 1), pan, steps_ahead)
        flow, both = jnp.split(found, [2], -1)
        return [x.reshape(-1, *x.shape[2:]) for x in (flow / _FAR, both, behind)]

    @property
    def squash(self) -> bool:
        """Whether its raw values, where nothing is proposed, still pass a tanh."""
        return not self.regions

    def _conv(self, features, name, **fields):
        return Conv(features, (3, 3), dtype=self.dtype, name=name, **fields)


def join_inputs(
    maps: Float[Array, "b t h w c"],
    references: Float[Array, "b n h w _"],
    steps_ahead: Float[Array, "b t"],
    proposed: Float[Array, "b t h w _"] | None = None,
) -> Float[Array, "bt h w _"]:
    """Everything that stage 2 is given for each frame, as channels."""
    b, t, h, w, _ = maps.shape
    flat = lambda x: x.reshape(b * t, h, w, -1)
    inputs = [flat(maps)]
    if references.shape[1]:
        frames = references.transpose(0, 2, 3, 1, 4).reshape(b, h, w, -1)
        inputs.append(jnp.repeat(frames, t, 0))  # The same for each frame of a clip.
        time = (steps_ahead / 16 - 1).reshape(-1, 1, 1, 1)
        inputs.append(jnp.broadcast_to(time, (b * t, h, w, 1)))
    if proposed is not None:
        inputs.append(flat(proposed))
    return jnp.concatenate(inputs, -1)
