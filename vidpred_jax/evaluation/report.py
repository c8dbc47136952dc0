"""An evaluation as files: `per_step.csv`, `summary.json`, curves, strips and a page (`page.py`)."""

import csv
import io
import json
import os
import pathlib
import re

import numpy as np

from vidpred_jax import metrics
from vidpred_jax.data import fusion, strip, video_io, writing
from vidpred_jax.evaluation import compare, external, page
from vidpred_jax.metrics import named
from vidpred_jax.metrics.summary import SHOWN_STEPS, differences, summarize
from vidpred_jax.types import InputError

CSV_COLUMNS = ("predictor", "metric", "step", "mean", "low", "high", "n_clips", "n_windows")
_NAIVE_STYLES = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_CLARITY = re.compile(r"(.+), clarity ([\d.]+)")
_PAPER_METRICS = {"PSNR": "psnr", "SSIM": "ssim_paper"}


def write(
    folder: str | os.PathLike,
    table: compare.Table,
    about: dict,
    *,
    naive: tuple[str, ...] = (),
    variants: dict[str, str] | None = None,
    fvd: dict | None = None,
    reference: list[dict] | None = None,
) -> dict:
    """Writes everything into `folder`; the summary that summary.json holds.

    Its `differences`, {predictor: {metric: {"against", "mean", "low", "high"}}}, are of each predictor
    minus the best baseline (`naive`) by that metric's mean, and of each variant minus what it is one of.

    about: what was done (data, protocol, command, machine ...), told as it is. naive: predictors
    drawn thin and grey. variants: {predictor: that of which it is one}, which have a figure of their own.
    fvd: of `perceptual.fvd`. reference: curves of `read_reference`.
    """
    folder = pathlib.Path(folder)
    found = summarize(table.clips, table.values)
    counts = {"clips": len(set(table.clips)), "windows": len(table.clips)}
    summary = {**about, **counts, "predictors": found}
    variants = variants or {}
    if paired := _differences(table, found, naive, variants):
        summary["differences"] = paired
    if fvd:
        summary["fvd"] = fvd
    ablated = tuple(dict.fromkeys((*variants.values(), *variants)))
    figures = draw_all(found, naive, ablated, reference or [])
    strips = [f"strips/{external.window_name(entry['clip'], entry['start'])}.png" for entry in table.shown]
    pictures = [f"{name}.png" for name in figures]
    writing.renew(folder, ["per_step.csv", "summary.json", "index.html", *pictures, *strips])
    writing.write_text(folder / "per_step.csv", _csv(found, counts))
    writing.write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    for name, png in figures.items():
        with writing.atomic(folder / f"{name}.png") as path:
            pathlib.Path(path).write_bytes(png)
    writing.write_text(folder / "index.html", page.report(summary, table.shown, figures, naive))
    for name, entry in zip(strips, table.shown, strict=True):
        video_io.write_image(folder / name, _strip(entry, naive))
    return summary


def _differences(table, found, naive, variants) -> dict:
    paired = {}
    for name in (n for n in found if n not in (*naive, "truth")):
        for metric in found[name]:
            if name in variants:
                if metric in found[variants[name]]:
                    entry = differences(table.clips, table.values, name, variants[name])[metric]
                    paired.setdefault(name, {})[metric] = {"against": variants[name], **entry}
                continue
            means = {n: found[n][metric]["mean"] for n in naive if metric in found.get(n, {})}
            best = named.METRICS[metric].best(means.values()) if means else None
            if best is None:
                continue
            against = next(n for n, mean in means.items() if mean == best)
            entry = differences(table.clips, table.values, name, against)[metric]
            paired.setdefault(name, {})[metric] = {"against": against, **entry}
    return paired


def _strip(entry, naive) -> np.ndarray:
    """A shown window: the newest frame, then truth, the predictors and the naive one with the best
    PSNR here, at a few steps.
    """
    videos = {name: fusion.quantize(frames) for name, frames in entry["predictions"].items()}
    worth = {
        name: float(metrics.psnr(frames[None], entry["truth"][None]).mean())
        for name, frames in videos.items()
        if name in naive
    }
    best = max(worth, key=worth.get, default=None)
    rows = [(name, frames) for name, frames in videos.items() if name not in worth or name == best]
    return strip.draw([("truth", entry["truth"]), *rows], SHOWN_STEPS, entry["context"][-1])


def _csv(found, counts) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for predictor, by_metric in found.items():
        for metric, entry in by_metric.items():
            lows, highs = entry["per_step_low"], entry["per_step_high"]
            for i, mean in enumerate(entry["per_step"]):
                interval = (lows[i], highs[i]) if lows else ("", "")
                row = (predictor, metric, i + 1, mean, *interval)
                writer.writerow((*row, counts["clips"], counts["windows"]))
    return text.getvalue()


def read_reference(path: str | os.PathLike, sequence: str = "") -> list[dict]:
    """Published curves: [{"metric", "label", "steps", "values"}]. Raises InputError.

    Columns: metric (PSNR or SSIM, which is drawn beside `ssim_paper`), curve, value, and either
    step (from 1) or time_step (the paper's, 16 is the first unseen frame). sequence: only the rows
    of that name in a column `sequence`.
    """
    try:
        with open(path, newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--reference ({str(path)!r}) cannot be read: {error}") from error
    curves = {}
    for number, row in enumerate(rows, start=2):
        if sequence and row.get("sequence") != sequence:
            continue
        try:
            metric = _PAPER_METRICS[row["metric"]]
            step = int(row["step"]) if "step" in row else int(row["time_step"]) - 15
            value = float(row["value"])
            name = " ".join(x for x in (row.get("sequence"), row["curve"]) if x)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"--reference ({str(path)!r}) line {number}: columns metric (PSNR or SSIM), curve, "
                f"value and step or time_step are needed ({type(error).__name__}: {error})"
            ) from error
        curve = curves.setdefault((metric, name), {"steps": [], "values": []})
        curve["steps"].append(step)
        curve["values"].append(value)
    if not curves:
        raise InputError(f"--reference ({str(path)!r}) holds no curve of sequence {sequence!r}")
    return [
        {"metric": metric, "label": f"{name} (published, in-sample)", **curve}
        for (metric, name), curve in curves.items()
    ]


def draw_all(found, naive, ablated, reference) -> dict[str, bytes]:
    """A PNG of curves by step for each metric, and of the ablation."""
    metrics = list(dict.fromkeys(m for entry in found.values() for m in entry))
    figures = {}
    for metric in metrics:
        lines = {name: entry[metric] for name, entry in found.items() if metric in entry}
        drawn = [curve for curve in reference if curve["metric"] == metric]
        figures[metric] = _draw([(metric, lines)], naive, drawn)
    parts = [("psnr", {n: found[n]["psnr"] for n in ablated if "psnr" in found.get(n, {})})]
    parts += [(m, {n: e[m] for n, e in found.items() if m in e}) for m in ("fusion_psnr", "edge_f1", "miou")]
    parts = [part for part in parts if part[1]]
    if ablated and parts:
        figures["ablation"] = _draw(parts, naive, [])
    if sum(_CLARITY.fullmatch(name) is not None for name in found) > 1:
        figures |= _draw_choice(found, naive)
    return figures


def _draw_choice(found, naive) -> dict[str, bytes]:
    """Accuracy against clarity, PSNR over LPIPS: a point for each predictor, a line for one's clarities."""
    from matplotlib.figure import Figure

    points = {
        n: [e[m]["mean"] for m in ("lpips", "psnr")] for n, e in found.items() if {"lpips", "psnr"} <= {*e}
    }
    if not points:
        return {}
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes, lines = figure.subplots(), {}
    for name, point in points.items():
        if row := _CLARITY.fullmatch(name):
            lines.setdefault(row[1], []).append((float(row[2]), *point))
        else:
            axes.plot(*point, "o", color="0.45" if name in naive else None)
        axes.annotate(row[2] if row else name, point, xytext=(5, 4), textcoords="offset points", fontsize=8)
    for run, line in lines.items():
        _, lpips, psnr = zip(*sorted(line), strict=True)
        axes.plot(lpips, psnr, "o-", label=f"{run}, by clarity")
    axes.set(xlabel="LPIPS: lower is clearer", ylabel="PSNR (dB): higher is more accurate")
    axes.margins(0.12)
    axes.invert_xaxis()
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return {"choice": _png(figure)}


def _draw(panels, naive, reference) -> bytes:
    """A PNG of panels side by side: (metric, {predictor: entry})."""
    from matplotlib.figure import Figure  # Slow to import, and not needed by most commands.

    figure = Figure(figsize=(7 if len(panels) == 1 else 4.6 * len(panels), 4.2), layout="constrained")
    for axes, (metric, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        grey = 0
        for name, entry in lines.items():
            steps = np.arange(1, len(entry["per_step"]) + 1)
            style = {"linewidth": 2.0}
            if name in naive:
                style = {
                    "linewidth": 1.2,
                    "color": f"{0.25 + 0.09 * grey:.2f}",
                    "linestyle": _NAIVE_STYLES[grey % len(_NAIVE_STYLES)],
                }
                grey += 1
            (line,) = axes.plot(steps, entry["per_step"], label=name, **style)
            if entry["per_step_low"] and name not in naive:
                band = entry["per_step_low"], entry["per_step_high"]
                axes.fill_between(steps, *band, color=line.get_color(), alpha=0.15, linewidth=0)
        for curve in reference:
            axes.plot(curve["steps"], curve["values"], "x-", linewidth=1, label=curve["label"])
        unit = named.METRICS[metric].unit
        better = page.BETTER[named.METRICS[metric].higher_is_better]
        axes.set(xlabel="step", title=f"{metric}{f' ({unit})' if unit else ''}: {better}")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7)
    return _png(figure)


def _png(figure) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()
