"""Fusion pictures by hand, their inverse, and the edge density on real video."""

import json

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.data import fusion, video_io
from vidpred_jax.types import InputError


def test_palette_is_davis():
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert fusion.PALETTE[:5].tolist() == [list(c) for c in expected]
    assert fusion.PALETTE[8].tolist() == [64, 0, 0]
    assert len(np.unique(fusion.PALETTE, axis=0)) == 256


def test_render_by_hand():
    edges = np.uint8([[0, 255], [0, 0]])
    labels = np.uint8([[0, 0], [1, 2]])
    expected = [[[0, 0, 0], [255, 255, 255]], [[128, 0, 0], [0, 128, 0]]]
    assert fusion.render(edges, labels).tolist() == expected


def test_render_is_clipped_sum(clip):
    total = fusion.PALETTE[clip.labels].astype(int) + clip.edges[..., None]
    np.testing.assert_array_equal(fusion.render(clip.edges, clip.labels), np.clip(total, 0, 255))


def test_canny_finds_a_step_and_nothing_in_flat_grey():
    frames = np.full((2, 20, 20, 3), 100, np.uint8)
    frames[1, :, 10:] = 250
    edges = fusion.EdgeRule().apply(frames)
    assert not edges[0].any()
    assert set(np.flatnonzero(edges[1].any(0))) <= {9, 10}
    assert (edges[1, 2:-2].any(1)).all()


def test_an_edge_rule_has_its_own_thresholds(clip):
    assert (fusion.EdgeRule().apply(clip.frames) == clip.edges).all()
    low = fusion.EdgeRule((100.0, 150.5)).apply(clip.frames)
    np.testing.assert_array_equal(
        low[3], cv2.Canny(cv2.cvtColor(clip.frames[3], cv2.COLOR_RGB2GRAY), 100, 150.5)
    )
    assert not fusion.EdgeRule((2040.0, 2040.0)).apply(clip.frames).any() and low.any()


@pytest.mark.parametrize("ridges_at_first", [3, 0.5])  # Half as many as edges: all ridges are looked at.
def test_a_density_of_edges_is_of_the_steepest_ridges(ridges_at_first, monkeypatch):
    """So it is of a dark, soft film too; each edge is at least as steep as any ridge that is none."""
    monkeypatch.setattr(fusion, "_RIDGES", ridges_at_first)
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    bright = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([bright, bright // 8, np.full_like(bright, 90)])
    edges = fusion.EdgeRule(density=0.045).apply(frames) > 0
    share = edges.mean((1, 2))
    assert 0.045 <= share[0] < 0.05 and 0.045 <= share[1] < 0.06 and share[2] == 0
    grey = cv2.cvtColor(bright, cv2.COLOR_RGB2GRAY)
    sobel = lambda dx: cv2.Sobel(grey, cv2.CV_64F, dx, 1 - dx, borderType=cv2.BORDER_REPLICATE)
    slope = np.abs(sobel(0)) + np.abs(sobel(1))
    ridges = cv2.Canny(grey, 0, 0) > 0
    assert (edges[0] <= ridges).all() and slope[edges[0]].min() > slope[ridges & ~edges[0]].max()
    assert not fusion.EdgeRule().apply(frames[1:]).any()


def test_an_edge_rule_as_json():
    for rule in (fusion.EdgeRule(), fusion.EdgeRule((0.0, 1.5)), fusion.EdgeRule(density=0.045)):
        assert fusion.EdgeRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        [300, 350],
        {"canny": [1.0]},
        {"canny": [1.0, True]},
        {"canny": [1.0, 2.0], "x": 0},
        {"share": 0.0},
        {"share": 1},
    ],
)
def test_an_edge_rule_that_is_none_is_refused(found):
    with pytest.raises(
        InputError, match=r'the edge rule .* must be {"canny": \[LOW, HIGH\]} or {"density": SHARE}'
    ):
        fusion.EdgeRule.from_json(found)
    for pair in ((350.0, 300.0), (-1.0, 2.0), (0.0, 2041.0), (0.0, float("nan"))):
        with pytest.raises(InputError, match=r"canny \(.*\) must be LOW, HIGH: 0 <= LOW <= HIGH <= 2040"):
            fusion.EdgeRule(pair)
    with pytest.raises(InputError, match=r"density of edges \(1.5\) must be 0 to 1"):
        fusion.EdgeRule(density=1.5)


def test_float_and_back():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(fusion.to_uint8(fusion.to_float(values)), values)
    np.testing.assert_array_equal(np.asarray(fusion.to_uint8(fusion.to_float(jnp.asarray(values)))), values)
    assert fusion.to_uint8(np.float32([-3.0, 3.0])).tolist() == [0, 255]


def test_decode_undoes_render(clip):
    pictures = fusion.to_float(jnp.asarray(fusion.render(clip.edges, clip.labels)[:4]))
    edges, labels = fusion.decode(pictures, num_labels=4)
    np.testing.assert_array_equal(edges, clip.edges[:4] > 0)
    plain = clip.edges[:4] == 0
    np.testing.assert_array_equal(np.asarray(labels)[plain], clip.labels[:4][plain])
    # Under an edge the label is hidden: the neighbours' majority is nearly always right.
    assert (np.asarray(labels)[~plain] == clip.labels[:4][~plain]).mean() > 0.7


def test_decode_sees_through_noise(clip):
    clean = fusion.to_float(jnp.asarray(fusion.render(clip.edges, clip.labels)[:4]))
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, clean.shape).astype(np.float32)
    for found, expected in zip(fusion.decode(clean + noise), fusion.decode(clean), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_resize_is_opencvs(clip):
    pictures = fusion.render(clip.edges, clip.labels)[:2]
    smaller = fusion.resize(pictures, 32, 48)
    np.testing.assert_array_equal(smaller[1], cv2.resize(pictures[1], (48, 32)))


def test_planes_are_edges_then_labels(clip):
    planes = fusion.stack_planes(clip.edges, clip.labels)
    assert planes.shape == (*clip.edges.shape, 2) and planes.dtype == np.uint8
    np.testing.assert_array_equal(planes[..., 0], clip.edges)
    np.testing.assert_array_equal(planes[..., 1], clip.labels)


def test_planes_are_resized_by_hand():
    """Edges become their share of each pixel, labels that of one pixel: no mean of two labels."""
    edges = np.zeros((2, 4, 6), np.uint8)
    edges[0, 0], edges[0, 2, 0], edges[1, 2:, 4:] = 255, 255, 255
    labels = np.zeros((2, 4, 6), np.uint8)
    labels[:, 2:, :2], labels[:, 2:, 2:] = 2, 7
    found = fusion.resize_planes(fusion.stack_planes(edges, labels), 2, 3)
    assert found.dtype == np.uint8 and found.shape == (2, 2, 3, 2)
    np.testing.assert_allclose(found[0, ..., 0], [[127.5] * 3, [63.75, 0, 0]], atol=0.5)
    np.testing.assert_array_equal(found[1, ..., 0], [[0, 0, 0], [0, 0, 255]])
    assert found[..., 1].tolist() == [[[0, 0, 0], [2, 7, 7]]] * 2
    # An odd factor: the label is that of the pixel in the middle.
    middle = np.arange(9, dtype=np.uint8).reshape(1, 3, 3)
    small = fusion.resize_planes(fusion.stack_planes(0 * middle, middle), 1, 1)
    assert small.tolist() == [[[[0, 4]]]]
    same = fusion.stack_planes(edges, labels)
    assert fusion.resize_planes(same, 4, 6) is same


def test_edges_cover_about_three_percent_of_real_video(davis):
    shares = [
        (fusion.EdgeRule().apply(video_io.read(folder, 0, 40)[::20]) > 0).mean()
        for folder in sorted((davis / "JPEGImages/480p").iterdir())
    ]
    assert 0.02 < np.mean(shares) < 0.04


@pytest.mark.parametrize("count", [1, 3])
def test_decode_never_names_an_unknown_label(count):
    pictures = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (2, 12, 12, 3)).astype(np.float32))
    assert int(fusion.decode(pictures, count)[1].max()) < count


def test_a_faint_edge_is_no_label():
    """Resizing mixes edges with what they are drawn on; grey is nearer to olive than to black."""
    labels = np.zeros((1, 64, 64), np.uint8)
    labels[0, 8:40, 8:40] = 3
    edges = np.zeros_like(labels)
    edges[0, 48, :], edges[0, 20, 8:40] = 255, 255
    small = fusion.resize(fusion.render(edges, labels), 32, 32)
    assert set(np.unique(small[0, 24])) & {127, 128}  # Grey where the edge was.
    _, found = fusion.decode(fusion.to_float(jnp.asarray(small)), 4)
    expected = np.zeros((32, 32), int)
    expected[4:20, 4:20] = 3
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("count", [2, 4, 6, 7])
def test_an_edge_has_the_label_most_shown_about_it(count):
    """As counted one place at a time; the lowest label where several are shown alike."""
    rng = np.random.default_rng(count)
    labels, edges = rng.integers(0, count, (13, 9)), rng.random((13, 9)) < 0.4
    pictures = fusion.render(edges.astype(np.uint8) * 255, labels.astype(np.uint8))
    found_edges, found = fusion.decode(fusion.to_float(jnp.asarray(pictures)), count)
    np.testing.assert_array_equal(found_edges, edges)
    for y, x in np.ndindex(13, 9):
        near = np.s_[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        votes = np.bincount(labels[near][~edges[near]], minlength=count)
        assert found[y, x] == (votes.argmax() if edges[y, x] else labels[y, x])
