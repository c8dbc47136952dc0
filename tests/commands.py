"""The commands of the package as a user runs them: each in a process of its own."""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import typing

ROOT = pathlib.Path(__file__).parents[1]
TRAIN = ("-m", "vidpred_jax.train")
PRELOADED = ["vidpred_jax.training.experiment", "vidpred_jax.inference.predictor"]
PRELOADED += ["vidpred_jax.training.progress"]


class Done(typing.NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def named(runs: pathlib.Path, *more: str) -> str:
    """The flag that names the runs of both stages in a folder, and of others."""
    return "--runs=" + ",".join(str(runs / stage) for stage in ("fusion", "translator", *more))


def run(*args, **environment) -> Done:
    """A command in a fresh process, from the top of the project."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", **environment}
    command = [sys.executable, *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)


def succeed(*args) -> str:
    """What a command prints that must succeed; forked, as `run_many` does."""
    with tempfile.TemporaryDirectory() as folder:
        (done,) = run_many(pathlib.Path(folder), [args])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_many(folder: pathlib.Path, commands: list[tuple]) -> list[Done]:
    """Commands one after the other, each forked from a process that has the imports behind it.

    folder: for what they print.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    found = []
    for number, args in enumerate(commands):
        paths = [str(folder / f"{number}.{name}") for name in ("out", "err")]
        process = context.Process(target=_execute, args=([str(x) for x in args], *paths))
        process.start()
        process.join()
        texts = [pathlib.Path(path).read_text() for path in paths]
        found.append(Done(process.exitcode, *texts))
    return found


def _execute(args, *paths):
    for number, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    if args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = args
        runpy.run_path(args[0], run_name="__main__")
