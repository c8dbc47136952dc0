"""Fills the tables of docs/results.md, and the short ones of README.md, from results/*.json.

python benchmarks/results.py            # writes them
python benchmarks/results.py --check    # fails if one does not match
python benchmarks/results.py --add=evaluation/summary.json --name=evaluation_1_demo --title=... --note=...
"""

import json
import pathlib

from absl import flags

from vidpred_jax.cli import common
from vidpred_jax.data import writing
from vidpred_jax.metrics.named import METRICS
from vidpred_jax.metrics.summary import SHOWN_STEPS
from vidpred_jax.types import UserError

_CHECK = flags.DEFINE_bool("check", False, "Write nothing; exit code 1 if a page is stale.")
_ADD = flags.DEFINE_string("add", None, "A summary.json, ablation.json or benchmark.json to keep.")
_NAME = flags.DEFINE_string("name", None, "Its name: evaluation_, ablation_ or benchmark_ ...")
_TITLE = flags.DEFINE_string("title", None, "Its heading.")
_NOTE = flags.DEFINE_string("note", None, "How the runs were made: commands, data, time.")
_ROOT = pathlib.Path(__file__).parents[1]
_NAMES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS"}


def table(report: dict) -> str:
    """Markdown of one results file: what it is, how it was made, one row a predictor or case."""
    kinds = {"seeds": _seeds_table, "cases": _benchmark_table}
    make = next((make for name, make in kinds.items() if name in report), _steps_table)
    heading = [f"### {report['title']}", "", report["note"], "", f"`{report['command']}`", ""]
    return "\n".join([*heading, *make(report), ""])


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _benchmark_table(report) -> list[str]:
    """One row a case: time, memory, and what PyTorch and native convolutions take for the same; medians."""
    names = ["preset", "parameters", "convolutions", "precision", "batch_size", "milliseconds"]
    names += ["frames_per_second", "peak_mib", "share_of_ceiling", "torch_milliseconds", "times_torch"]
    names += ["times_native", "times_fast", "input_times_step_rate", "error"]
    names = [name for name in names if any(name in case for case in report["cases"])]
    head = ["case", *(name.replace("_", " ") for name in names)]
    cells = lambda case: [f"{case['case']} at {case['size']}", *(str(case.get(n, "")) for n in names)]
    return [*_rows(head, map(cells, report["cases"])), "", _machine(report)]


def _seeds_table(report) -> list[str]:
    """Means over seeds and, of what was trained, their standard deviation (n - 1)."""
    predictors = report["predictors"]
    metrics = list(next(iter(predictors.values()))["mean"])
    rows = []
    for name, found in predictors.items():
        cells = [name, f"{found['parameters']:,}" if "parameters" in found else ""]
        for metric in metrics:
            digits = 2 if metric == "psnr" else 3
            text = f"{found['mean'][metric]:.{digits}f}" if metric in found["mean"] else ""
            if text and "parameters" in found and "std" in found:
                text += f" ± {found['std'][metric]:.{digits}f}"
            cells.append(text)
        rows.append(cells)
    head = ["predictor", "parameters", *(_NAMES.get(m, m) for m in metrics)]
    seeds = ", ".join(map(str, report["seeds"]))
    about = f"{report['data']}: {report['windows']} windows; seeds {seeds}. {_machine(report)}"
    return [*_rows(head, rows), "", about]


def _steps_table(report) -> list[str]:
    """Ours, with its variants, beside three of the five naive baselines."""
    left_out = ("mean_context", "flow_blur")
    predictors = {k: v for k, v in report["predictors"].items() if k not in left_out}
    shown = [s for s in SHOWN_STEPS if s <= report["steps"]]
    fvd = {name: f"{found['value']:.0f}" for name, found in report.get("fvd", {}).items()}
    metrics = list(dict.fromkeys(m for found in predictors.values() for m in found))
    means = lambda m: [found[m]["mean"] for found in predictors.values() if m in found]
    best = {metric: METRICS[metric].best(means(metric)) for metric in metrics}
    rows = []
    for name, found in predictors.items():
        steps = found.get("psnr", {}).get("per_step")
        cells = [name, *(f"{steps[s - 1]:.2f}" if steps else "" for s in shown)]
        for metric in metrics:
            mean = found[metric]["mean"] if metric in found else None
            text = "" if mean is None else f"{mean:.{2 if 'psnr' in metric else 3}f}"
            cells.append(f"**{text}**" if mean is not None and mean == best[metric] else text)
        rows.append([*cells, *([fvd.get(name, "")] if fvd else [])])
    head = ["predictor", *(f"PSNR t+{s}" for s in shown), *(_NAMES.get(m, m) for m in metrics)]
    head += ["FVD"] if fvd else []
    about = (
        f"{report.get('table', 'held-out')}; {report['data']}: {report['windows']} windows at "
        f"{report['width']} x {report['height']}; {report['protocol']}. {_machine(report)}"
    )
    return [*_rows(head, rows), "", about]


def _short(report) -> str:
    """README's table: the predictors that the file names as `short`."""
    if not (rows := report.get("short")):
        return ""
    metrics = [m for m in ("psnr", "ssim", "lpips", "gradient_ratio") if m in report["predictors"][rows[0]]]
    kept = {name: {m: report["predictors"][name][m] for m in metrics} for name in rows}
    return "\n".join([f"**{report['title']}**", "", *_steps_table({**report, "predictors": kept})[:-2], ""])


def _machine(report) -> str:
    machine = report["machine"]
    return f"{machine['devices']}, {machine['cpus']} CPU cores, JAX {machine['jax']}."


def _without_root(report):
    """Run folders as seen from the project's root, which is another elsewhere."""
    named = report.get("runs", {}).items()
    return {**report, "runs": {n: [run.removeprefix(f"{_ROOT}/") for run in runs] for n, runs in named}}


def main(_):
    if _ADD.value:
        report = _without_root(json.loads(pathlib.Path(_ADD.value).read_text()))
        report = {"title": _TITLE.value, "note": _NOTE.value, **report}
        table(report)  # Fails before anything is kept.
        kept = _ROOT / "results" / f"{_NAME.value}.json"
        writing.write_text(kept, json.dumps(report, indent=1) + "\n")
    files = sorted((_ROOT / "results").glob("*.json"))
    reports = [json.loads(file.read_text()) for file in files]
    for name, make in (("docs/results.md", table), ("README.md", _short)):
        before, rest = (text := (_ROOT / name).read_text()).split("<!-- results -->\n")
        made = "\n".join(filter(None, map(make, reports)))
        made = f"{before}<!-- results -->\n{made}<!-- /results -->{rest.split('<!-- /results -->')[1]}"
        if not _CHECK.value:
            writing.write_text(_ROOT / name, made)
            print(f"wrote the tables of {name}")
        elif made != text:
            raise UserError(f"{name} does not match results/; run python benchmarks/results.py")


if __name__ == "__main__":
    common.run(main)
