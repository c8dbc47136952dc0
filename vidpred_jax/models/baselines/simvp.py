"""SimVP-style direct prediction (after Gao et al. 2022): RGB frames in, RGB frames out, convolutions alone.

A deterministic baseline of today, beside the two stages of the paper: an encoder that sees each
frame by itself, a translator over all frames' features at once, a decoder. Residual blocks of 3 x 3
convolutions stand in the place of its inception modules.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models.layers import FUSION_NORMS, Conv, Norm
from vidpred_jax.types import CONTEXT


class SimVP(nn.Module):
    """16 frames in [-1, 1] in, the next 16 out; fed with its own output for more.

    width: features of a frame. strides: of the encoder's layers. hidden: features of the translator,
    which sees all frames' features side by side. blocks: its residual blocks.
    """

    width: int = 32
    strides: tuple[int, ...] = (1, 2, 1, 2)
    hidden: int = 256
    blocks: int = 4
    norm: str = "group"
    context: int = CONTEXT
    dtype: Any = jnp.float32

    @property
    def shift(self) -> int:
        """How many frames each call predicts: a block."""
        return self.context

    outputs = shift

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        if self.norm not in FUSION_NORMS:
            raise ValueError(f"model.norm ({self.norm!r}) must be one of {FUSION_NORMS}")
        if not self.strides or not set(self.strides) <= {1, 2}:
            raise ValueError(f"model.strides {self.strides} must be one or more of 1 and 2")
        if self.context != CONTEXT:
            raise ValueError(f"model.context ({self.context}) must be {CONTEXT}")
        space = 2 ** sum(stride == 2 for stride in self.strides)
        if height % space or width % space:
            raise ValueError(f"picture size ({height} x {width}) must be a multiple of {space}")

    def observe(self, clip: Float[Array, "b t h w c"]) -> None:
        """Nothing of an observed clip is remembered beside the frames that are fed back."""

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        b, t, h, w, c = x.shape
        self.check(h, w)
        x, first = x.reshape(b * t, h, w, c).astype(self.dtype), None
        for number, stride in enumerate(self.strides):
            x = self._block(x, self.width, f"encode_{number}", stride=stride)
            first = x if first is None else first
        _, height, width, features = x.shape
        x = x.reshape(b, t, height, width, features).transpose(0, 2, 3, 1, 4)
        skip = x = x.reshape(b, height, width, t * features)
        x = self._block(x, self.hidden, "enter")
        for number in range(self.blocks):
            y = self._block(x, self.hidden, f"mix_{number}_0")
            x = x + self._block(y, self.hidden, f"mix_{number}_1")
        x = skip + Conv(t * features, (3, 3), dtype=self.dtype, name="leave")(x)
        x = x.reshape(b, height, width, t, features).transpose(0, 3, 1, 2, 4)
        x = x.reshape(b * t, height, width, features)
        for number, stride in reversed(list(enumerate(self.strides))):
            x = x if number else jnp.concatenate([x, first], -1)
            x = self._block(x, self.width, f"decode_{number}", upsample=stride == 2)
        x = Conv(c, (1, 1), dtype=self.dtype, name="paint")(x)
        return x.astype(jnp.float32).reshape(b, t, h, w, c)

    def _block(self, x, features, name, **fields):
        x = Conv(features, (3, 3), dtype=self.dtype, name=name, **fields)(x)
        return nn.silu(Norm(self.norm, dtype=self.dtype, name=f"{name}_norm")(x))
