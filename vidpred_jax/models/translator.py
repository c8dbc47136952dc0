"""Stage 2: the image-video translator, a conditional GAN of 2-D convolutions."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.data.fusion import PALETTE, decode
from vidpred_jax.models.layers import NORMS, Conv, Norm
from vidpred_jax.models.ops import add_to_first, composite, resize, warp
from vidpred_jax.models.optical_flow import check_levels, match
from vidpred_jax.models.scene import background, matting, tracking
from vidpred_jax.models.scene.trajectories import Pan, Rotation, Trajectories
from vidpred_jax.types import CONTEXT


class Generator(nn.Module):
    """Fusion picture -> RGB frame, both in [-1, 1]: a U-Net after the notebook beside the paper.

    widths: features after each halving (kernel 3, stride 2).
    dropout: rate on the first three doublings.
    reference_frames: 0 is the paper; n also shows the last n observed frames and their fusion
        pictures, without which the colours of an unknown scene cannot be known.
    seen_frames: how many of them, the newest, the U-Net itself sees; 0 for all.
    num_flows: with references, the newest one is also moved along this many predicted coarse flows
        and blended with what is painted (ours; with label_colors it is painted over the blend of the
        rest); 0 paints all.
    flow_levels: with flows and two references, the levels of the optical flow between the last two (see
        `motion.match`), from which the first predicted flow starts; the net also sees it and the
        newest reference moved along it (ours); 0 for none.
    label_colors: with references and flows, how many labels (background included) are also painted
        flat in the mean colour they have in the references, as a layer of the blend (ours,
        after the instance-wise averages of Wang et al. 2018); 0 for none. Without scene that is all.
    scene: with label_colors and four references or more, whether they are also painted with the pixels
        that they have in these, cut out and moved (see `matting.py`), over what is behind them: put together
        from all, it is moved as the camera pans (see `background.py`; ours).
    head_features: features that the last layer sees at full resolution, beside the input itself, so that
        it can follow outlines to the pixel (ours); 0 is the paper.
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
    needs_fusion = True  # At the size of its fusion pictures alone.

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        if self.norm not in NORMS:
            raise ValueError(f"model.norm ({self.norm!r}) must be one of {NORMS}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout ({self.dropout}) must be at least 0 and below 1")
        for field in (
            "reference_frames",
            "seen_frames",
            "num_flows",
            "label_colors",
            "head_features",
        ):
            if getattr(self, field) < 0:
                raise ValueError(f"model.{field} ({getattr(self, field)}) must be 0 or more")
        if self.reference_frames > CONTEXT:
            raise ValueError(
                f"model.reference_frames ({self.reference_frames}) must be at most {CONTEXT}"
            )
        if self.seen_frames > self.reference_frames:
            raise ValueError(
                f"model.seen_frames ({self.seen_frames}) must be at most model.reference_frames "
                f"({self.reference_frames})"
            )
        if self.num_flows and not self.reference_frames:
            raise ValueError(
                f"model.num_flows ({self.num_flows}) needs model.reference_frames of 1 or more"
            )
        if self.label_colors and not 2 <= self.label_colors <= len(PALETTE):
            raise ValueError(
                f"model.label_colors ({self.label_colors}) must be 0, or 2 to {len(PALETTE)}"
            )
        if self.label_colors and not self.num_flows:
            raise ValueError(
                f"model.label_colors ({self.label_colors}) needs model.num_flows of 1 or more"
            )
        if self.scene and not (self.label_colors and self.reference_frames >= 4):
            raise ValueError(
                "model.scene (True) needs model.label_colors of 2 or more and model.reference_frames "
                "of 4 or more"
            )
        if self.flow_levels and (self.reference_frames < 2 or not self.num_flows):
            raise ValueError(
                f"model.flow_levels ({self.flow_levels}) needs model.reference_frames of 2 or more and "
                "model.num_flows of 1 or more"
            )
        check_levels(self.flow_levels, height, width, "model.flow_levels")
        space = 2 ** len(self.widths)
        if height % space or width % space:
            raise ValueError(f"picture size ({height} x {width}) must be a multiple of {space}")

    @nn.compact
    def __call__(
        self,
        fusion: Float[Array, "b t h w 3"],
        references: Float[Array, "b {self.reference_frames} h w 6"],
        ahead: Float[Array, "b t"],
        train: bool = False,
    ) -> Float[Array, "b t h w 3"]:
        """references: the last observed RGB frames, oldest first, and their fusion pictures.

        ahead: frames from the newest reference to each fusion picture; seen with references.
        """
        b, t, h, w, _ = fusion.shape
        self.check(h, w)
        every = lambda x: jnp.repeat(x, t, 0)  # What is known of a clip, for each of its pictures.
        frames_ahead, ahead = ahead, ahead.reshape(b * t, 1, 1, 1)
        given, layers, flow = [fusion.reshape(b * t, h, w, 3)], [], None
        if self.reference_frames:
            newest = every(references[:, -1, ..., :3].astype(jnp.float32))
            seen = references[:, -self.seen_frames :]
            given.append(every(seen.transpose(0, 2, 3, 1, 4).reshape(b, h, w, -1)))
            given.append(jnp.broadcast_to(ahead / 16 - 1, (b * t, h, w, 1)))
        if self.flow_levels:
            flow = every(match(*references[:, -2:, ..., :3].swapaxes(0, 1), self.flow_levels))
            given += [flow / 2**self.flow_levels, warp(newest, flow * ahead)]
        if self.label_colors:
            layers = self._known(fusion, references, frames_ahead)
            layers = [layer.reshape(-1, h, w, 3) for layer in layers]
            given += layers
        x = given = jnp.concatenate(given, -1).astype(self.dtype)
        skips = []
        for level, features in enumerate(self.widths):
            x = Conv(features, (3, 3), stride=2, dtype=self.dtype, name=f"down_{level}")(x)
            if level:
                x = Norm(self.norm, self.axis_name, self.dtype, name=f"down_norm_{level}")(x, train)
            x = nn.leaky_relu(x, 0.2)
            skips.append(x)
        coarse = None
        for level in reversed(range(len(self.widths) - 1)):
            x = Conv(
                self.widths[level], (3, 3), upsample=True, dtype=self.dtype, name=f"up_{level}"
            )(x)
            x = Norm(self.norm, self.axis_name, self.dtype, name=f"up_norm_{level}")(x, train)
            if self.dropout and level >= len(self.widths) - 4:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = jnp.concatenate([nn.relu(x), skips[level]], -1)
            coarse = x if level == min(1, len(self.widths) - 2) else coarse
        num_layers = self.num_flows + (len(layers) or 1) if self.num_flows else 0
        if self.head_features:
            x = Conv(
                self.head_features, (3, 3), upsample=True, dtype=self.dtype, name="head_features"
            )(x)
            x = jnp.concatenate([nn.leaky_relu(x, 0.2), given], -1)
        x = Conv(
            3 + num_layers,
            (3, 3),
            upsample=not self.head_features,
            scale=0.1 if layers else 1.0,
            dtype=self.dtype,
            name="paint",
        )(x).astype(jnp.float32)
        picture, gates = x[..., :3], x[..., 3:]
        if not layers:
            picture = jnp.tanh(picture)
        if self.num_flows:
            # Small at first: moving by random flows would hide the reference frame.
            delta = Conv(2 * self.num_flows, (3, 3), scale=0.1, dtype=self.dtype, name="motion")(
                coarse
            )
            # Per frame ahead, in units of 1/64 of the picture: steady motion is a constant.
            unit = jnp.array([h, w] * self.num_flows) / 64
            motion = resize(delta.astype(jnp.float32) * unit, h, w)
            if flow is not None:
                motion = add_to_first(motion, flow)
            # Training starts near the best guess there is without it: what is known of objects and
            # background, or the newest reference, moved.
            gates += 3.0 * jax.nn.one_hot(num_layers - 1 if layers else 0, num_layers)
            # Painted over it, not beside it: a gate that nothing is gained by shuts for good.
            over, beside = (picture, layers) if layers else (0.0, [picture])
            picture = over + composite(newest, beside, gates, motion * ahead)
            if not train:  # Beyond, training would get no gradient.
                picture = jnp.clip(picture, -1, 1)
        return picture.reshape(b, t, h, w, 3)

    def _known(self, fusion, references, ahead):
        """What references tell of fusion pictures, as frames (b, t, h, w, 3): flat label colours; the
        pixels of objects over what is behind.
        """
        labels = self.label_colors
        flat = label_colors(fusion, references, labels)
        if not self.scene:
            return [flat]
        frames, pictures = jnp.split(references, 2, -1)
        seen = tracking.observe(pictures, labels)
        behind = background.observe_frames(frames, pictures, labels)
        cut = matting.cut_out(frames, pictures, seen, behind)
        # Fusion pictures tell where motion does not go on: until then it is believed.
        path = Trajectories((3.0, 0.0, -3.0), -6.0, name="trajectories")(
            *seen.start, ahead, fusion.shape[2:4]
        )
        angle = Rotation(name="rotation")(seen.rotation, seen.age, ahead)
        behind = behind.frames(Pan(name="pan")(behind.pans, ahead))
        return [flat, matting.draw(cut, seen, path, angle, fusion, behind, flat)]


def label_colors(
    fusion: Float[Array, "b t h w 3"], references: Float[Array, "b n h w 6"], num_labels: int
) -> Float[Array, "b t h w 3"]:
    """Each label of a fusion picture in the mean RGB colour that it has in the references.

    A label that no reference shows is grey (0). The labels are read from the pictures' colours.
    """
    frames, pictures = references[..., :3], references[..., 3:]
    _, labels = decode(fusion, num_labels)
    _, seen = decode(pictures, num_labels)
    seen = jax.nn.one_hot(seen, num_labels)
    total = jnp.einsum("bnhwk,bnhwc->bkc", seen, frames)
    mean = total / jnp.maximum(seen.sum((1, 2, 3)), 1.0)[..., None]
    return jnp.einsum("bthwk,bkc->bthwc", jax.nn.one_hot(labels, num_labels), mean)


class PatchDiscriminator(nn.Module):
    """Condition and frame -> patch logits (b, h', w'); 47-pixel receptive field as configured.

    After the notebook beside the paper, with the activation its first layer lacks.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    last_width: int = 256
    norm: str = "batch"
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def check(self) -> None:
        """Raises ValueError if a field has no meaning."""
        if self.norm not in NORMS:
            raise ValueError(f"discriminator.norm ({self.norm!r}) must be one of {NORMS}")

    def __call__(
        self, condition: Float[Array, "b h w _"], frame: Float[Array, "b h w c"], train: bool = True
    ) -> Float[Array, "b _ _"]:
        return self.activations(condition, frame, train)[0][-1]

    @nn.compact
    def activations(self, condition, frame, train: bool = True) -> list[list[jax.Array]]:
        """For its one scale what every layer gives, logits (b, h', w') last."""
        x, found = jnp.concatenate([condition, frame], -1).astype(self.dtype), []
        for level, features in enumerate((*self.widths, self.last_width)):
            stride = 2 if level < len(self.widths) else 1
            x = Conv(features, (3, 3), stride=stride, dtype=self.dtype, name=f"down_{level}")(x)
            if level:
                x = Norm(self.norm, self.axis_name, self.dtype, name=f"norm_{level}")(x, train)
            x = nn.leaky_relu(x, 0.2)
            found.append(x)
        logits = Conv(1, (3, 3), dtype=self.dtype, name="logits")(x)[..., 0]
        return [[*found, logits.astype(jnp.float32)]]
