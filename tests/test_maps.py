"""The two forms of a map, worked by hand or against other implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.models import losses, maps
from vidpred_jax.models.maps import Picture, Planes

PLANES = Planes(3)


def random_planes(seed, *shape, num_labels=3):
    """Certain edges and labels, uint8 (*shape, 2)."""
    rng = np.random.default_rng(seed)
    edges = 255 * rng.integers(0, 2, shape).astype(np.uint8)
    return np.stack([edges, rng.integers(0, num_labels, shape).astype(np.uint8)], -1)


def test_a_form_by_its_name():
    assert maps.make("planes", 4) == Planes(4) and maps.make("picture", 4) == Picture()
    assert [form.field for form in (Planes(4), Picture(), Picture("frames"))] == [
        "planes",
        "fusion",
        "frames",
    ]
    assert (Planes(4).channels, Picture().channels) == (5, 3)


def test_planes_are_encoded_by_hand():
    """Half an edge on label 2, a whole one on label 0, and label 3, which is beyond 0 to 2: background."""
    given = np.uint8([[[[51, 2], [255, 0], [0, 3]]]])
    expected = [[[[0.2, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0]]]]
    np.testing.assert_allclose(PLANES.encode(jnp.asarray(given)), expected, atol=1e-6)
    edges, labels = jnp.float32([[0.25]]), jnp.int32([[1]])
    assert PLANES.join(edges, labels).tolist() == [[[0.25, 0, 1, 0]]]


def test_a_picture_is_encoded_by_hand():
    given = jnp.asarray(np.uint8([[[[0, 255, 51]]]]))
    np.testing.assert_allclose(Picture().encode(given), [[[[-1, 1, -0.6]]]], atol=1e-6)


def test_a_picture_of_edges_and_labels_is_that_of_the_data():
    planes = random_planes(0, 2, 5, 7, num_labels=6)
    edges, labels = planes[..., 0], planes[..., 1]
    found = Picture().join(jnp.asarray(edges / 255, jnp.float32), jnp.asarray(labels, jnp.int32))
    np.testing.assert_allclose(found, fusion.to_float(fusion.render(edges, labels)), atol=1e-6)
    # Half an edge is grey, where the colour is darker: on dark red it hides green and blue.
    half = Picture().join(jnp.float32([[0.5]]), jnp.int32([[1]]))
    np.testing.assert_allclose(half, [[[128 / 127.5 - 1, 0, 0]]], atol=1e-6)


def test_certain_planes_are_rendered_as_the_data_is():
    planes = random_planes(1, 2, 5, 7)
    found = PLANES.render(PLANES.encode(jnp.asarray(planes)))
    expected = fusion.to_float(fusion.render(planes[..., 0], planes[..., 1]))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_uncertain_planes_are_rendered_as_the_expected_picture():
    """A quarter of an edge over half background, half label 1 (128, 0, 0)."""
    found = PLANES.render(jnp.float32([0.25, 0.5, 0.5, 0]))
    red = 0.25 + 0.75 * (0.5 * -1 + 0.5 * (128 / 127.5 - 1))
    np.testing.assert_allclose(found, [red, -0.5, -0.5], atol=1e-6)
    picture = jax.random.uniform(jax.random.key(0), (2, 3, 3))
    assert Picture().render(picture) is picture


def test_a_base_gives_the_proposed_map_back():
    """A logit of 8 either way leaves 0.034 %; 8 for one label of three leaves 0.067 %."""
    proposed = PLANES.encode(jnp.asarray(random_planes(2, 2, 4, 5)))
    base = PLANES.base(proposed)
    assert set(np.unique(base[..., 0])) == {-8.0, 8.0}
    assert set(np.unique(base[..., 1:])) == {0.0, 8.0}
    found = PLANES.activate(base, based=True)
    np.testing.assert_allclose(found, proposed, atol=2 / (np.exp(8.0) + 2) + 1e-6)
    np.testing.assert_allclose(found[..., 1:].sum(-1), 1, atol=1e-6)
    for ours, expected in zip(PLANES.decode(found), PLANES.decode(proposed), strict=True):
        np.testing.assert_array_equal(jnp.round(ours), expected)
    picture = jnp.float32([[-1, 0.3, 1]])
    assert (Picture().activate(Picture().base(picture), based=True) == picture).all()


def test_a_share_of_an_edge_is_given_back():
    shares = jnp.array([0.0, 0.25, 0.5, 0.9, 1.0])
    maps = PLANES.join(shares[None], jnp.zeros((1, 5), jnp.int32))
    found = PLANES.activate(PLANES.base(maps))[..., 0]
    np.testing.assert_allclose(found[0], shares, atol=1e-3)


def test_raw_values_become_maps_by_hand():
    raw = jnp.float32([np.log(3.0), np.log(2.0), 0, 0])
    for based in (False, True):
        found = PLANES.activate(raw, based=based)
        np.testing.assert_allclose(found, [0.75, 0.5, 0.25, 0.25], atol=1e-6)
    raw = jnp.float32([-2.0, 0.5, 3.0])
    assert Picture().activate(raw, based=True).tolist() == [-1.0, 0.5, 1.0]
    np.testing.assert_allclose(Picture().activate(raw), np.tanh([-2.0, 0.5, 3.0]), atol=1e-6)
    assert (Picture("frames", squash=False).activate(raw) == raw).all()


def test_maps_are_told_apart_by_hand():
    edges, labels = PLANES.decode(jnp.float32([[0.4, 0.2, 0.5, 0.3], [0.9, 0.6, 0.1, 0.3]]))
    np.testing.assert_allclose(edges, [0.4, 0.9])
    assert labels.tolist() == [1, 0]
    planes = random_planes(3, 1, 8, 8)
    planes[..., 0] = 0
    planes[0, 3, :, 0] = 255
    pictures = fusion.to_float(jnp.asarray(fusion.render(planes[..., 0], planes[..., 1])))
    edges, labels = Picture().decode(pictures)
    assert edges.dtype == jnp.float32
    np.testing.assert_array_equal(edges, planes[..., 0] / 255)
    np.testing.assert_array_equal(labels[edges == 0], planes[..., 1][edges == 0])


def test_losses_of_planes_by_hand():
    """Two examples of two pixels: -log of the probability of what is there, a mean over pixels."""
    raw = jnp.float32([[0, 0, 0, 0], [np.log(3.0), np.log(2.0), 0, 0]]).reshape(1, 1, 1, 2, 4)
    raw = jnp.concatenate([raw, -raw])
    target = jnp.float32([[1, 0, 1, 0], [1, 1, 0, 0]]).reshape(1, 1, 1, 2, 4)
    target = jnp.concatenate([target, target])
    found = PLANES.losses(raw, target, ("edges", "labels", "l1"))
    assert set(found) == {"edges", "labels"}
    half = np.log(2.0)
    expected = [(half - np.log(0.75)) / 2, (half - np.log(0.25)) / 2]
    np.testing.assert_allclose(found["edges"], expected, rtol=1e-5)
    # Of the second example the logit of label 0 is -log 2: 1 / 2 of 5 / 2.
    expected = [(np.log(3.0) - np.log(0.5)) / 2, (np.log(3.0) - np.log(0.2)) / 2]
    np.testing.assert_allclose(found["labels"], expected, rtol=1e-5)
    assert set(PLANES.losses(raw, target, ("labels",))) == {"labels"}


def test_losses_of_planes_are_optaxs_of_integer_labels():
    raw = 3 * jax.random.normal(jax.random.key(1), (3, 2, 5, 4, 4))
    planes = random_planes(4, 3, 2, 5, 4)
    target = PLANES.encode(jnp.asarray(planes))
    found = PLANES.losses(raw, target, ("edges", "labels"))
    labels = optax.softmax_cross_entropy_with_integer_labels(raw[..., 1:], planes[..., 1])
    np.testing.assert_allclose(found["labels"], labels.mean((1, 2, 3)), rtol=1e-5)
    signs = 2.0 * (planes[..., 0] > 0) - 1
    expected = jnp.logaddexp(0, -signs * raw[..., 0]).mean((1, 2, 3))
    np.testing.assert_allclose(found["edges"], expected, rtol=1e-5)


@pytest.mark.parametrize("based", [False, True])
def test_losses_of_pictures_are_of_what_is_shown(based):
    """With a base, of what is not clipped: its gradient leads back from beyond the range."""
    raw = 2 * jax.random.normal(jax.random.key(2), (2, 1, 12, 12, 3))
    target = jax.random.uniform(jax.random.key(3), raw.shape, minval=-1)
    found = Picture().losses(raw, target, ("l1", "psnr", "ssim", "edges"), based=based)
    shown = raw if based else jnp.tanh(raw)
    assert set(found) == {"l1", "psnr", "ssim"}
    np.testing.assert_allclose(found["l1"], losses.l1(shown, target), rtol=1e-6)
    np.testing.assert_allclose(found["psnr"], -losses.psnr(shown, target) / 10, rtol=1e-6)
    np.testing.assert_allclose(found["ssim"], losses.ssim_loss(shown, target), rtol=1e-6)
    gradient = jax.grad(lambda x: Picture().losses(x, target, ("l1",), based=based)["l1"].sum())
    assert (gradient(raw) != 0).all()
