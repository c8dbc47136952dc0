"""The metrics by name: what each compares, which way is better, and the smallest frames it takes.

To add one: write it as a pure function beside the others, and give it a row in METRICS.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import numpy as np

from vidpred_jax.metrics import frames, perceptual, sharpness, structure, temporal
from vidpred_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Metric:
    """function: (pred, target, prepared) -> (n, t); pred and target (n, t, h, w, 3) in [0, 255].

    field: what is compared. prepare: (target, newest observed picture) -> prepared, once for all
    predictors. higher_is_better: None where a value should be the truth's. meaning: in a few words.
    unclipped: takes a predictor's `unclipped` pictures, where it gives them beside the 8-bit ones.
    of_truth: the truth's own value is told as well, as predictor `truth`.
    """

    function: Callable
    prepare: Callable = lambda target, last: None
    field: str = "frames"
    higher_is_better: bool | None = True
    unit: str = ""
    meaning: str = ""
    unclipped: bool = False
    of_truth: bool = False

    def best(self, values):
        """The best of some means; None where only the truth's own is good."""
        if self.higher_is_better is None:
            return None
        return (max if self.higher_is_better else min)(values)


def _pairwise(function, **fields):
    """One window at a time: a batch's intermediates would be the peak of memory, and slower."""

    def by_window(pred, target, prepared):
        return np.stack([function(p, t) for p, t in zip(pred, target, strict=True)])

    return Metric(by_window, **fields)


def miou_metric(num_labels: int) -> Metric:
    return _pairwise(
        functools.partial(structure.miou, num_labels=num_labels), field="fusion", meaning="overlap of labels"
    )


METRICS = {
    "psnr": _pairwise(frames.psnr, unit="dB", meaning="closeness of pixels"),
    "ssim": _pairwise(frames.ssim, meaning="closeness of local structure"),
    "ssim_paper": _pairwise(frames.ssim_paper, meaning="SSIM as the paper called it"),
    "ssim_openstl": _pairwise(frames.ssim_openstl, meaning="SSIM as OpenSTL has it"),
    "mse_openstl": _pairwise(
        frames.mse_openstl,
        higher_is_better=False,
        unclipped=True,
        meaning="squared errors, summed over pixels",
    ),
    "mae_openstl": _pairwise(
        frames.mae_openstl, higher_is_better=False, unclipped=True, meaning="errors, summed over pixels"
    ),
    "ms_ssim_running": _pairwise(frames.ms_ssim_running, meaning="SSIM at several scales"),
    "warp_error": Metric(
        lambda pred, target, prepared: temporal.warp_error(pred, *prepared),
        lambda target, last: (temporal.true_flow(target, last), last),
        higher_is_better=None,
        of_truth=True,
        meaning="flicker that the true motion does not explain",
    ),
    "gradient_ratio": _pairwise(
        sharpness.gradient_ratio,
        higher_is_better=None,
        of_truth=True,
        meaning="sharpness: gradient energy as a share of the truth's",
    ),
    "lpips": _pairwise(perceptual.lpips, higher_is_better=False, meaning="distance as people see it"),
    "fusion_psnr": _pairwise(frames.psnr, field="fusion", unit="dB", meaning="closeness of fusion pictures"),
    "edge_f1": _pairwise(structure.edge_f1, field="fusion", meaning="edges found and right"),
    "miou": miou_metric(4),
}


# What a report shows, and the sides below which a metric has no value.
REPORTED = "psnr", "ssim", "lpips", "gradient_ratio", "warp_error", "fusion_psnr", "edge_f1", "miou"
_LEAST_SIDE = {"ms_ssim_running": 176, "lpips": 32}


def choose(names: Iterable[str], height: int, width: int, num_labels: int = 4) -> dict[str, Metric]:
    """Metrics by name for frames of a size; num_labels: those that `miou` tells apart.

    Raises InputError for a name unknown, too small a size, or a package that is not installed.
    """
    for name in names:
        if name not in METRICS:
            raise InputError(f"--metrics: {name!r} is not one of {', '.join(METRICS)}")
        if min(height, width) < (side := _LEAST_SIDE.get(name, 11)):
            raise InputError(
                f"--metrics: {name} needs frames of {side} x {side} or more, not {height} x {width}"
            )
        if name == "lpips" and not perceptual.available():
            raise InputError(f"--metrics: {name} needs: pip install 'vidpred_jax[perceptual]'")
    return {name: miou_metric(num_labels) if name == "miou" else METRICS[name] for name in names}


def possible(names: Iterable[str], height: int, width: int) -> list[str]:
    """Those of `names` that `choose` would not refuse."""
    found = []
    for name in names:
        try:
            found += choose([name], height, width)
        except InputError:
            continue
    return found


def pixel_metrics(field: str) -> dict[str, Metric]:
    """`psnr` and `ssim` of a field."""
    return {name: dataclasses.replace(METRICS[name], field=field) for name in ("psnr", "ssim")}
