"""SimVP-style direct prediction (after Gao et al. 2022): RGB frames in, RGB frames out, convolutions alone.

A deterministic baseline of today, beside the two stages of the paper: an encoder for each frame, a
translator over all frames' features at once, a decoder. Residual blocks of 3 x 3 convolutions stand in
the place of its inception modules.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.data.sizes import check_multiple
from vidpred_jax.models.fields import require
from vidpred_jax.models.layers import FUSION_NORMS, Conv, Norm


class SimVP(nn.Module):
    """`context` frames in [-1, 1] in, the next `shift` out; fed with its own output for more.

    width: features of a frame. strides: of the encoder's layers. hidden: features of the translator,
    whose input is all frames' features side by side. blocks: its residual blocks. shift: 0 for as many
    as the context.
    """

    width: int = 32
    strides: tuple[int, ...] = (1, 2, 1, 2)
    hidden: int = 256
    blocks: int = 4
    norm: str = "group"
    context: int = 16
    shift: int = 0
    dtype: Any = jnp.float32

    def __post_init__(self):
        self.shift = self.shift or self.context
        super().__post_init__()

    @property
    def outputs(self) -> int:
        """Frames that each call predicts."""
        return self.shift

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        require(
            self,
            norm=(self.norm in FUSION_NORMS, f"must be one of {FUSION_NORMS}"),
            strides=(bool(self.strides) and set(self.strides) <= {1, 2}, "must be one or more of 1 and 2"),
            shift=(self.shift >= 1, "must be 1 or more, or 0 for the context"),
        )
        check_multiple((height, width), 2 ** self.strides.count(2))

    @nn.compact
    def __call__(self, x: Float[Array, "b {self.context} h w c"]) -> Float[Array, "b {self.shift} h w c"]:
        b, t, h, w, c = x.shape
        # Skips lead from the newest frames; beyond the context, from the newest one.
        first = max(t - self.shift, 0)
        sources = np.minimum(first + np.arange(self.shift), t - 1)
        skip = lambda x: _take(x.reshape(b, t, *x.shape[1:]), sources)
        x, fine = x.reshape(b * t, h, w, c).astype(self.dtype), None
        for number, stride in enumerate(self.strides):
            x = self._block(x, self.width, f"encode_{number}", stride=stride)
            fine = skip(x) if fine is None else fine
        coarse = _side_by_side(skip(x))
        x = _side_by_side(x.reshape(b, t, *x.shape[1:]))
        x = self._block(x, self.hidden, "enter")
        for number in range(self.blocks):
            y = self._block(x, self.hidden, f"mix_{number}_0")
            x = x + self._block(y, self.hidden, f"mix_{number}_1")
        x = coarse + Conv(coarse.shape[-1], (3, 3), dtype=self.dtype, name="leave")(x)
        x = x.reshape(*x.shape[:3], self.shift, self.width).transpose(0, 3, 1, 2, 4)
        x = x.reshape(-1, *x.shape[2:])
        for number, stride in reversed(list(enumerate(self.strides))):
            x = x if number else jnp.concatenate([x, fine.reshape(-1, *fine.shape[2:])], -1)
            x = self._block(x, self.width, f"decode_{number}", upsample=stride == 2)
        x = Conv(c, (1, 1), dtype=self.dtype, name="paint")(x)
        return x.astype(jnp.float32).reshape(b, self.shift, h, w, c)

    def _block(self, x, features, name, **fields):
        x = Conv(features, (3, 3), dtype=self.dtype, name=name, **fields)(x)
        return nn.silu(Norm(self.norm, dtype=self.dtype, name=f"{name}_norm")(x))


def _take(clip, places):
    """clip[:, places] of consecutive places, the last perhaps repeated: without a gather."""
    first, last = places[0], places[-1]
    repeated = jnp.repeat(clip[:, last : last + 1], len(places) - (last - first), 1)
    return jnp.concatenate([clip[:, first:last], repeated], 1)


def _side_by_side(x):
    """(b, t, h, w, c) -> (b, h, w, t * c)."""
    b, t, h, w, c = x.shape
    return x.transpose(0, 2, 3, 1, 4).reshape(b, h, w, t * c)
