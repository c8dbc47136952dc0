"""Stage 2 as compositing: each frame is blended from observed ones, moved on and blurred (ours)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models.candidates import (
    LEAST_FRAMES,
    NUM_CANDIDATES,
    NUM_LAGS,
    guess,
    magnitude,
    observe,
)
from vidpred_jax.models.layers import FUSION_NORMS, Conv, Norm
from vidpred_jax.models.ops import blend, resize, warp
from vidpred_jax.models.optical_flow import check_levels, extrapolate
from vidpred_jax.types import CONTEXT, HORIZON

_NEAR = 2.0  # What the gate of the guess moved along the first flow starts ahead at the first step.
# Under Adam, how many times faster these are learned: the trust in backtests, and what a guess's own
# say gains by 1 / ahead. The rest of that say, which rules far steps, is many numbers for little to
# learn from: it stays near what backtests make of it.
_LR_MULTIPLIER = 10.0
_TRUST = -1.0  # Softplus of it is the trust in each kind of backtest before training.
_CORRECTION = 0.2  # Weight of what the U-Net adds to the gates, unless `appearance`.


class Compositor(nn.Module):
    """Fusion picture -> RGB frame, both in [-1, 1], as a softmax blend of layers a clip brings itself.

    The layers are 28 guesses: the newest frame moved along four flows (over 1, 3 and 6 frames, and the
    first with half of its last change; followed back for as many frames as are asked for, at a speed that
    lasts or dies out), the newest as it is, and the mean of the observed frames, each at several blurs.
    Each guess is also made 1, 3, 7 and 11 frames ago and held against what came: what was wrong then, in
    the whole frame and, at two widths, about a place, counts less now (a forecast by backtested experts).
    How much less, and what counts how far ahead, are some 150 numbers, learned. So it holds on clips
    unlike those it was trained on. Far frames become smooth where that is the better guess. Beyond 32
    frames, on which it is trained, guesses are blended as there.

    A U-Net may correct each pixel's gates. It sees how the guesses differ, how good those by flow were, the
    newest fusion picture, the predicted one, and how far ahead it is.

    widths: the U-Net's features after each halving; () for none. reference_frames: observed frames seen,
    14 to 16. match: levels of the flows' pyramid (`motion.track`). detail: the U-Net's features at full
    resolution before the last layer. fusion: whether it sees the predicted fusion picture. appearance:
    whether it also sees colours, turns the flows and paints a correction, to learn a clip by heart.
    """

    widths: tuple[int, ...] = (24, 48, 72, 96)
    norm: str = "group"
    reference_frames: int = 16
    flow_levels: int = 5
    head_features: int = 16
    fusion: bool = True
    appearance: bool = False
    dtype: Any = jnp.float32

    @property
    def needs_fusion(self) -> bool:
        """Whether the predicted fusion picture is seen; without it frames may be of any size."""
        return bool(self.widths)

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        if self.norm not in FUSION_NORMS:
            raise ValueError(f"model.norm ({self.norm!r}) must be one of {FUSION_NORMS}")
        for field, low, high in (
            ("reference_frames", LEAST_FRAMES, CONTEXT),
            ("flow_levels", 1, 16),
            ("head_features", 1, 1024),
        ):
            if not low <= getattr(self, field) <= high:
                raise ValueError(f"model.{field} ({getattr(self, field)}) must be {low} to {high}")
        for field in ("fusion", "appearance"):
            if getattr(self, field) and not self.widths:
                raise ValueError(f"model.{field} needs model.widths of one number or more: a U-Net")
        check_levels(self.flow_levels, height, width, "model.flow_levels")
        space = 2 ** len(self.widths)
        if height % space or width % space:
            raise ValueError(f"picture size ({height} x {width}) must be a multiple of {space}")

    @nn.compact
    def __call__(
        self,
        fusion: Float[Array, "b t _ _ 3"],
        references: Float[Array, "b {self.reference_frames} h w 6"],
        ahead: Float[Array, "b t"],
        train: bool = False,
    ) -> Float[Array, "b t h w 3"]:
        """As `translator.Generator`. Without `fusion`, pictures may be of another size than frames."""
        (b, t), (h, w) = fusion.shape[:2], references.shape[2:4]
        self.check(h, w)
        every = lambda x: jnp.repeat(x, t, 0)  # What is known of a clip, for each of its pictures.
        seen = references[..., :3].astype(jnp.float32)
        observed = observe(seen, self.flow_levels)
        newest, mean = every(seen[:, -1]), every(seen.mean(1))
        step = ahead.reshape(b * t, 1, 1, 1)
        when = jnp.minimum(step, HORIZON)  # Beyond it gates stay as they are there.
        paths = [extrapolate(flow, ahead).reshape(b * t, h, w, 2) for flow in observed.flows]
        gates = self._gate_logits(when, observed)
        gates += _NEAR / when * jax.nn.one_hot(0, NUM_CANDIDATES)
        if self.widths:
            known, moved = every(observed.known), [warp(newest, path) for path in paths]
            # What was known where a pixel comes from goes with it.
            given = [known, warp(known, paths[0]), *(path / 32 for path in paths)]
            given += [
                magnitude(moved[0] - moved[1]),
                magnitude(moved[0] - newest),
                magnitude(moved[0] - mean),
            ]
            planes = jnp.concatenate([when / 16 - 1, 1 / when, jnp.log(when) / 2], -1)
            given.append(jnp.broadcast_to(planes, (b * t, h, w, 3)))
            if self.appearance:
                given += [newest, mean, *moved]
            given.append(every(references[:, -1, ..., 3:]))
            if self.fusion:
                given.append(fusion.reshape(b * t, h, w, 3))
            x, coarse = self._unet(jnp.concatenate(given, -1).astype(self.dtype))
            if self.appearance:
                paths = self._turn(coarse, paths, step)
            features = NUM_CANDIDATES + 3 * self.appearance
            x = Conv(features, (3, 3), dtype=self.dtype, name="blend")(x).astype(jnp.float32)
            correction, painted = jnp.split(x, [NUM_CANDIDATES], -1)
            gates += correction * (1.0 if self.appearance else _CORRECTION)
        frame = blend(gates, guess(newest, mean, paths, step))
        if self.appearance:
            frame += 0.1 * painted
        return frame.reshape(b, t, h, w, 3)

    def _gate_logits(self, when, observed):
        """What the gates gain by the step ahead, and lose by how wrong the same guesses were before."""
        far = jnp.concatenate([jnp.ones_like(when), when / 16 - 1, jnp.log(when) / 2], -1)

        def linear(n, scale, name):
            steps = jnp.concatenate([scale * far, _LR_MULTIPLIER / when], -1)
            zeros = nn.initializers.zeros
            return nn.Dense(n, use_bias=False, kernel_init=zeros, name=name)(steps)

        gates = linear(NUM_CANDIDATES, 1.0, "prior")
        for name, errors in sorted(observed.errors.items()):
            weight = jax.nn.softplus(linear(NUM_LAGS, _LR_MULTIPLIER, f"weight_{name}") + _TRUST)
            gates -= (weight[..., None] * jnp.repeat(errors, len(when) // len(errors), 0)).sum(3)
        return gates

    def _turn(self, coarse, paths, step):
        _, h, w, _ = paths[0].shape
        turns = Conv(2 * len(paths), (3, 3), scale=0.1, dtype=self.dtype, name="motion")(coarse)
        turns = resize(turns.astype(jnp.float32) * jnp.array([h, w] * len(paths)) / 64, h, w)
        turns = jnp.split(turns * step, len(paths), -1)
        return [path + turn for path, turn in zip(paths, turns, strict=True)]

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
        fine = Conv(
            self.head_features, (3, 3), upsample=True, dtype=self.dtype, name="head_features"
        )(x)
        direct = Conv(self.head_features, (1, 1), dtype=self.dtype, name="direct")(given)
        return nn.leaky_relu(fine + direct, 0.2), x
