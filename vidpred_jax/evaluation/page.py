"""An evaluation as one HTML page that needs nothing beside it: pictures and clips are inside."""

import base64
import html
import importlib.resources
import json
import pathlib
import string
import tempfile

import numpy as np

from vidpred_jax.data import video_io
from vidpred_jax.evaluation import strip
from vidpred_jax.metrics import named
from vidpred_jax.metrics.summary import SHOWN_STEPS

_FPS = 8.0


def render(summary: dict, shown: list[dict], figures: dict[str, bytes], naive) -> str:
    """The page of a summary, `compare.Table.shown` and figures as PNG; naive clips stand last."""
    template = importlib.resources.files(__package__).joinpath("report.html").read_text()
    tables = ("predictors", "differences", "fvd")
    about = {k: v for k, v in summary.items() if k not in tables}
    rows = "".join(
        f"<tr><th>{_text(k)}</th><td>{_text(json.dumps(v) if isinstance(v, dict) else v)}</td></tr>"
        for k, v in about.items()
    )
    parts = [_means(summary["predictors"])]
    if "differences" in summary:
        parts.append(_differences_table(summary["differences"]))
    parts.append(_steps(summary["predictors"]))
    if "fvd" in summary:
        parts.append(_fvd_table(summary["fvd"]))
    curves = "".join(
        f'<figure><img alt="{_text(name)} by step" src="{_uri(png, "image/png")}"></figure>'
        for name, png in sorted(figures.items(), key=lambda item: item[0] != "ablation")
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
        best[metric] = named.METRICS[metric].best(values)
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


def _differences_table(found) -> str:
    metrics = list(dict.fromkeys(m for entry in found.values() for m in entry))
    lines = "".join(
        f"<tr><th>{_text(name)}</th>{''.join(_cell(entry.get(m), None, '+') for m in metrics)}</tr>"
        for name, entry in found.items()
    )
    head = "".join(f"<th>{_text(m)}</th>" for m in metrics)
    return (
        "<h2>Paired differences over clips, 95 %</h2><p>Of each minus what is named beside it: the best "
        "baseline, and of a variant its run. Means over steps; in brackets the bootstrap interval. Rows that "
        "are given true maps are oracles.</p>"
        f"<table><tr><th></th>{head}</tr>{lines}</table>"
    )


def _cell(entry, best, sign="") -> str:
    if entry is None:
        return "<td></td>"
    digits = 2 if abs(entry["mean"]) >= 10 else 3
    text = f"{entry['mean']:{sign}.{digits}f}"
    interval = ""
    if entry["low"] is not None:
        interval = f" [{entry['low']:{sign}.{digits}f}, {entry['high']:{sign}.{digits}f}]"
    if "against" in entry:
        interval += f" {_text(entry['against'])}"
    mark = ' class="best"' if entry["mean"] == best else ""
    return f"<td{mark}>{text}<small>{interval}</small></td>"


def _steps(found) -> str:
    parts = []
    for metric, digits in (("psnr", 2), ("ssim", 3)):
        entries = {name: entry[metric]["per_step"] for name, entry in found.items() if metric in entry}
        if not entries:
            continue
        shown = [s for s in SHOWN_STEPS if s <= len(next(iter(entries.values())))]
        best = {s: max(values[s - 1] for values in entries.values()) for s in shown}
        lines = []
        for name, values in entries.items():
            cells = "".join(
                f"<td{' class=best' if values[s - 1] == best[s] else ''}>{values[s - 1]:.{digits}f}</td>"
                for s in shown
            )
            lines.append(f"<tr><th>{_text(name)}</th>{cells}</tr>")
        head = "".join(f"<th>t+{s}</th>" for s in shown)
        parts.append(f"<h2>{metric} by step</h2><table><tr><th></th>{head}</tr>{''.join(lines)}</table>")
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
            m: float(np.mean(named.METRICS[m].function(frames[None], truth[None], None)))
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
    frames = strip.to_pixels(frames)
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
