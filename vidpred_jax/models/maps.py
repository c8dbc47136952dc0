"""The two forms of a map, what stage 1 predicts: planes (ours), or the paper's fusion picture.

A form says how a map is made from a clip's arrays, rendered for people and metrics, told apart into edges
and labels, and compared in training. A network gives raw values: added to a base, where it has
proposals, and then made a map by `activate`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8

from vidpred_jax.data import fusion
from vidpred_jax.models import losses

_CERTAIN = 8.0  # The logit of what a proposal holds for true.


@dataclasses.dataclass(frozen=True)
class Planes:
    """A plane of edges and one for each label, all 0 to 1: both are known at one place.

    Raw values are logits: of an edge, and of each label.
    """

    num_labels: int
    field = "planes"

    @property
    def channels(self) -> int:
        return 1 + self.num_labels

    def encode(self, planes: UInt8[Array, "*b h w 2"]) -> Float[Array, "*b h w c"]:
        """The map of edges (0 to 255) and labels; a label beyond `num_labels` counts as background."""
        return self.join(planes[..., 0].astype(jnp.float32) / 255, planes[..., 1].astype(jnp.int32))

    def join(self, edges: Float[Array, "*b h w"], labels: Int[Array, "*b h w"]) -> Float[Array, "*b h w c"]:
        """The map of edges (0 to 1) and labels."""
        labels = jnp.where(labels < self.num_labels, labels, 0)
        return jnp.concatenate([edges[..., None], jax.nn.one_hot(labels, self.num_labels)], -1)

    def base(self, maps: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """The raw values of a map that a proposal holds for true; of few labels `activate` gives it back to
        0.1 %, of 256 to 8 %."""
        edges, labels = jnp.split(maps, [1], -1)
        edges = jax.scipy.special.logit(jnp.clip(edges, 1e-6, 1 - 1e-6))
        return jnp.concatenate([jnp.clip(edges, -_CERTAIN, _CERTAIN), _CERTAIN * labels], -1)

    def activate(self, raw: Float[Array, "*b c"], based: bool = False) -> Float[Array, "*b c"]:
        """A map of raw values."""
        edges, labels = jnp.split(raw, [1], -1)
        return jnp.concatenate([jax.nn.sigmoid(edges), jax.nn.softmax(labels)], -1)

    def decode(self, maps: Float[Array, "*b c"]) -> tuple[Float[Array, "*b"], Int[Array, "*b"]]:
        """Edges, 0 to 1, and the most probable labels."""
        return maps[..., 0], jnp.argmax(maps[..., 1:], -1)

    def render(self, maps: Float[Array, "*b c"]) -> Float[Array, "*b 3"]:
        """The expected fusion picture, in [-1, 1]."""
        edges, labels = jnp.split(maps, [1], -1)
        colors = fusion.to_float(jnp.asarray(fusion.PALETTE[: self.num_labels]))
        return edges + (1 - edges) * (labels @ colors)

    def losses(
        self, raw: Float[Array, " b *thwc"], target: Float[Array, " b *thwc"], names, based=False
    ) -> dict[str, Float[Array, " b"]]:
        """Cross-entropy of `edges` (binary) and `labels`, means over pixels in nats."""
        mean = lambda x: x.mean(axis=range(1, x.ndim))
        edges = mean(optax.sigmoid_binary_cross_entropy(raw[..., 0], target[..., 0]))
        labels = mean(optax.softmax_cross_entropy(raw[..., 1:], target[..., 1:]))
        return {n: x for n, x in {"edges": edges, "labels": labels}.items() if n in names}


@dataclasses.dataclass(frozen=True)
class Picture:
    """The paper's fusion picture, or an RGB frame, in [-1, 1]. field: which of a clip's arrays it is.

    squash: whether raw values without a base pass a tanh, as in the paper.
    """

    field: str = "fusion"
    squash: bool = True
    channels = 3

    def encode(self, pictures: UInt8[Array, "*b 3"]) -> Float[Array, "*b 3"]:
        return fusion.to_float(pictures)

    def join(self, edges: Float[Array, "*b h w"], labels: Int[Array, "*b h w"]) -> Float[Array, "*b h w 3"]:
        """The picture of edges (0 to 1) and labels."""
        colors = fusion.to_float(jnp.asarray(fusion.PALETTE))[labels]
        return jnp.maximum(colors, 2 * edges[..., None] - 1)

    def base(self, maps):
        """A picture is its own raw value."""
        return maps

    def activate(self, raw: Float[Array, "*b 3"], based: bool = False) -> Float[Array, "*b 3"]:
        """A picture of raw values. based: whether a base is among them."""
        if based:
            return jnp.clip(raw, -1, 1)
        return jnp.tanh(raw) if self.squash else raw

    def decode(self, maps: Float[Array, "*b 3"]):
        """Edges and labels, guessed from colours; for metrics alone."""
        edges, labels = fusion.decode(maps)
        return edges.astype(jnp.float32), labels

    def render(self, maps: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
        return maps

    def losses(self, raw, target, names, based: bool = False) -> dict[str, Float[Array, " b"]]:
        """As `losses.of_pictures`."""
        # Clipped, it would get no gradient.
        return losses.of_pictures(raw if based else self.activate(raw), target, names)


def make(name: str, num_labels: int) -> Planes | Picture:
    """A form by a config's `maps`."""
    return Planes(num_labels) if name == "planes" else Picture()
