"""Validation PSNR of runs against steps and seconds of training, as a table of figures and a plot.

python scripts/convergence.py --runs=plain=runs/plain_0,runs/plain_1 --runs=with=runs/with_0,runs/with_1

The runs' metrics.jsonl tell both, of runs trained in one go. Seconds are of training alone: without
compiling, evaluating and saving.
"""

import io
import json
import pathlib
import sys

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from vidpred_jax import cli, video_io
from vidpred_jax.types import InputError

_RUNS = flags.DEFINE_multi_string("runs", [], "A curve NAME=RUN[,RUN...], its runs the seeds.")
_OUTPUT = flags.DEFINE_string("output", "convergence", "Folder of convergence.json and .png.")


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    video_io.check_writable(output)
    curves = {}
    for text in _RUNS.value:
        name, equals, folders = text.partition("=")
        if not (name and equals and folders):
            raise InputError(f"--runs={text} must be NAME=RUN[,RUN...]")
        curves[name] = _curve([_read(folder) for folder in folders.split(",")], text)
    if not curves:
        raise InputError("give one or more --runs=NAME=RUN[,RUN...]")
    report = {"command": " ".join(["python", *sys.argv]), "curves": curves}
    video_io.write_text(output / "convergence.json", json.dumps(report, indent=1) + "\n")
    with video_io.atomic(output / "convergence.png") as path:
        pathlib.Path(path).write_bytes(_draw(curves))
    for name, curve in curves.items():
        last = f"{curve['psnr'][-1]:.2f} +- {curve['psnr_std'][-1]:.2f} dB"
        print(f"{name}: {last} at step {curve['step'][-1]} after {curve['seconds'][-1]:.0f} s")
    print(f"wrote {output / 'convergence.json'} and convergence.png")


def _read(folder) -> list[tuple[int, float, float]]:
    """(step, seconds, PSNR) at every evaluation of a run."""
    path = pathlib.Path(folder, "metrics.jsonl")
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    found = [
        (line["step"], line["seconds"], line["evaluation"]["ours"]["psnr"]["mean"])
        for line in lines
        if "evaluation" in line
    ]
    if not found:
        raise InputError(f"{path} holds no evaluation")
    return found


def _curve(runs, text) -> dict:
    """Means and standard deviations over seeds."""
    if len({tuple(step for step, _, _ in run) for run in runs}) > 1:
        raise InputError(f"--runs={text}: the runs are not evaluated at the same steps")
    values = np.array(runs)  # (seeds, evaluations, 3)
    mean, std = values.mean(0), values.std(0)
    rounded = lambda x: [round(float(v), 4) for v in x]
    return {
        "seeds": len(runs),
        "step": [int(v) for v in mean[:, 0]],
        "seconds": rounded(mean[:, 1]),
        "psnr": rounded(mean[:, 2]),
        "psnr_std": rounded(std[:, 2]),
    }


def _draw(curves) -> bytes:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, field in zip(figure.subplots(1, 2, sharey=True), ("step", "seconds"), strict=True):
        for name, curve in curves.items():
            mean, std = np.array(curve["psnr"]), np.array(curve["psnr_std"])
            (line,) = axes.plot(curve[field], mean, "o-", label=f"{name} ({curve['seeds']} seeds)")
            axes.fill_between(
                curve[field], mean - std, mean + std, color=line.get_color(), alpha=0.2
            )
        axes.set(xlabel=field, ylabel="validation PSNR (dB)")
        axes.grid(alpha=0.25)
        axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


if __name__ == "__main__":
    cli.run(main)
