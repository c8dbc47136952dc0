"""Stage 2: the image-video translator, the generator of a conditional GAN of 2-D convolutions."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from vidpred_jax.data.fusion import PALETTE, decode
from vidpred_jax.data.sizes import check_multiple
from vidpred_jax.models.fields import require
from vidpred_jax.models.layers import NORMS, Conv, Norm
from vidpred_jax.models.ops import add_to_first, composite, resize, warp
from vidpred_jax.models.optical_flow import check_levels, match
from vidpred_jax.models.scene import background, matting, tracking
from vidpred_jax.models.scene.background import Background
from vidpred_jax.models.scene.trajectories import Pan, Rotation, Trajectories


@struct.dataclass
class Observations:
    """What a Generator computes from its references alone; None where its fields do not need it.

    flow: optical flow in pixels from the last but one reference to the last. colors: mean RGB of each
    label in all references. objects, background, cutouts: the scene and its pixels (see `scene/`).
    """

    flow: Float[Array, "b h w 2"] | None = None
    colors: Float[Array, "b k 3"] | None = None
    objects: tracking.Objects | None = None
    background: Background | None = None
    cutouts: matting.Cutouts | None = None


class Generator(nn.Module):
    """Fusion picture -> RGB frame, both in [-1, 1]: a U-Net after the notebook beside the paper.

    widths: features after each halving (kernel 3, stride 2).
    dropout: rate on the first three doublings.
    reference_frames: 0 is the paper; with n, the last n observed frames and their fusion pictures are
        input as well. Without them the colours of a new scene cannot be known. At most the context.
    seen_frames: how many of them, the newest, are input to the U-Net itself; 0 for all.
    num_flows: with references, the newest one is also warped along this many predicted coarse flows
        and blended with the painted frame (ours; with label_colors the painted frame is a residual
        that is added to the blend of the rest); 0 paints all.
    flow_levels: with flows and two references, the pyramid levels of the optical flow between the last
        two (`optical_flow.match`). The first predicted flow is a residual on it. It and the newest
        reference warped along it are input to the U-Net (ours); 0 for none.
    label_colors: with references and flows, the number of labels (background included) that are filled
        with their mean colour in the references, as a layer of the blend (ours, after the
        instance-wise averages of Wang et al. 2018); 0 for none.
    scene: with label_colors and four references or more, whether one more layer shows the objects' own
        pixels, cut out of the references and moved (`scene/matting.py`), over the background mosaic
        (`scene/background.py`), which moves as the camera pans (ours).
    head_features: features at full resolution before the last layer, whose input they are beside the
        U-Net's input itself: outlines become exact to the pixel (ours); 0 is the paper.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    dropout: float = 0.5
    norm: str = "batch"
    reference_frames: int = 0
    seen_frames: int = 0
    num_flows: int = 0
    flow_levels: int = 0
    label_colors: int = 0
    scene: bool = False
    head_features: int = 0
    axis_name: str | None = None
    dtype: Any = jnp.float32
    needs_fusion = True  # Frames have the size of the fusion pictures.

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        counts = "reference_frames", "seen_frames", "num_flows", "label_colors", "head_features"
        require(
            self,
            norm=(self.norm in NORMS, f"must be one of {NORMS}"),
            dropout=(0 <= self.dropout < 1, "must be at least 0 and below 1"),
            **{field: (getattr(self, field) >= 0, "must be 0 or more") for field in counts},
        )
        references = self.reference_frames
        require(
            self,
            seen_frames=(
                self.seen_frames <= references,
                f"must be at most model.reference_frames ({references})",
            ),
            num_flows=(
                not self.num_flows or references,
                "needs model.reference_frames of 1 or more",
            ),
            label_colors=(
                not self.label_colors
                or (2 <= self.label_colors <= len(PALETTE) and self.num_flows),
                f"must be 0, or 2 to {len(PALETTE)} with model.num_flows of 1 or more",
            ),
            scene=(
                not self.scene or (self.label_colors and references >= 4),
                "needs model.label_colors of 2 or more and model.reference_frames of 4 or more",
            ),
            flow_levels=(
                not self.flow_levels or (references >= 2 and self.num_flows),
                "needs model.reference_frames of 2 or more and model.num_flows of 1 or more",
            ),
        )
        check_levels(self.flow_levels, height, width, "model.flow_levels")
        check_multiple((height, width), 2 ** len(self.widths))

    def observe(
        self, references: Float[Array, "b {self.reference_frames} h w 6"]
    ) -> Observations | None:
        """What the references alone determine, for all steps of a rollout. No parameters, no gradient."""
        if not (self.flow_levels or self.label_colors):
            return None
        references = jax.lax.stop_gradient(references)
        frames, pictures = jnp.split(references, 2, -1)
        observations = Observations()
        if self.flow_levels:
            flow = match(*frames[:, -2:].swapaxes(0, 1), self.flow_levels)
            observations = observations.replace(flow=flow)
        if self.label_colors:
            colors = mean_colors(frames, pictures, self.label_colors)
            observations = observations.replace(colors=colors)
        if self.scene:
            objects = tracking.observe(pictures, self.label_colors)
            mosaic = background.observe_frames(frames, pictures, self.label_colors)
            cutouts = matting.cut_out(frames, pictures, objects, mosaic)
            observations = observations.replace(objects=objects, background=mosaic, cutouts=cutouts)
        return observations

    @nn.compact
    def __call__(
        self,
        fusion: Float[Array, "b t h w 3"],
        references: Float[Array, "b {self.reference_frames} h w 6"],
        steps_ahead: Float[Array, "b t"],
        observations: Observations | None = None,
        train: bool = False,
    ) -> Float[Array, "b t h w 3"]:
        """references: the last observed RGB frames, oldest first, and their fusion pictures.

        steps_ahead: frames from the newest reference to each fusion picture; an input with references.
        observations: `observe(references)`; None: computed here.
        """
        b, t, h, w, _ = fusion.shape
        self.check(h, w)
        if observations is None:
            observations = self.observe(references)
        each = lambda x: jnp.repeat(x, t, 0)  # The same for each picture of a clip.
        time, layers, flow = steps_ahead.reshape(b * t, 1, 1, 1), [], None
        inputs = [fusion.reshape(b * t, h, w, 3)]
        if self.reference_frames:
            newest = each(references[:, -1, ..., :3].astype(jnp.float32))
            frames = references[:, -self.seen_frames :]
            inputs.append(each(frames.transpose(0, 2, 3, 1, 4).reshape(b, h, w, -1)))
            inputs.append(jnp.broadcast_to(time / 16 - 1, (b * t, h, w, 1)))
        if self.flow_levels:
            flow = each(observations.flow)
            inputs += [flow / 2**self.flow_levels, warp(newest, flow * time)]
        if self.label_colors:
            layers = self._render(fusion, steps_ahead, observations)
            layers = [layer.reshape(-1, h, w, 3) for layer in layers]
            inputs += layers
        inputs = jnp.concatenate(inputs, -1).astype(self.dtype)
        x, coarse = self._unet(inputs, train)
        if self.head_features:
            x = self._conv(self.head_features, "head_features", upsample=True)(x)
            x = jnp.concatenate([nn.leaky_relu(x, 0.2), inputs], -1)
        num_layers = self.num_flows + (len(layers) or 1) if self.num_flows else 0
        scale, upsample = 0.1 if layers else 1.0, not self.head_features
        x = self._conv(3 + num_layers, "paint", upsample=upsample, scale=scale)(x)
        x = x.astype(jnp.float32)
        picture, gates = x[..., :3], x[..., 3:]
        if not layers:
            picture = jnp.tanh(picture)
        if self.num_flows:
            # Small at first: random flows would hide the reference frame.
            motion = self._conv(2 * self.num_flows, "motion", scale=0.1)(coarse)
            # Per frame ahead, in units of 1/64 of the picture: steady motion is a constant.
            unit = jnp.array([h, w] * self.num_flows) / 64
            motion = resize(motion.astype(jnp.float32) * unit, h, w)
            if flow is not None:
                motion = add_to_first(motion, flow)
            # Training starts near the best frame without it: the last layer, or the warped reference.
            gates += 3.0 * jax.nn.one_hot(num_layers - 1 if layers else 0, num_layers)
            # A residual, not a layer: a gate that does not lower the loss closes and stays closed.
            residual, layers = (picture, layers) if layers else (0.0, [picture])
            picture = residual + composite(newest, layers, gates, motion * time)
            if not train:  # Beyond the range, training would get no gradient.
                picture = jnp.clip(picture, -1, 1)
        return picture.reshape(b, t, h, w, 3)

    def _conv(self, features, name, **fields):
        return Conv(features, (3, 3), dtype=self.dtype, name=name, **fields)

    def _unet(self, x, train):
        """Features at half the resolution, and the coarser ones that the flows come from."""
        skips, coarse = [], None
        for level, features in enumerate(self.widths):
            x = self._conv(features, f"down_{level}", stride=2)(x)
            if level:
                x = Norm(self.norm, self.axis_name, self.dtype, name=f"down_norm_{level}")(x, train)
            x = nn.leaky_relu(x, 0.2)
            skips.append(x)
        for level in reversed(range(len(self.widths) - 1)):
            x = self._conv(self.widths[level], f"up_{level}", upsample=True)(x)
            x = Norm(self.norm, self.axis_name, self.dtype, name=f"up_norm_{level}")(x, train)
            if self.dropout and level >= len(self.widths) - 4:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = jnp.concatenate([nn.relu(x), skips[level]], -1)
            coarse = x if level == min(1, len(self.widths) - 2) else coarse
        return x, coarse

    def _render(self, fusion, steps_ahead, observations):
        """Frames (b, t, h, w, 3) of fusion pictures: labels in their mean colours; with `scene`, also the
        objects' own pixels over the background.
        """
        flat = paint_labels(fusion, observations.colors)
        if not self.scene:
            return [flat]
        objects, mosaic = observations.objects, observations.background
        # Fusion pictures override trajectories that they contradict: at first these are trusted fully.
        trajectory = Trajectories((3.0, 0.0, -3.0), -6.0, name="trajectories")(
            *objects.motion, steps_ahead, fusion.shape[2:4]
        )
        angle = Rotation(name="rotation")(objects.rotation, objects.age, steps_ahead)
        behind = mosaic.frames(Pan(name="pan")(mosaic.pans, steps_ahead))
        cutouts = observations.cutouts
        return [flat, matting.draw(cutouts, objects, trajectory, angle, fusion, behind, flat)]


def mean_colors(
    frames: Float[Array, "b n h w 3"], pictures: Float[Array, "b n h w 3"], num_labels: int
) -> Float[Array, "b {num_labels} 3"]:
    """The mean RGB colour of each label of fusion pictures in their frames; 0 (grey) for absent ones."""
    _, labels = decode(pictures, num_labels)
    masks = jax.nn.one_hot(labels, num_labels)
    total = jnp.einsum("bnhwk,bnhwc->bkc", masks, frames)
    return total / jnp.maximum(masks.sum((1, 2, 3)), 1.0)[..., None]


def paint_labels(
    fusion: Float[Array, "b t h w 3"], colors: Float[Array, "b k 3"]
) -> Float[Array, "b t h w 3"]:
    """Each label of fusion pictures in its colour. The labels are decoded from the pictures."""
    _, labels = decode(fusion, colors.shape[1])
    return jnp.einsum("bthwk,bkc->bthwc", jax.nn.one_hot(labels, colors.shape[1]), colors)
