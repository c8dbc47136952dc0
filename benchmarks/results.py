"""Fills the result tables of README.md and docs/experiments.md from results/*.json.

python benchmarks/results.py            # writes them
python benchmarks/results.py --check    # fails if one does not match
python benchmarks/results.py --add=rollout/metrics.json --name=1_demo --title=... --note=...
"""

import json
import pathlib

from absl import flags
from oracles import BOUNDS

from vidpred_jax.cli import common
from vidpred_jax.data import video_io
from vidpred_jax.metrics.named import METRICS
from vidpred_jax.metrics.summary import SHOWN_STEPS
from vidpred_jax.types import InputError, UserError

_CHECK = flags.DEFINE_bool("check", False, "Only compare; exit code 1 if README.md is stale.")
_ADD = flags.DEFINE_string(
    "add",
    None,
    "A metrics.json of rollout.py, summary.json of evaluate.py, ablation.json or benchmark.json to "
    "keep in results/.",
)
_NAME = flags.DEFINE_string("name", None, "Its name; tables stand in the order of their names.")
_TITLE = flags.DEFINE_string("title", None, "Its heading.")
_NOTE = flags.DEFINE_string("note", None, "How the runs were made: commands, data, time.")
_ROOT = pathlib.Path(__file__).parents[1]
_KINDS = ("rollout", "evaluation", "ablation")
_NAMES = {"psnr": "PSNR", "ssim": "SSIM"}
# Of each page, between two marks: the files whose tables stand there.
_PAGES = {
    "README.md": {"results": _KINDS, "benchmark": ("benchmark",)},
    "docs/experiments.md": {"trials": ("trials",), "bounds": ("bounds",)},
}


def _number_and_name(file: pathlib.Path) -> tuple[int, str]:
    """Where a results file stands among others: 9_b before 10_a."""
    name = file.stem.partition("_")[2]
    number = name.partition("_")[0]
    return int(number) if number.isdecimal() else 0, name


def table(report: dict) -> str:
    """Markdown of one results file: what it is, how it was made, one row a predictor."""
    kinds = {"seeds": _seeds_table, "cases": _benchmark_table, "trials": _trials_table}
    return next((make for name, make in kinds.items() if name in report), _steps_table)(report)


def _benchmark_table(report) -> str:
    """One row a case: time, memory, and what PyTorch and native convolutions take for the same."""
    names = [
        "convolutions",
        "precision",
        "batch_size",
        "milliseconds",
        "frames_per_second",
        "peak_mib",
    ]
    names += ["share_of_ceiling"]
    names += ["torch_milliseconds", "times_torch", "torch_compiled_milliseconds"]
    names += ["times_torch_compiled", "times_native", "times_fast"]
    names += ["first_epoch_input_times_step_rate", "input_times_step_rate", "error"]
    names = [name for name in names if any(name in case for case in report["cases"])]
    lines = [
        *_heading(report),
        "| case | " + " | ".join(name.replace("_", " ") for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for case in report["cases"]:
        cells = [str(case.get(name, "")) for name in names]
        lines.append(f"| {case['case']} at {case['size']} | " + " | ".join(cells) + " |")
    machine = report["machine"]
    peer = f", PyTorch {machine['torch']}" if "torch" in machine else ""
    turns = ", in turn where times are compared" if any("times" in name for name in names) else ""
    conditions = (
        f"Medians of calls{turns}. Matmul ceiling of the same run: {_ceilings(report)}. "
        f"{machine['devices']}, {machine['cpus']} CPU cores, JAX {machine['jax']}{peer}."
    )
    return "\n".join([*lines, "", conditions, ""])


def _ceilings(report) -> str:
    """By precision; from the lowest to the highest where it was measured at every case."""
    found = {name: [limit] for name, limit in report.get("ceiling_gflops", {}).items()}
    for case in report["cases"]:
        if "ceiling_gflops" in case:
            found.setdefault(case["precision"], []).append(case["ceiling_gflops"])
    ranges = {p: " to ".join(f"{v}" for v in sorted({min(x), max(x)})) for p, x in found.items()}
    return ", ".join(f"{limits} GFLOP/s in {name}" for name, limits in ranges.items())


def _trials_table(report) -> str:
    """One row a trial: what was tried, what came out, whether it stayed and why."""
    columns = ("trial", "figures", "seconds", "seed", "kept", "why")
    lines = [*_heading(report), "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for trial in report["trials"]:
        figures = ", ".join(f"{name} {value}" for name, value in trial["figures"].items())
        cells = {**trial, "figures": figures, "kept": "yes" if trial["kept"] else "no"}
        texts = ["" if cells.get(name) is None else str(cells[name]) for name in columns]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join([*lines, ""])


def _seeds_table(report) -> str:
    """Means over seeds and, of what was trained, their standard deviation."""
    predictors = report["predictors"]
    metrics = list(next(iter(predictors.values()))["mean"])
    lines = [
        *_heading(report),
        "| predictor | parameters | ms a frame | "
        + " | ".join(_NAMES.get(m, m) for m in metrics)
        + " |",
        "|---" * (len(metrics) + 3) + "|",
    ]
    for name, found in predictors.items():
        cells = [f"{found['parameters']:,}" if "parameters" in found else ""]
        cost = [report.get("translator_ms_per_frame")] * (name == "translator alone")
        cost = list(found.get("ms_per_frame", {}).values()) or cost
        cells.append(f"{sum(cost) / len(cost):.2f}" if cost else "")
        for metric in metrics:
            digits = 2 if metric == "psnr" else 3
            text = f"{found['mean'][metric]:.{digits}f}" if metric in found["mean"] else ""
            if text and "parameters" in found and len(report["seeds"]) > 1:
                text += f" ± {found['std'][metric]:.{digits}f}"
            cells.append(text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    machine = report["machine"]
    conditions = (
        f"{report['data']}: {report['windows']} windows at {report['width']} x {report['height']}; "
        f"means of per-frame values; schedules frozen on {report['validation_windows']} validation windows; "
        f"seeds {', '.join(map(str, report['seeds']))}; {machine['devices']}, {machine['cpus']} CPU cores, "
        f"JAX {machine['jax']}."
    )
    return "\n".join([*lines, "", conditions, ""])


def _heading(report) -> list[str]:
    return [f"### {report['title']}", "", report["note"], "", f"`{report['command']}`", ""]


def _steps_table(report) -> str:
    predictors = report["predictors"]
    shown = [s for s in SHOWN_STEPS if s <= report["steps"]]
    metrics = list(dict.fromkeys(m for found in predictors.values() for m in found))
    best = {}
    for metric in metrics:
        means = [found[metric]["mean"] for found in predictors.values() if metric in found]
        best[metric] = METRICS[metric].best(means)
    fvd = report.get("fvd", {})
    head = [f"PSNR t+{s}" for s in shown] + [_NAMES.get(m, m) for m in metrics]
    head += ["FVD"] * bool(fvd)
    lines = [
        *_heading(report),
        "| predictor | " + " | ".join(head) + " |",
        "|---" * (len(head) + 1) + "|",
    ]
    for name, found in predictors.items():
        cells = [
            f"{found['psnr']['per_step'][s - 1]:.2f}" if "psnr" in found else "" for s in shown
        ]
        for metric in metrics:
            mean = found[metric]["mean"] if metric in found else None
            text = "" if mean is None else f"{mean:.{2 if 'psnr' in metric else 3}f}"
            cells.append(f"**{text}**" if mean is not None and mean == best[metric] else text)
        cells += [f"{fvd[name]['value']:.0f}" if name in fvd else ""] * bool(fvd)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _conditions(report), ""])


def _conditions(report) -> str:
    machine, seed = report["machine"], report["seed"]
    seeds = sorted(set(seed.values())) if isinstance(seed, dict) else [seed]
    parts = [
        f"{report['data']}: {report['windows']} windows at {report['width']} x {report['height']}"
    ]
    if "clips" in report:
        parts[0] = f"{report['table']}; {parts[0]} of {report['clips']} clips; {report['protocol']}"
    parts += [
        f"{name} sees and predicts {size[0]} x {size[1]}, its frames are then reduced"
        for name, size in report.get("predicted_at", {}).items()
    ]
    parts += [f"seed {', '.join(map(str, seeds))}"] * bool(seeds)
    parts += [
        f"FVD on {v['num_real']} real and {v['num_predicted']} predicted videos of "
        f"{v['num_frames']} frames, no context"
        for v in list(report.get("fvd", {}).values())[:1]
    ]
    parts.append(f"{machine['devices']}, {machine['cpus']} CPU cores, JAX {machine['jax']}")
    return "; ".join(parts) + "."


def main(_):
    if _ADD.value:
        if not (_NAME.value and _TITLE.value and _NOTE.value):
            raise InputError("--add needs --name, --title and --note")
        try:
            report = json.loads(pathlib.Path(_ADD.value).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"--add={_ADD.value} cannot be read: {error}") from error
        report = {"title": _TITLE.value, "note": _NOTE.value, **report}
        kind = "evaluation" if "clips" in report else "rollout"
        kind = "bounds" if BOUNDS.keys() & report.get("predictors", {}).keys() else kind
        kind = "ablation" if "seeds" in report else "benchmark" if "cases" in report else kind
        table(report)  # Fails before anything is kept.
        kept = _ROOT / "results" / f"{kind}_{_NAME.value}.json"
        video_io.write_text(kept, json.dumps(report, indent=1) + "\n")
    for page, sections in _PAGES.items():
        _fill(_ROOT / page, sections)


def _fill(page, sections):
    """Writes a page's tables, or fails where they are stale."""
    text = made = page.read_text()
    for section, kinds in sections.items():
        files = [f for kind in kinds for f in (_ROOT / "results").glob(f"{kind}_*.json")]
        files = sorted(files, key=_number_and_name)
        tables = "\n".join(table(json.loads(file.read_text())) for file in files)
        begin, end = f"<!-- {section} -->\n", f"<!-- /{section} -->"
        before, rest = made.split(begin)
        made = before + begin + tables + end + rest.split(end)[1]
    if _CHECK.value and made != text:
        raise UserError(f"{page.name} does not match results/; run python benchmarks/results.py")
    if not _CHECK.value:
        video_io.write_text(page, made)
        print(f"wrote the tables of {page.name}")


if __name__ == "__main__":
    common.run(main)
