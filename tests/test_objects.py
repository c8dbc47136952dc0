"""Objects carried whole, against pictures drawn by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from vidpred_jax import fusion
from vidpred_jax.models import objects

COLORS = [fusion.to_float(fusion.PALETTE[i].astype(np.float32)) for i in range(3)]


def draw(*boxes, size=32):
    """A fusion picture of (label, y, x) boxes of 6 x 6, later ones in front, each with an edge."""
    picture = np.full((size, size, 3), -1, np.float32)
    for label, y, x in boxes:
        picture[max(y, 0) : y + 6, max(x, 0) : x + 6] = COLORS[label]
        picture[y + 2, x + 1 : x + 5] = 1
    return picture


def carry(clip, outputs=4, labels=3):
    """With an untrained network, whose turns are 0."""
    model = objects.ObjectMotion(labels, outputs)
    features = jnp.ones((1, 8, 8, 5))
    variables = jax.jit(model.init)(jax.random.key(0), clip, features)
    variables["params"]["turn"] = jax.tree.map(jnp.zeros_like, variables["params"]["turn"])
    return np.asarray(jax.jit(model.apply)(variables, clip, features))[0]


def clip_of(first, second):
    """16 pictures of two boxes that move by (dy, dx) a picture, and the 4 that follow."""
    frames = []
    for t in range(20):
        boxes = [
            (label, y + t * dy, x + t * dx)
            for label, (y, x, dy, dx) in enumerate((first, second), 1)
        ]
        frames.append(draw(*boxes))
    return jnp.asarray(frames[:16])[None], np.stack(frames[16:])


def test_steady_objects_are_carried_exactly():
    clip, coming = clip_of((2, 3, 0, 1), (22, 24, 0, -1))
    np.testing.assert_allclose(carry(clip), coming, atol=1e-3)


def test_what_stands_still_stays_and_later_labels_hide_earlier_ones():
    clip, coming = clip_of((10, 0, 0, 1), (9, 23, 0, 0))  # The first slides under the second.
    np.testing.assert_allclose(carry(clip), coming, atol=1e-3)


def test_objects_leave_and_absent_labels_do_no_harm():
    clip, coming = clip_of((2, 26 - 15, 0, 1), (22, 4, 0, 0))
    found = carry(clip, labels=4)  # Label 3 is nowhere.
    np.testing.assert_allclose(found[:, :, :31], coming[:, :, :31], atol=1e-3)
    empty = jnp.full((1, 16, 32, 32, 3), -1.0)
    np.testing.assert_allclose(carry(empty), -1, atol=1e-6)


def test_shift_by_hand():
    row = jnp.array([0.0, 1, 0, 1]).reshape(1, 1, 1, 1, 4)

    def shifted(right, down=0.0, plane=row):
        offset = jnp.array([down, right]).reshape(1, 1, 1, 2)
        return objects._shift(plane, offset)[0, 0, 0, 0].tolist()

    assert shifted(1) == [[0, 0, 1, 0]]
    assert shifted(-0.5) == [[0.5, 0.5, 0.5, 0.5]]
    assert shifted(0.25) == [[0, 0.75, 0.25, 0.75]]
    assert shifted(3.75) == [[0, 0, 0, 0]]
    assert shifted(-3.0) == [[1, 0, 0, 0]]
    assert shifted(9) == shifted(-99) == shifted(0, 1) == [[0, 0, 0, 0]]
    square = jnp.array([[1.0, 0], [0, 1]]).reshape(1, 1, 1, 2, 2)
    assert shifted(0.5, 0.5, square) == [[0.25, 0.25], [0.25, 0.5]]


def test_shift_has_the_slope_of_its_offset():
    planes = jnp.asarray(np.random.default_rng(0).integers(0, 2, (2, 3, 2, 5, 4)), jnp.float32)
    offset = jnp.asarray(np.random.default_rng(1).uniform(-3, 3, (2, 3, 4, 2)), jnp.float32)
    total = lambda offset: jnp.square(objects._shift(planes, offset)).sum()
    check_grads(total, (offset,), order=1, modes=["rev"], eps=1e-3, rtol=2e-2)
