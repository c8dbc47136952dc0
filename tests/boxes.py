"""Clips of boxes drawn by hand, and parameters of a scene that goes on as it was."""

import jax.numpy as jnp
import numpy as np

from vidpred_jax.proposals.forecast import Window

COLORS = np.array([[-0.9, -0.7, -0.8], [0.8, -0.3, -0.5], [-0.4, 0.6, -0.2], [0.1, 0.2, 0.9]])

# The long-term velocity alone, without decay; walls far outside.
CONSTANT = {"trust": jnp.array([3.0, -3, -3]), "decay": jnp.array([-3.0, -3])}
PARAMS = {
    "objects": {**CONSTANT, "wall": jnp.array([-9.0])},
    "rotation": {"trust": jnp.array([3.0, -3]), "decay": jnp.array([-3.0])},
    "pan": CONSTANT,
}


def draw(*boxes, size=32):
    """Edges and labels of (label, y, x) boxes of 6 x 6, later ones in front, each with an edge."""
    edges, labels = np.zeros((size, size), np.float32), np.zeros((size, size), np.int32)
    for label, y, x in boxes:
        box = np.s_[max(y, 0) : max(y + 6, 0), max(x, 0) : max(x + 6, 0)]
        labels[box], edges[box] = label, 0
        edges[y + 2, max(x + 1, 0) : max(x + 5, 0)] = 1
    return edges, labels


def clip(*pictures):
    """A window of (edges, labels), whose frames have a colour for each label."""
    edges, labels = (np.stack(part)[None] for part in zip(*pictures, strict=True))
    frames = COLORS[labels].astype(np.float32)
    return Window(*map(jnp.asarray, (frames, edges, labels)))


def moving(*boxes, frames=20, first=16):
    """A window of boxes, (y, x, dy, dx) each, that move by (dy, dx) a frame; and the frames after it."""
    at = lambda t: [(label, y + t * dy, x + t * dx) for label, (y, x, dy, dx) in enumerate(boxes, 1)]
    return split(clip(*(draw(*at(t)) for t in range(frames))), first)


def split(whole, first=16):
    """The first frames of a window, and those that follow."""
    after = Window(whole.frames[:, first:], whole.edges[:, first:], whole.labels[:, first:])
    return whole.until(first), after
