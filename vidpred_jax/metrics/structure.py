"""What a prediction gets right of the scene: edges and labels of fusion pictures."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from vidpred_jax.data import fusion


@jax.jit
def edge_f1(pred: Num[Array, "*b h w 3"], target: Num[Array, "*b h w 3"]) -> Num[Array, "*b"]:
    """F1 of predicted against true edges of fusion pictures in [0, 255], 1 pixel of tolerance.

    Precision: predicted edge pixels with a true one among their 8 neighbours or at their place;
    recall: the reverse. 1 if neither picture has edges, 0 if only one has.
    """
    (found, _), (true, _) = (fusion.decode(_signed(x)) for x in (pred, target))

    def share(edges, near):
        return (edges & near).sum((-2, -1)) / jnp.maximum(edges.sum((-2, -1)), 1)

    precision, recall = share(found, _dilate(true)), share(true, _dilate(found))
    f1 = 2 * precision * recall / jnp.maximum(precision + recall, 1e-9)
    return jnp.where(~found.any((-2, -1)) & ~true.any((-2, -1)), 1.0, f1)


@functools.partial(jax.jit, static_argnames="num_labels")
def miou(
    pred: Num[Array, "*b h w 3"], target: Num[Array, "*b h w 3"], num_labels: int = 4
) -> Num[Array, "*b"]:
    """Mean intersection over union of the object labels of fusion pictures in [0, 255].

    Over the labels from 1 to num_labels - 1 that either picture shows; 1 if none does.
    """
    (_, found), (_, true) = (fusion.decode(_signed(x), num_labels) for x in (pred, target))
    found, true = (jax.nn.one_hot(x, num_labels)[..., 1:] for x in (found, true))
    intersection = (found * true).sum((-3, -2))
    union = jnp.maximum(found, true).sum((-3, -2))
    shown = union > 0
    mean = (intersection / jnp.maximum(union, 1)).sum(-1) / jnp.maximum(shown.sum(-1), 1)
    return jnp.where(shown.any(-1), mean, 1.0)


def _signed(x):
    return fusion.to_float(jnp.asarray(x))


def _dilate(edges):
    rows = edges.at[..., 1:, :].max(edges[..., :-1, :]).at[..., :-1, :].max(edges[..., 1:, :])
    return rows.at[..., 1:].max(rows[..., :-1]).at[..., :-1].max(rows[..., 1:])
