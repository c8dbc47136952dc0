"""Stage 2 as compositing: each frame is blended from observed ones, moved on and blurred (ours)."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models.layers import FUSION_NORMS, Conv, Norm
from vidpred_jax.models.motion import check_levels, extrapolate, track
from vidpred_jax.models.warping import blend, blur, resize, sum_channels, warp, warp_fine
from vidpred_jax.types import CONTEXT

_SPANS = (1, 3, 6)  # Frames between the newest and those that its flows are found against.
_AGO = (3, 7)  # How many frames ago guesses are made again, to see what they were worth.
# In pixels. What stands still is blurred further: far ahead that is the best guess of many clips.
# Long spans know the motion that lasts, short ones the next frame.
_MOVED_BLURS = ((0, 1.5), (1, 1.5), (1, 4.0), (2, 3.0), (2, 10.0))
_STILL_BLURS = (3.0, 8.0, 16.0)
_NEAR = 2.0  # What the gate of the layer moved by the first flow starts ahead.


class Compositor(nn.Module):
    """Fusion picture -> RGB frame, both in [-1, 1], as a softmax blend of layers a clip brings itself.

    The layers: the newest frame moved along three flows (over 1, 3 and 6 frames, followed back for as
    many frames as are asked for), the newest as it is, and the mean of the observed frames, each also at
    several blurs. A U-Net sees how these differ, how well such guesses would have done a few frames
    ago, the newest fusion picture, the predicted one, and how far ahead it is; it gives each pixel its
    blend and what is added to the flows. So what it must learn is where to trust what, not what
    things look like: it holds on clips unlike those it was trained on. Far frames become smooth where
    that is the better guess, and only there.

    widths: features after each halving. reference_frames: observed frames seen, 9 to 16. match:
    levels of the flows' pyramid (`motion.track`). detail: features at full resolution before the
    last layer. fusion: whether the predicted fusion picture is seen. fine: whether there is one more
    layer, moved along the first flow without the blur of bilinear interpolation. appearance: whether
    the net also sees colours and paints a correction.
    """

    widths: tuple[int, ...] = (24, 48, 72, 96)
    norm: str = "group"
    reference_frames: int = 16
    match: int = 5
    detail: int = 16
    fusion: bool = True
    fine: bool = False
    appearance: bool = False
    dtype: Any = jnp.float32

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        if self.norm not in FUSION_NORMS:
            raise ValueError(f"model.norm ({self.norm!r}) must be one of {FUSION_NORMS}")
        least = max(max(_SPANS) + 1, max(_AGO) + 2)
        for field, low, high in (
            ("reference_frames", least, CONTEXT),
            ("match", 1, 16),
            ("detail", 1, 1024),
        ):
            if not low <= getattr(self, field) <= high:
                raise ValueError(f"model.{field} ({getattr(self, field)}) must be {low} to {high}")
        if not self.widths:
            raise ValueError("model.widths () must hold one number or more")
        check_levels(self.match, height, width, "model.match")
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
        """As `translator.Generator`."""
        b, t, h, w, _ = fusion.shape
        self.check(h, w)
        every = lambda x: jnp.repeat(x, t, 0)  # What is known of a clip, for each of its pictures.
        seen = references[..., :3].astype(jnp.float32)
        flows, known = _observe(seen, self.match)
        still = [
            x for x in (seen[:, -1], seen.mean(1)) for x in (x, *(blur(x, s) for s in _STILL_BLURS))
        ]
        still, known = [*map(every, still)], every(known)
        newest, mean = still[0], still[1 + len(_STILL_BLURS)]
        step = ahead.reshape(b * t, 1, 1, 1)
        paths = [extrapolate(flow, ahead).reshape(b * t, h, w, 2) for flow in flows]
        moved = [warp(newest, path) for path in paths]
        # What was known where a pixel comes from goes with it.
        given = [known, warp(known, paths[0]), *(path / 32 for path in paths)]
        given += [_size(moved[0] - moved[1]), _size(moved[0] - newest), _size(moved[0] - mean)]
        planes = jnp.concatenate([step / 16 - 1, 1 / step, jnp.log(step) / 2], -1)
        given.append(jnp.broadcast_to(planes, (b * t, h, w, 3)))
        if self.appearance:
            given += [newest, mean, *moved]
        given.append(every(references[:, -1, ..., 3:]))
        if self.fusion:
            given.append(fusion.reshape(b * t, h, w, 3))
        x, coarse = self._unet(jnp.concatenate(given, -1).astype(self.dtype))
        turns = Conv(2 * len(paths), (3, 3), scale=0.1, dtype=self.dtype, name="motion")(coarse)
        turns = resize(turns.astype(jnp.float32) * jnp.array([h, w] * len(paths)) / 64, h, w)
        turns = jnp.split(turns * step, len(paths), -1)
        moved = [warp(newest, p + turn) for p, turn in zip(paths, turns, strict=True)]
        fine = [warp_fine(newest, paths[0] + turns[0])] if self.fine else []
        layers = [*moved, *fine, *(blur(moved[i], sigma) for i, sigma in _MOVED_BLURS), *still]
        painted = 3 * self.appearance
        x = Conv(len(layers) + painted, (3, 3), dtype=self.dtype, name="blend")(x)
        x = x.astype(jnp.float32)
        gates = x[..., : len(layers)] + _NEAR * jax.nn.one_hot(0, len(layers))
        frame = blend(gates, layers)
        if self.appearance:
            frame += 0.1 * x[..., len(layers) :]
        return frame.reshape(b, t, h, w, 3)

    def _unet(self, given):
        """Features at full and at half resolution."""
        x, skips = given, []
        for level, features in enumerate(self.widths):
            x = Conv(features, (3, 3), stride=2, dtype=self.dtype, name=f"down_{level}")(x)
            if level:
                x = Norm(self.norm, dtype=self.dtype, name=f"down_norm_{level}")(x)
            x = nn.leaky_relu(x, 0.2)
            skips.append(x)
        for level in reversed(range(len(self.widths) - 1)):
            features = self.widths[level]
            x = Conv(features, (3, 3), upsample=True, dtype=self.dtype, name=f"up_{level}")(x)
            x = Norm(self.norm, dtype=self.dtype, name=f"up_norm_{level}")(x)
            x = jnp.concatenate([nn.relu(x), skips[level]], -1)
        fine = Conv(self.detail, (3, 3), upsample=True, dtype=self.dtype, name="detail")(x)
        direct = Conv(self.detail, (1, 1), dtype=self.dtype, name="direct")(given)
        return nn.leaky_relu(fine + direct, 0.2), x


def _observe(seen: Float[Array, "b n h w 3"], levels: int):
    """(the newest frame's flows per frame over `_SPANS`, what else is known of its pixels)."""
    newest, mean = seen[:, -1], seen.mean(1)
    pairs = [(-1 - span, -1) for span in _SPANS] + [(-2 - ago, -1 - ago) for ago in _AGO]
    before, after = (
        jnp.concatenate([seen[:, i] for i in side]) for side in zip(*pairs, strict=True)
    )
    flow = track(before, after, levels)
    missed = jnp.split(_size(after - warp(before, flow)), len(pairs))[: len(_SPANS)]
    flow = jnp.split(flow, len(pairs))
    flows = [flow[i] / span for i, span in enumerate(_SPANS)]
    smooth = [newest, *(blur(newest, sigma) for sigma in (1.5, 4.0))]
    known = [
        jnp.sqrt(jnp.square(seen - mean[:, None]).mean((1, -1)) + 1e-6)[..., None],
        _size(newest - mean),
        _size(newest - seen[:, -2]),
        *missed,
        *(_size(fine - coarse) for fine, coarse in itertools.pairwise(smooth)),
        *(flow / 8 for flow in flows),
    ]
    # What such guesses would have been worth, had they been made some frames ago.
    for i, ago in enumerate(_AGO, start=len(_SPANS)):
        past = seen[:, -1 - ago]
        path = extrapolate(flow[i], jnp.full((len(seen), 1), float(ago)))[:, 0]
        known += [_size(newest - warp(past, path)), _size(newest - past)]
        known.append((path / ago - flows[0]) / 8)
    return flows, jnp.concatenate(known, -1)


def _size(x):
    """Mean absolute value over channels."""
    return sum_channels(jnp.abs(x)) / x.shape[-1]
