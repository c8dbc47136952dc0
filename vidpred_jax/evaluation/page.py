"""HTML pages that need nothing beside them, of an evaluation and of a prediction: clips are inside."""

import base64
import pathlib

import jinja2
import numpy as np

from vidpred_jax.data import fusion, strip, video_io
from vidpred_jax.metrics import named
from vidpred_jax.metrics.summary import SHOWN_STEPS

_FPS = 8.0
BETTER = {True: "higher is better", False: "lower is better", None: "best where it is the truth's"}
_HEADLINE = "psnr", "ssim", "lpips"


def report(summary: dict, shown: list[dict], figures: dict[str, bytes], naive) -> str:
    """The page of a summary, `compare.Table.shown` and figures as PNG; naive clips stand last."""
    found, tables = summary["predictors"], ("predictors", "differences", "fvd")
    headlines = [
        {"name": name, "metrics": {m: entry[m] for m in _HEADLINE if m in entry}}
        for name, entry in summary.get("differences", {}).items()
        if {x["against"] for x in entry.values()} <= set(naive)
    ]
    return _render(
        "report.html",
        title=f"{summary.get('data', 'evaluation')}: video prediction",
        summary={"differences": None, "fvd": None, **summary},
        headlines=[line for line in headlines if line["metrics"]],
        clips=[_shown_clip(entry, naive) for entry in shown],
        best=_best(found),
        steps=_by_step(found),
        figures=_uris(figures),
        about={k: v for k, v in summary.items() if k not in tables},
    )


def prediction(title: str, headline: str, clips: list[dict], found: dict, figures: dict, about: dict) -> str:
    """clips: of `clip`. found: of `summary.summarize`, {} where the truth is unknown."""
    told = {"title": title, "headline": headline, "clips": clips, "found": found, "about": about}
    return _render("prediction.html", **told, best=_best(found), figures=_uris(figures))


def clip(title: str, videos: list[tuple], fps: float = _FPS, source_fps: float | None = None) -> dict:
    """A clip as a page plays it. videos: (name, words, frames) each, the first the context, the second as
    long as the player runs. source_fps: of the video itself, where a page tells seconds."""
    told = [_video(name, words, frames, fps, not i) for i, (name, words, frames) in enumerate(videos)]
    return {"title": title, "videos": told, "fps": fps, "source_fps": source_fps, "steps": len(videos[1][2])}


def measured(frames: np.ndarray, truth: np.ndarray) -> str:
    """PSNR and SSIM of a clip's frames, in words."""
    values = (np.mean(named.METRICS[m].function(frames[None], truth[None], None)) for m in ("psnr", "ssim"))
    return "{:.2f} dB, SSIM {:.3f}".format(*values)


def _render(template, **values) -> str:
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    strict = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    pages = jinja2.Environment(loader=loader, autoescape=True, **strict)
    pages.globals.update(meaning=_meaning, columns=_columns)
    return pages.get_template(template).render(values)


def _meaning(name) -> str:
    metric = named.METRICS[name]
    return f"{metric.meaning}{f' ({metric.unit})' if metric.unit else ''}; {BETTER[metric.higher_is_better]}"


def _columns(found) -> list[str]:
    return list(dict.fromkeys(metric for entry in found.values() for metric in entry))


def _best(found) -> dict:
    means = lambda metric: [entry[metric]["mean"] for entry in found.values() if metric in entry]
    return {metric: named.METRICS[metric].best(means(metric)) for metric in _columns(found)}


def _by_step(found) -> dict:
    tables = {}
    for metric, digits in (("psnr", 2), ("ssim", 3)):
        rows = {name: entry[metric]["per_step"] for name, entry in found.items() if metric in entry}
        if not rows:
            continue
        steps = [s for s in SHOWN_STEPS if s <= len(next(iter(rows.values())))]
        rows = {name: [values[s - 1] for s in steps] for name, values in rows.items()}
        best = [max(column) for column in zip(*rows.values(), strict=True)]
        tables[metric] = {"steps": steps, "rows": rows, "best": best, "digits": digits}
    return tables


def _shown_clip(entry, naive) -> dict:
    truth, predicted = entry["truth"], entry["predictions"]
    videos = [("context", "", entry["context"]), ("truth", "", truth)]
    for name in sorted(predicted, key=lambda name: name in naive):
        videos.append((name, measured(predicted[name], truth), predicted[name]))
    return clip(f"{entry['clip']}, from frame {entry['start']}", videos)


def _video(name, words, frames, fps, is_context) -> dict:
    uri = video_io.to_uri(strip.enlarge(fusion.quantize(frames)), fps)
    return {"name": name, "text": words, "uri": uri, "kind": "context" if is_context else "future"}


def _uris(figures) -> dict:
    """Of PNGs, that of the ablation first."""
    ordered = sorted(figures.items(), key=lambda x: x[0] != "ablation")
    return {name: f"data:image/png;base64,{base64.b64encode(png).decode()}" for name, png in ordered}
