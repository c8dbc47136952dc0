"""An evaluation as files: `per_step.csv`, `summary.json`, curves and a page that opens from disk."""

import base64
import csv
import html
import importlib.resources
import io
import json
import os
import pathlib
import string
import tempfile

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from vidpred_jax import evaluate, video_io
from vidpred_jax.types import InputError

matplotlib.use("Agg")

CSV_COLUMNS = ("predictor", "metric", "step", "mean", "low", "high", "n_clips", "n_windows")
_NAIVE_STYLES = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_FPS = 8.0
_PAPER_METRICS = {"PSNR": "psnr", "SSIM": "ssim_paper"}


def write(
    folder: str | os.PathLike,
    table: evaluate.Table,
    about: dict,
    *,
    naive: tuple[str, ...] = (),
    blame: tuple[str, ...] = (),
    fvd: dict | None = None,
    reference: list[dict] | None = None,
) -> dict:
    """Writes everything into `folder`; the summary that summary.json holds.

    about: what was done (data, protocol, command, machine ...), told as it is. naive: predictors
    drawn thin and grey. blame: predictors of the figure that shows where quality is lost. fvd:
    {predictor: perceptual.Fvd as a dict}. reference: curves of `read_reference`.
    """
    folder = pathlib.Path(folder)
    found = evaluate.summarize(table)
    counts = {"clips": len(set(table.clips)), "windows": len(table.clips)}
    summary = {**about, **counts, "predictors": found}
    if fvd:
        summary["fvd"] = fvd
    figures = _draw_all(found, naive, blame, reference or [])
    video_io.write_text(folder / "per_step.csv", _csv(found, counts))
    video_io.write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    for name, png in figures.items():
        with video_io.atomic(folder / f"{name}.png") as path:
            pathlib.Path(path).write_bytes(png)
    video_io.write_text(folder / "index.html", _page(summary, table.shown, figures, naive))
    return summary


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


def _draw_all(found, naive, blame, reference) -> dict[str, bytes]:
    metrics = list(dict.fromkeys(m for entry in found.values() for m in entry))
    figures = {}
    for metric in metrics:
        lines = {name: entry[metric] for name, entry in found.items() if metric in entry}
        drawn = [curve for curve in reference if curve["metric"] == metric]
        figures[metric] = _draw([(metric, lines)], naive, drawn)
    parts = [("psnr", {n: found[n]["psnr"] for n in blame if "psnr" in found.get(n, {})})]
    parts += [
        (m, {n: e[m] for n, e in found.items() if m in e})
        for m in ("fusion_psnr", "edge_f1", "miou")
    ]
    parts = [part for part in parts if part[1]]
    if blame and parts:
        figures["blame"] = _draw(parts, naive, [])
    return figures


def _draw(panels, naive, reference) -> bytes:
    """A PNG of panels side by side: (metric, {predictor: entry})."""
    figure = Figure(
        figsize=(7 if len(panels) == 1 else 4.6 * len(panels), 4.2), layout="constrained"
    )
    for axes, (metric, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
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
        unit = evaluate.METRICS[metric].unit
        better = {
            True: "higher is better",
            False: "lower is better",
            None: "like the truth's is best",
        }
        better = better[evaluate.METRICS[metric].higher_is_better]
        axes.set(xlabel="step", title=f"{metric}{f' ({unit})' if unit else ''}: {better}")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _page(summary, shown, figures, naive) -> str:
    template = importlib.resources.files("vidpred_jax").joinpath("report.html").read_text()
    about = {k: v for k, v in summary.items() if k not in ("predictors", "fvd")}
    rows = "".join(
        f"<tr><th>{_text(k)}</th><td>{_text(json.dumps(v) if isinstance(v, dict) else v)}</td></tr>"
        for k, v in about.items()
    )
    parts = [_means(summary["predictors"]), _steps(summary["predictors"])]
    if "fvd" in summary:
        parts.append(_fvd_table(summary["fvd"]))
    curves = "".join(
        f'<figure><img alt="{_text(name)} by step" src="{_uri(png, "image/png")}"></figure>'
        for name, png in sorted(figures.items(), key=lambda item: item[0] != "blame")
    )
    return string.Template(template).substitute(
        title=_text(f"{summary.get('data', 'evaluation')}: video prediction"),
        about=rows,
        tables="".join(parts),
        curves=curves,
        clips="".join(_clip(entry, naive) for entry in shown),
    )


def _means(found) -> str:
    metrics = list(dict.fromkeys(m for entry in found.values() for m in entry))
    best = {}
    for metric in metrics:
        values = [entry[metric]["mean"] for entry in found.values() if metric in entry]
        best[metric] = evaluate.METRICS[metric].best(values)
    lines = []
    for name, entry in found.items():
        cells = []
        for metric in metrics:
            cells.append(_cell(entry.get(metric), best[metric]))
        lines.append(f"<tr><th>{_text(name)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{_text(m)}</th>" for m in metrics)
    return (
        "<h2>Means over steps</h2><p>In brackets: bootstrap 95 % interval over clips.</p>"
        f"<table><tr><th></th>{head}</tr>{''.join(lines)}</table>"
    )


def _cell(entry, best) -> str:
    if entry is None:
        return "<td></td>"
    digits = 2 if abs(entry["mean"]) >= 10 else 3
    text = f"{entry['mean']:.{digits}f}"
    interval = (
        f" [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"
        if entry["low"] is not None
        else ""
    )
    mark = ' class="best"' if entry["mean"] == best else ""
    return f"<td{mark}>{text}<small>{interval}</small></td>"


def _steps(found) -> str:
    parts = []
    for metric, digits in (("psnr", 2), ("ssim", 3)):
        entries = {
            name: entry[metric]["per_step"] for name, entry in found.items() if metric in entry
        }
        if not entries:
            continue
        shown = [s for s in evaluate.SHOWN_STEPS if s <= len(next(iter(entries.values())))]
        best = {s: max(values[s - 1] for values in entries.values()) for s in shown}
        lines = []
        for name, values in entries.items():
            cells = "".join(
                f"<td{' class=best' if values[s - 1] == best[s] else ''}>{values[s - 1]:.{digits}f}</td>"
                for s in shown
            )
            lines.append(f"<tr><th>{_text(name)}</th>{cells}</tr>")
        head = "".join(f"<th>t+{s}</th>" for s in shown)
        parts.append(
            f"<h2>{metric} by step</h2><table><tr><th></th>{head}</tr>{''.join(lines)}</table>"
        )
    return "".join(parts)


def _fvd_table(fvd) -> str:
    lines = "".join(
        f"<tr><th>{_text(name)}</th><td>{v['value']:.1f}</td><td>{v['num_real']}</td>"
        f"<td>{v['num_predicted']}</td><td>{v['num_frames']}</td></tr>"
        for name, v in fvd.items()
    )
    return (
        "<h2>FVD</h2><p>I3D logits, predicted frames alone (no context). With few videos it says "
        "little: compare only equal counts.</p><table><tr><th></th><th>FVD</th><th>real videos</th>"
        f"<th>predicted videos</th><th>frames</th></tr>{lines}</table>"
    )


def _clip(entry, naive) -> str:
    truth = entry["truth"]
    cells = [_video("context", entry["context"], "", "context")]
    cells.append(_video("truth", truth, "", "future"))
    order = sorted(entry["predictions"], key=lambda name: name in naive)
    for name in order:
        frames = entry["predictions"][name]
        figures = {
            m: float(np.mean(evaluate.METRICS[m].function(frames, truth, None)))
            for m in ("psnr", "ssim")
        }
        text = f"{figures['psnr']:.2f} dB, SSIM {figures['ssim']:.3f}"
        cells.append(_video(name, frames, text, "future"))
    return (
        f'<section class="clip"><h3>{_text(entry["clip"])}, from frame {entry["start"]}</h3>'
        f'<div class="row">{"".join(cells)}</div><label><button>pause</button> step '
        f'<input type="range" min="1" max="{len(truth)}" value="1"> <output>t+1</output></label></section>'
    )


def _video(name, frames, figures, kind) -> str:
    frames = np.asarray(frames)
    if frames.dtype != np.uint8:
        frames = frames.round().clip(0, 255).astype(np.uint8)
    scale = max(1, -(-128 // frames.shape[1]))  # Small frames as blocks: the codec blurs pixels.
    frames = frames.repeat(scale, 1).repeat(scale, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "clip.webm")
        video_io.write_video(path, frames, _FPS)
        uri = _uri(path.read_bytes(), "video/webm")
    return (
        f'<figure><video class="{kind}" muted playsinline loop preload="auto" src="{uri}"></video>'
        f"<figcaption><b>{_text(name)}</b><br>{_text(figures)}</figcaption></figure>"
    )


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _text(value) -> str:
    return html.escape(str(value))
