"""pix2pixHD (Wang et al. 2018), the paper's baseline for the translator: fusion picture -> RGB frame.

The global generator, from the text of that paper; its discriminators at several scales are in
`discriminators.py`. The local enhancer (for 2048 x 1024) and the VGG loss (weights that we do not have)
are left out.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.data.sizes import check_multiple
from vidpred_jax.models.fields import require
from vidpred_jax.models.layers import NORMS, Conv, Norm
from vidpred_jax.models.translator import join_inputs


class Pix2PixHD(nn.Module):
    """The global generator: halvings, residual blocks at the lowest resolution, doublings.

    width: features at full resolution, doubled at each of `levels` halvings. blocks: residual blocks.
    reference_frames: 0 is the original; with n, the last n observed frames are input as well, as in
    `translator.Translator`.
    """

    width: int = 64
    levels: int = 4
    blocks: int = 9
    norm: str = "instance"
    reference_frames: int = 0
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        require(
            self,
            norm=(self.norm in NORMS, f"must be one of {NORMS}"),
            width=(self.width >= 1, "must be 1 or more"),
            levels=(0 <= self.levels <= 8, "must be 0 to 8"),
        )
        check_multiple((height, width), 2**self.levels)

    @nn.compact
    def __call__(
        self,
        maps: Float[Array, "b t h w c"],
        references: Float[Array, "b {self.reference_frames} h w _"],
        steps_ahead: Float[Array, "b t"],
        proposed: Float[Array, "b t h w _"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b t h w 3"]:
        """As `translator.Translator`."""
        b, t, h, w, _ = maps.shape
        x = join_inputs(maps, references, steps_ahead, proposed)

        def layer(x, features, name, size=3, **fields):
            x = Conv(features, (size, size), dtype=self.dtype, name=name, **fields)(x)
            return Norm(self.norm, self.axis_name, self.dtype, name=f"{name}_norm")(x, train)

        x = nn.relu(layer(x.astype(self.dtype), self.width, "first", 7))
        for level in range(1, self.levels + 1):
            x = nn.relu(layer(x, self.width * 2**level, f"down_{level}", stride=2))
        for block in range(self.blocks):
            y = nn.relu(layer(x, x.shape[-1], f"block_{block}_0"))
            x = x + layer(y, x.shape[-1], f"block_{block}_1")
        for level in reversed(range(self.levels)):
            x = nn.relu(layer(x, self.width * 2**level, f"up_{level}", upsample=True))
        x = Conv(3, (7, 7), dtype=self.dtype, name="paint")(x)
        return x.astype(jnp.float32).reshape(b, t, h, w, 3)
