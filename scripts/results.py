"""Fills the README's result tables from results/*.json.

python scripts/results.py            # writes README.md
python scripts/results.py --check    # fails if README.md does not match
python scripts/results.py --add=rollout/metrics.json --name=1_demo --title=... --note=...
"""

import json
import pathlib

from absl import flags

from vidpred_jax import cli, video_io
from vidpred_jax.evaluate import SHOWN_STEPS
from vidpred_jax.types import InputError, UserError

_CHECK = flags.DEFINE_bool("check", False, "Only compare; exit code 1 if README.md is stale.")
_ADD = flags.DEFINE_string("add", None, "A metrics.json of rollout.py to keep in results/.")
_NAME = flags.DEFINE_string("name", None, "Its name; tables stand in the order of their names.")
_TITLE = flags.DEFINE_string("title", None, "Its heading.")
_NOTE = flags.DEFINE_string("note", None, "How the runs were made: commands, data, time.")
_ROOT = pathlib.Path(__file__).parents[1]
_BEGIN, _END = "<!-- results -->\n", "<!-- /results -->"


def table(report: dict) -> str:
    """Markdown of one results file: what it is, how it was made, one row a predictor."""
    shown = [s for s in SHOWN_STEPS if s <= report["steps"]]
    lines = [
        f"### {report['title']}",
        "",
        report["note"],
        "",
        f"`{report['command']}`",
        "",
        "| predictor | " + " | ".join(f"t+{s}" for s in shown) + " | PSNR | SSIM |",
        "|---" * (len(shown) + 3) + "|",
    ]
    best = {
        metric: max(found[metric]["mean"] for found in report["predictors"].values())
        for metric in ("psnr", "ssim")
    }
    for name, found in report["predictors"].items():
        steps = [f"{found['psnr']['per_step'][s - 1]:.2f}" for s in shown]
        means = []
        for metric, digits in (("psnr", 2), ("ssim", 3)):
            text = f"{found[metric]['mean']:.{digits}f}"
            means.append(f"**{text}**" if found[metric]["mean"] == best[metric] else text)
        lines.append(f"| {name} | " + " | ".join(steps + means) + " |")
    machine = report["machine"]
    lines += [
        "",
        f"{report['windows']} windows at {report['width']} x {report['height']}; seed {report['seed']}; "
        f"{machine['devices']}, {machine['cpus']} CPU cores, JAX {machine['jax']}.",
        "",
    ]
    return "\n".join(lines)


def main(_):
    if _ADD.value:
        if not (_NAME.value and _TITLE.value and _NOTE.value):
            raise InputError("--add needs --name, --title and --note")
        report = json.loads(pathlib.Path(_ADD.value).read_text())
        report = {"title": _TITLE.value, "note": _NOTE.value, **report}
        kept = _ROOT / "results" / f"rollout_{_NAME.value}.json"
        video_io.write_text(kept, json.dumps(report, indent=1) + "\n")
    files = sorted((_ROOT / "results").glob("rollout_*.json"))
    reports = [json.loads(file.read_text()) for file in files]
    readme = _ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    made = before + _BEGIN + "\n".join(table(r) for r in reports) + _END + after
    if _CHECK.value and made != text:
        raise UserError("README.md does not match results/; run python scripts/results.py")
    if not _CHECK.value:
        video_io.write_text(readme, made)
        print(f"wrote {len(reports)} tables into {readme.name}")


if __name__ == "__main__":
    cli.run(main)
