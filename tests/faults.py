"""Kills trainings at random moments, restarts them, and compares them with unbroken ones.

python tests/faults.py --runs=40 [--seed=0] [--output=results/faults.json]

Each training gets `--kills` signals, SIGKILL or SIGTERM: while it starts or resumes, at a random
step, or as soon as a save is being written. At the end every array of its last checkpoint, its data
position and its best-so-far record must equal those of a run that nobody disturbed, and no restart
may have begun before the newest save that was finished.
"""

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import random
import re
import runpy
import signal
import sys
import tempfile
import time

import commands
import numpy as np
import orbax.checkpoint as ocp

ROOT = pathlib.Path(__file__).parents[1]
NUM_STEPS, SAVE_EVERY = 40, 4
STAGES = ("fusion", "translator")
_FLAGS = {
    "num_steps": NUM_STEPS,
    "save_every": SAVE_EVERY,
    "log_every": 1,
    "evaluation.every": 2 * SAVE_EVERY,
    "optimizer.schedule": "constant",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = run(pathlib.Path(folder), options.runs, options.kills, options.seed, log=_say)
    kills = [kill for x in found for kill in x["kills"]]
    summary = {
        "command": " ".join(["python", *sys.argv]),
        "runs": len(found),
        "equal": sum(x["equal"] for x in found),
        "steps_of_a_run": NUM_STEPS,
        "save_every": SAVE_EVERY,
        "signals": _count(kills, "signal"),
        "moments": _count(kills, "moment"),
        "exits": _count(kills, "exit"),
        "stops_not_saved": sum(
            k["signal"] == "SIGTERM" and k["moment"] != "starting" and k["exit"] not in (75, 0) for k in kills
        ),
        "finished_saves_lost": sum(kill["resumed_at"] < kill["saved"] for kill in kills),
        "most_steps_lost": {
            name: max((k["steps_lost"] for k in kills if k["signal"] == name), default=0)
            for name in ("SIGKILL", "SIGTERM")
        },
    }
    print(json.dumps(summary, indent=1))
    report = {**summary, "seconds": round(time.monotonic() - start), "each": found}
    if options.output:
        pathlib.Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
    lost = summary["finished_saves_lost"] + summary["stops_not_saved"]
    sys.exit(summary["equal"] != len(found) or lost > 0)


def _count(kills, name) -> dict:
    return dict(collections.Counter(str(kill[name]) for kill in kills))


def _say(line):
    print(line, flush=True)


def run(folder: pathlib.Path, runs: int, kills: int, seed: int, log, data_dir=None) -> list[dict]:
    """What became of each disturbed training."""
    rng = random.Random(seed)
    data_dir = data_dir or folder / "data"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # Killed processes leave semaphores to Python's tracker, which tells them at the end.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    whole = {}
    for stage in STAGES[:runs]:
        whole[stage] = folder / f"whole_{stage}"
        training = _Training(stage, whole[stage], data_dir)
        assert training.wait() == 0, training.text()
    found = []
    for number in range(runs):
        stage = STAGES[number % len(STAGES)]
        workdir, done = folder / f"killed_{number}", []
        for _ in range(kills):
            done.append(_kill(_Training(stage, workdir, data_dir), rng))
        training = _Training(stage, workdir, data_dir)
        code = training.wait()
        begun = [kill.pop("begun_at") for kill in done] + [training.begun_at()]
        for place, kill in enumerate(done, 1):
            # Of the next training that lived to begin.
            at = next((x for x in begun[place:] if x is not None), 0)
            kill |= {"resumed_at": at, "steps_lost": max(kill["last_step"] - at, 0)}
        equal = code == 0 and _equal(workdir, whole[stage])
        found.append({"run": number, "stage": stage, "equal": equal, "kills": done})
        said = ", ".join(
            f"{k['signal']} {k['moment']} at step {k['last_step']} (exit {k['exit']}, {k['steps_lost']} lost)"
            for k in done
        )
        log(f"run {number}: {stage}: {said}: {'equal' if equal else 'DIFFERENT'}")
        if not equal:
            log(training.text())
    return found


class _Training:
    """A training in a process of its own, forked from one that has the imports behind it."""

    def __init__(self, stage, workdir, data_dir):
        self.workdir = workdir
        self._said = workdir.with_name(f"{workdir.name}_{time.monotonic_ns()}.txt")
        fields = {**_FLAGS, "data.data_dir": data_dir}
        flags = [f"--config.{name}={value}" for name, value in fields.items()]
        args = ["vidpred_jax.train", f"--config=configs/{stage}.py:smoke", f"--workdir={workdir}"]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(commands.PRELOADED)
        self.process = context.Process(target=_train, args=([*args, *flags], str(self._said)))
        self.process.start()

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode

    def text(self) -> str:
        return self._said.read_text() if self._said.exists() else ""

    def begun_at(self) -> int | None:
        """The step it began at, once it has said so."""
        text = self.text()
        found = re.search(r"resuming .* at step (\d+)", text)
        return int(found[1]) if found else 0 if " parameters, " in text else None

    def last_step(self) -> int:
        return max([0, *map(int, re.findall(rf" step (\d+)/{NUM_STEPS} ", self.text()))])


def _train(args, said):
    for number in (1, 2):
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.chdir(ROOT)
    sys.argv = args
    runpy.run_module(args[0], run_name="__main__", alter_sys=True)


def _kill(training, rng) -> dict:
    """Sends one signal, unless the training ends before."""
    number = rng.choice([signal.SIGKILL, signal.SIGTERM])
    moment = rng.choices(["starting", "at a step", "in a save"], [1, 3, 3])[0]
    share, delay = rng.uniform(0, 0.8), rng.uniform(0, 2.0 if moment == "starting" else 0.05)
    begin = time.monotonic()
    while training.process.is_alive() and time.monotonic() < begin + 120:
        begun = training.begun_at() or 0
        step = begun + 1 + share * (NUM_STEPS - begun - 2)
        if moment == "starting" or training.last_step() >= step:
            if moment != "in a save":
                time.sleep(delay)
                break
            if any(training.workdir.glob("checkpoints/*tmp*")):
                break
        time.sleep(0.002)
    if training.process.is_alive():
        os.kill(training.process.pid, number)
    code = training.wait()
    folders = training.workdir.glob("checkpoints/*")
    return {
        "signal": number.name,
        "moment": moment,
        "exit": code,
        "last_step": max(training.last_step(), training.begun_at() or 0),
        "saved": max([0, *(int(x.name) for x in folders if x.name.isdigit())]),
        "begun_at": training.begun_at(),
    }


def _equal(one, other) -> bool:
    """Whether two runs end with the same arrays, data position and records of quality."""
    read = ocp.StandardCheckpointer()
    for item in ("inference", "training"):
        trees = [read.restore(x / "checkpoints" / str(NUM_STEPS) / item) for x in (one, other)]
        names = [[*map(str, ocp.tree.to_flat_dict(tree))] for tree in trees]
        leaves = [ocp.tree.to_flat_dict(tree).values() for tree in trees]
        if names[0] != names[1]:
            return False
        if not all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True)):
            return False
    metas = [_meta(x) for x in (one, other)]
    return metas[0] == metas[1]


def _meta(workdir):
    step = workdir / "checkpoints" / str(NUM_STEPS)
    meta = json.loads(next((step / "meta").glob("metadata*")).read_text())
    metrics = json.loads((step / "metrics" / "metrics").read_text())
    return meta["data_state"], meta["digests"], metrics


if __name__ == "__main__":
    main()
