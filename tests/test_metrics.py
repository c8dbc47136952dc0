"""Every metric: against scikit-image or NumPy where they define it, else by hand."""

import cv2
import numpy as np
import pytest
from skimage import metrics as reference

from vidpred_jax import metrics
from vidpred_jax.data import fusion, pipeline, video_io
from vidpred_jax.evaluation import sharpening


def noisy(target, seed=0, sigma=30):
    noise = np.random.default_rng(seed).normal(0, sigma, target.shape)
    return np.clip(target + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["random", "sprites", "real"])
def pair(request, clip):
    """(predicted, true) frames, uint8 (3, h, w, 3)."""
    if request.param == "random":
        target = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3)).astype(np.uint8)
    elif request.param == "sprites":
        target = clip.frames[:3]
    else:
        folder = request.getfixturevalue("davis") / "JPEGImages/480p/breakdance"
        target = fusion.resize_frames(video_io.read(folder, 0, 3), 96, 128)
    return noisy(target), target


def test_psnr_equals_scikit_image(pair):
    expected = [reference.peak_signal_noise_ratio(t, p, data_range=255) for p, t in zip(*pair, strict=True)]
    np.testing.assert_allclose(metrics.psnr(*pair), expected, atol=1e-4)


def test_ssim_equals_scikit_image(pair):
    fields = dict(channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    for metric, data_range in ((metrics.ssim, 255), (metrics.ssim_paper, 1)):
        expected = [
            reference.structural_similarity(t / 1.0, p / 1.0, data_range=data_range, **fields)
            for p, t in zip(*pair, strict=True)
        ]
        np.testing.assert_allclose(metric(*pair), expected, atol=1e-4)


def test_ssim_paper_of_smooth_frames_is_exact():
    """Its constants are far below float32's rounding of squares near 255**2."""
    ramp = np.broadcast_to(np.linspace(180, 210, 64)[:, None, None], (64, 64, 3))
    target = np.uint8(ramp)[None]
    pred = np.uint8(ramp + 3)[None]
    fields = dict(channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    expected = reference.structural_similarity(target[0] / 1.0, pred[0] / 1.0, data_range=1, **fields)
    np.testing.assert_allclose(metrics.ssim_paper(pred, target), [expected], atol=1e-4)


def test_openstl_equals_its_definition(pair):
    pred, target = (x / 255 for x in pair)
    expected = [
        reference.structural_similarity(t, p, channel_axis=-1, data_range=2, win_size=7)
        for p, t in zip(pred, target, strict=True)
    ]
    np.testing.assert_allclose(metrics.ssim_openstl(*pair), expected, atol=1e-4)
    squared = ((pred - target) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(metrics.mse_openstl(*pair), squared, rtol=1e-5)
    np.testing.assert_allclose(metrics.mae_openstl(*pair), np.abs(pred - target).sum((1, 2, 3)), rtol=1e-5)
    outside = np.full((1, 2, 2, 3), 1.5 * 255, np.float32)  # Not clipped.
    red = outside * np.float32([1, 0, 0])
    np.testing.assert_allclose(metrics.mse_openstl(outside, red), [8 * 2.25], rtol=1e-6)
    # Of a grey target the channels are one.
    np.testing.assert_allclose(metrics.mse_openstl(outside, outside * 0), [4 * 2.25], rtol=1e-6)
    np.testing.assert_allclose(metrics.mae_openstl(red, outside * 0), [4 * 0.5], rtol=1e-6)


def test_psnr_never_wraps_around():
    """The field's known bug subtracts uint8 from uint8: an error of 250 becomes one of 6."""
    black, light = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 250, np.uint8)
    wrapped = -10 * np.log10(((black - light) ** 2.0).mean() / 255**2)
    assert wrapped > 32  # What the bug prints.
    true = -20 * np.log10(250 / 255)
    np.testing.assert_allclose(metrics.psnr(black, light), [true], atol=1e-4)
    np.testing.assert_allclose(metrics.psnr(light, black), [true], atol=1e-4)
    for metric in (metrics.mse_openstl, metrics.mae_openstl):
        np.testing.assert_allclose(metric(black, light), metric(light, black))
    np.testing.assert_allclose(metrics.psnr(light, light), [metrics.MAX_PSNR])


def test_ms_ssim_of_constant_frames_by_hand():
    """Flat frames keep luminance alone, which counts at the coarsest scale: l ** .1333."""
    pred, target = (np.full((1, 3, 176, 176, 3), v, np.float32) for v in (51.0, 102.0))
    target[0, 1] = 51.0
    luminance = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    first = luminance**0.1333
    expected = [[first, (first + 1) / 2, (2 * first + 1) / 3]]  # The running mean.
    np.testing.assert_allclose(metrics.ms_ssim_running(pred, target), expected, atol=1e-4)
    with pytest.raises(ValueError, match="MS-SSIM needs pictures of 176 x 176 or more, not 64 x 64"):
        metrics.ms_ssim_running(pred[:, :, :64, :64], target[:, :, :64, :64])


def test_ms_ssim_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    target = cv2.GaussianBlur(rng.uniform(0, 255, (192, 192, 3)), (0, 0), 2)
    pred = cv2.GaussianBlur(target, (0, 0), 1.5) + rng.normal(0, 5, target.shape)
    fields = dict(data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    product, x, y = np.ones(3), pred / 255, target / 255
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        for c in range(3):
            full = reference.structural_similarity(x[..., c], y[..., c], full=True, **fields)[1]
            means = [cv2.GaussianBlur(z[..., c], (11, 11), 1.5) for z in (x, y)]
            luminance = (2 * means[0] * means[1] + 1e-4) / (means[0] ** 2 + means[1] ** 2 + 1e-4)
            terms = full if scale == 4 else full / luminance
            product[c] *= max(terms[5:-5, 5:-5].mean(), 0) ** weight
        x, y = (z.reshape(len(z) // 2, 2, len(z) // 2, 2, 3).mean((1, 3)) for z in (x, y))
    found = metrics.ms_ssim_running(*(np.float32(z)[None, None] for z in (pred, target)))
    np.testing.assert_allclose(found, [[product.mean()]], atol=1e-3)


def picture(edges, labels):
    return fusion.render(edges[None], labels[None])


def test_edge_f1_by_hand():
    labels = np.zeros((12, 12), np.uint8)
    column = lambda x: np.where(np.arange(12) == x, 255, 0).astype(np.uint8) * np.ones((12, 1), np.uint8)
    one, near, far = (picture(column(x), labels) for x in (4, 5, 7))
    none = picture(0 * column(0), labels)
    np.testing.assert_allclose(metrics.edge_f1(one, one), [1], atol=1e-6)
    np.testing.assert_allclose(metrics.edge_f1(near, one), [1], atol=1e-6)  # One pixel is tolerated.
    np.testing.assert_allclose(metrics.edge_f1(far, one), [0])
    np.testing.assert_allclose(metrics.edge_f1(none, one), [0])
    np.testing.assert_allclose(metrics.edge_f1(none, none), [1])
    both = picture(np.maximum(column(4), column(9)), labels)  # Precision 1/2, recall 1.
    np.testing.assert_allclose(metrics.edge_f1(both, one), [2 / 3], atol=1e-6)


def test_miou_by_hand():
    edges = np.zeros((12, 12), np.uint8)
    true, pred = np.zeros((12, 12), np.uint8), np.zeros((12, 12), np.uint8)
    true[:, :4] = 1
    pred[:, 2:4] = 1  # Half of label 1; label 2 where there is none.
    value = lambda p, t: float(metrics.miou(picture(edges, p), picture(edges, t))[0])
    assert value(pred, true) == pytest.approx(0.5)
    pred[:, 10:] = 2
    assert value(pred, true) == pytest.approx(0.25)
    assert value(true, true) == 1 and value(0 * true, 0 * true) == 1


def test_warp_error_forgives_motion_and_sees_flicker(clip):
    """Of a steady pan the warped frames are the coming ones; flicker adds its own size."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.uniform(40, 200, (16, 32, 3)).astype(np.float32), (160, 64))
    frames = np.stack([scene[:, 2 * t : 2 * t + 64] for t in range(6)])[None]
    last, target = frames[:, 0].round().astype(np.uint8), frames[:, 1:].round().astype(np.uint8)
    flow = metrics.true_flow(target, last)
    assert flow.shape == (1, 5, 64, 64, 2)
    steady = metrics.warp_error(target, flow, last)
    assert steady.shape == (1, 5) and steady.max() < 0.02
    flicker = target + np.float32([10, -10, 10, -10, 10]).reshape(1, 5, 1, 1, 1)
    found = metrics.warp_error(flicker, flow, last)
    np.testing.assert_allclose(found[0, 1:], 20 / 255, atol=0.02)
    still = np.repeat(last[:, None], 5, 1)
    assert metrics.warp_error(still, flow, last).mean() > 2 * steady.mean()


def test_metrics_keep_leading_axes(clip):
    element = pipeline.to_batch_element(clip, (64, 64))
    frames, pictures = (x[:6].reshape(2, 3, 64, 64, 3) for x in (element["frames"], element["fusion"]))
    for name in ("psnr", "ssim", "ssim_paper", "ssim_openstl", "mse_openstl", "mae_openstl"):
        assert getattr(metrics, name)(frames, frames).shape == (2, 3)
    assert metrics.edge_f1(pictures, pictures).shape == metrics.miou(pictures, pictures).shape == (2, 3)


def test_frechet_distance_by_hand():
    """One dimension: (m1 - m2)**2 + (s1 - s2)**2; two independent ones add."""
    first = np.array([[0.0, 1], [2, 1], [0, 3], [2, 3]])
    s = np.sqrt(4 / 3)
    second = first * [2, 1] + [5, 0]
    means = (6 + 1 - 1) ** 2
    assert metrics.frechet_distance(first, second) == pytest.approx(means + (2 * s - s) ** 2)
    assert metrics.frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(5, 400)), rng.normal(size=(9, 400))
    from scipy.linalg import sqrtm

    root = np.trace(sqrtm(np.cov(few.T) @ np.cov(many.T) + 0j)).real
    expected = (
        np.square(few.mean(0) - many.mean(0)).sum() + np.trace(np.cov(few.T)) + np.trace(np.cov(many.T))
    ) - 2 * root
    assert metrics.frechet_distance(few, many) == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="needs 2 samples or more, not 1"):
        metrics.frechet_distance(few[:1], many)


def test_sharpness_by_hand(clip):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 200
    half = stripes // 2
    # Half the contrast has a quarter of the energy.
    assert float(metrics.gradient_ratio(half, stripes)) == pytest.approx(0.25, abs=1e-4)
    flat = np.full_like(stripes, 7)
    assert float(metrics.gradient_ratio(flat, flat)) == 1
    blurred = np.stack([cv2.GaussianBlur(f, (0, 0), 1.0) for f in clip.frames[:3]])
    assert (np.asarray(metrics.gradient_ratio(blurred, clip.frames[:3])) < 0.6).all()


@pytest.mark.parametrize("name", sharpening.SHARPENERS)
def test_classical_sharpening_sharpens(name, clip):
    blurred = np.stack([cv2.GaussianBlur(f, (0, 0), 1.0) for f in clip.frames[:2]])
    found = sharpening.sharpen(name, blurred[None])[0]
    assert found.dtype == np.uint8 and found.shape == blurred.shape
    ratios = [np.asarray(metrics.gradient_ratio(x, clip.frames[:2])) for x in (blurred, found)]
    assert (ratios[1] > 1.2 * ratios[0]).all()
    flat = np.full((1, 16, 16, 3), 90, np.uint8)
    np.testing.assert_allclose(sharpening.sharpen(name, flat), flat, atol=1)
