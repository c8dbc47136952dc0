"""Stage 2 as compositing: each frame is blended from observed ones, moved on and blurred (ours)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models import candidates
from vidpred_jax.models.candidates import (
    LEAST_FRAMES,
    NUM_CANDIDATES,
    NUM_FLOWS,
    NUM_LAGS,
    Observations,
    extrapolate_all,
    magnitude,
    move,
)
from vidpred_jax.models.layers import FUSION_NORMS, Conv, Norm
from vidpred_jax.models.ops import exact_einsum, resize, warp
from vidpred_jax.models.optical_flow import check_levels
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

    def observe(self, references: Float[Array, "b n h w 6"]) -> Observations:
        """What the observed frames tell, for any number of calls; without parameters."""
        frames = references[:, -self.reference_frames :, ..., :3].astype(jnp.float32)
        return candidates.observe(frames, self.flow_levels)

    @nn.compact
    def __call__(
        self,
        fusion: Float[Array, "b t _ _ 3"],
        references: Float[Array, "b n h w 6"],
        steps_ahead: Float[Array, "b t"],
        observations: Observations | None = None,
        train: bool = False,
    ) -> Float[Array, "b t h w 3"]:
        """As `translator.Generator`; observations: of the references, computed here if None.

        Without `widths`, fusion pictures may be of another size than frames.
        """
        (b, t), (h, w) = fusion.shape[:2], references.shape[2:4]
        self.check(h, w)
        seen = self.observe(references) if observations is None else observations
        displacements = extrapolate_all(seen.flows, steps_ahead)
        gates = self._gate_logits(jnp.minimum(steps_ahead, HORIZON), seen.errors)
        if self.widths:
            given = self._given(fusion, references, seen, displacements, steps_ahead)
            x, coarse = self._unet(given.astype(self.dtype))
            if self.appearance:
                residual = self._residual_flow(coarse, h, w).reshape(displacements.shape)
                displacements += residual * steps_ahead[..., None, None, None, None]
            features = NUM_CANDIDATES + 3 * self.appearance
            x = Conv(features, (3, 3), dtype=self.dtype, name="blend")(x).astype(jnp.float32)
            correction, painted = jnp.split(x.reshape(b, t, h, w, features), [NUM_CANDIDATES], -1)
            correction *= 1.0 if self.appearance else _CORRECTION
            gates += jnp.moveaxis(correction, -1, 2)

        def blend(step):  # One step at a time: what it reads and writes stays in the cache.
            displacements, gates, steps_ahead = step
            layers = move(seen.newest, displacements, steps_ahead)
            layers += [seen.still[:, i] for i in range(seen.still.shape[1])]
            shares = jax.nn.softmax(gates, 1)
            # Written out: XLA:CPU's own sum takes several times as long.
            return sum(shares[:, i, None] * layer for i, layer in enumerate(layers))

        by_step = jax.tree.map(lambda x: x.swapaxes(0, 1), (displacements, gates, steps_ahead))
        frames = jnp.moveaxis(jax.lax.map(blend, by_step), (0, 2), (1, -1))
        return frames + 0.1 * painted if self.appearance else frames

    def _given(self, fusion, references, seen, displacements, steps_ahead):
        """The U-Net's input, (b * t, h, w, c)."""
        t = fusion.shape[1]
        every = lambda x: jnp.repeat(x, t, 0)  # Of a clip, for each of its frames.
        newest, mean, known = every(seen.newest), every(seen.mean), every(seen.known)
        n, h, w, _ = newest.shape
        displacements = jnp.moveaxis(displacements.reshape(n, -1, h, w, 2), 1, 0)
        moved = [warp(newest, displacement) for displacement in displacements]
        # The known planes, and the same moved as the pixels that they describe.
        given = [known, warp(known, displacements[0])]
        given += [displacement / 32 for displacement in displacements]
        given += [magnitude(moved[0] - other) for other in (moved[1], newest, mean)]
        when = jnp.minimum(steps_ahead, HORIZON).reshape(n, 1, 1, 1)
        planes = jnp.concatenate([when / 16 - 1, 1 / when, jnp.log(when) / 2], -1)
        given.append(jnp.broadcast_to(planes, (n, h, w, 3)))
        if self.appearance:
            given += [newest, mean, *moved]
        given.append(every(references[:, -1, ..., 3:]))
        if self.fusion:
            given.append(fusion.reshape(n, h, w, 3))
        return jnp.concatenate(given, -1)

    def _gate_logits(self, steps_ahead, errors):
        """(b, t, NUM_CANDIDATES, h, w): a prior by the step, minus the weighted backtest errors."""
        step = steps_ahead[..., None]
        features = jnp.concatenate([jnp.ones_like(step), step / 16 - 1, jnp.log(step) / 2], -1)

        def linear(n, scale, name):
            inputs = jnp.concatenate([scale * features, _LR_MULTIPLIER / step], -1)
            zeros = nn.initializers.zeros
            return nn.Dense(n, use_bias=False, kernel_init=zeros, name=name)(inputs)

        gates = linear(NUM_CANDIDATES, 1.0, "prior")
        gates += _NEAR / step * jax.nn.one_hot(0, NUM_CANDIDATES)
        gates = gates[..., None, None]
        for name, error in sorted(errors.items()):
            weight = jax.nn.softplus(linear(NUM_LAGS, _LR_MULTIPLIER, f"weight_{name}") + _TRUST)
            gates -= exact_einsum("btl,blkhw->btkhw", weight, error)
        return gates

    def _residual_flow(self, coarse, h, w):
        """(b * t, NUM_FLOWS, h, w, 2): what the U-Net adds to each flow, in pixels a frame."""
        flow = Conv(2 * NUM_FLOWS, (3, 3), scale=0.1, dtype=self.dtype, name="motion")(coarse)
        flow = resize(flow.astype(jnp.float32) * jnp.array([h, w] * NUM_FLOWS) / 64, h, w)
        return jnp.moveaxis(flow.reshape(-1, h, w, NUM_FLOWS, 2), 3, 1)

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
