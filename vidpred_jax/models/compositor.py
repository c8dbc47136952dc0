"""Stage 2 as compositing: each frame is a blend of observed frames, moved and blurred (ours)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.data.sizes import check_multiple
from vidpred_jax.models import candidates
from vidpred_jax.models.candidates import (
    NUM_CANDIDATES,
    NUM_FLOWS,
    NUM_LAGS,
    Observations,
    extrapolate_all,
    magnitude,
    move,
)
from vidpred_jax.models.fields import CONTEXT_RULE, CONTEXTS, require
from vidpred_jax.models.layers import FUSION_NORMS, Conv, Norm
from vidpred_jax.models.ops import exact_einsum, resize, warp
from vidpred_jax.models.optical_flow import check_levels
from vidpred_jax.types import HORIZON

_NEAR = 2.0  # Initial gate logit of the candidate moved along the first flow, one step ahead.
# Under Adam, the weights of backtests and the part of the prior that decays as 1 / steps_ahead learn
# this many times faster. The rest of the prior, many numbers for few data, stays close to zero.
_LR_MULTIPLIER = 10.0
_TRUST = -1.0  # Its softplus is the initial weight of each kind of backtest error.
_CORRECTION = 0.2  # Factor of the U-Net's gate logits, unless `appearance`.


class Compositor(nn.Module):
    """Fusion picture -> RGB frame, both in [-1, 1]: a softmax blend of 28 candidate frames.

    Candidates (`candidates.py`): the newest frame, warped along four flows (over 1, 3 and 6 frames, and
    the first plus half of its last change) that keep their speed or slow down; the newest frame as it
    is; the mean of the observed frames; each at several blurs. Each is also made 1, 3, 7 and 11 frames
    ago, as far as the window reaches, and compared with the frames that followed. The larger its error,
    over the frame and at two widths around a pixel, the smaller its gate. About 150 learned numbers weigh
    these errors and the step, so it works on clips unlike the training clips. Steps beyond 32, on which
    it is not trained, are blended as step 32.

    An optional U-Net corrects the gates of each pixel. Its input: differences between candidates,
    backtest errors, the newest and the predicted fusion picture, and the step.

    widths: the U-Net's features after each halving; () for no U-Net. reference_frames: observed frames
    that are used, at most. flow_levels: pyramid levels of the flows (`optical_flow.track`).
    head_features: the U-Net's features at full resolution before the last layer. fusion: whether it sees
    the predicted fusion picture. appearance: whether it also sees colours, and adds residual flows and a
    painted residual, to memorise a clip.
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
        """Whether fusion pictures are an input; without them frames may be of any size."""
        return bool(self.widths)

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        unet = "needs model.widths of one number or more: a U-Net"
        require(
            self,
            norm=(self.norm in FUSION_NORMS, f"must be one of {FUSION_NORMS}"),
            reference_frames=(self.reference_frames in CONTEXTS, CONTEXT_RULE),
            flow_levels=(1 <= self.flow_levels <= 16, "must be 1 to 16"),
            head_features=(1 <= self.head_features <= 1024, "must be 1 to 1024"),
            fusion=(self.widths or not self.fusion, unet),
            appearance=(self.widths or not self.appearance, unet),
        )
        check_levels(self.flow_levels, height, width, "model.flow_levels")
        check_multiple((height, width), 2 ** len(self.widths))

    def observe(self, references: Float[Array, "b n h w 6"]) -> Observations:
        """What the observed frames alone determine, for all steps of a rollout. No parameters.

        references: four or more; the last `reference_frames` are used.
        """
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
        """references, steps_ahead: as of `translator.Generator`. observations: `observe(references)`;
        None: computed here. Without `widths`, fusion pictures may be of another size than frames.
        """
        (b, t), (h, w) = fusion.shape[:2], references.shape[2:4]
        self.check(h, w)
        if observations is None:
            observations = self.observe(references)
        displacements = extrapolate_all(observations.flows, steps_ahead)
        gates = self._gate_logits(jnp.minimum(steps_ahead, HORIZON), observations.errors)
        if self.widths:
            given = self._given(fusion, references, observations, displacements, steps_ahead)
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
            layers = move(observations.newest, displacements, steps_ahead)
            layers += [observations.still[:, i] for i in range(observations.still.shape[1])]
            shares = jax.nn.softmax(gates, 1)
            # Written out: XLA:CPU's own sum takes several times as long.
            return sum(shares[:, i, None] * layer for i, layer in enumerate(layers))

        by_step = jax.tree.map(lambda x: x.swapaxes(0, 1), (displacements, gates, steps_ahead))
        frames = jnp.moveaxis(jax.lax.map(blend, by_step), (0, 2), (1, -1))
        return frames + 0.1 * painted if self.appearance else frames

    def _given(self, fusion, references, observations, displacements, steps_ahead):
        """The U-Net's input, (b * t, h, w, c)."""
        t = fusion.shape[1]
        each = lambda x: jnp.repeat(x, t, 0)  # The same for each frame of a clip.
        newest, mean = each(observations.newest), each(observations.mean)
        known = each(observations.known)
        n, h, w, _ = newest.shape
        displacements = jnp.moveaxis(displacements.reshape(n, -1, h, w, 2), 1, 0)
        moved = [warp(newest, displacement) for displacement in displacements]
        # The known planes, and the same moved as the pixels that they describe.
        given = [known, warp(known, displacements[0])]
        given += [displacement / 32 for displacement in displacements]
        given += [magnitude(moved[0] - other) for other in (moved[1], newest, mean)]
        steps = jnp.minimum(steps_ahead, HORIZON).reshape(n, 1, 1, 1)
        planes = jnp.concatenate([steps / 16 - 1, 1 / steps, jnp.log(steps) / 2], -1)
        given.append(jnp.broadcast_to(planes, (n, h, w, 3)))
        if self.appearance:
            given += [newest, mean, *moved]
        given.append(each(references[:, -1, ..., 3:]))
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
