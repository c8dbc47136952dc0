"""The installed command: vidpred predict | train | prepare | evaluate | export | version.

vidpred predict clip.mp4 --output=out       # what comes next; --help after any command lists its flags
vidpred prepare videos/ --name=mine         # a data set of your videos
vidpred train fusion:cpu --config.data.name=mine
vidpred evaluate mine --runs=ours=runs/fusion,runs/translator
vidpred export --run=runs/fusion --output=small
"""

import importlib
import pathlib
import runpy
import sys

import vidpred_jax

# Of each command its module, and the flag that its first word stands for.
_COMMANDS = {
    "predict": ("rollout", "video"),
    "prepare": ("prepare", "input"),
    "evaluate": ("evaluate", "data"),
    "export": ("export", "run"),
    "train": ("", "config"),
}
CONFIGS = pathlib.Path(__file__).with_name("configs")


def main() -> None:
    """Runs the command that the first word names; exit code 2 where it names none."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("version", "--version"):
        print(f"vidpred_jax {vidpred_jax.__version__}")
    elif name in ("help", "--help", "-h"):
        print(__doc__)
    elif name not in _COMMANDS:
        sys.exit(_refuse(f"{name!r} is no command; {', '.join(_COMMANDS)} and version are"))
    else:
        module, flag = _COMMANDS[name]
        if rest and not rest[0].startswith("-"):
            rest[0] = f"--{flag}={config(rest[0]) if flag == 'config' else rest[0]}"
        sys.argv = [f"vidpred {name}", *rest]
        if name == "train":
            runpy.run_module("vidpred_jax.train", run_name="__main__", alter_sys=True)
            return
        common = importlib.import_module("vidpred_jax.cli.common")
        command = importlib.import_module(f"vidpred_jax.cli.{module}")
        common.run(command.main, before=getattr(command, "before", None))


def config(named: str) -> str:
    """`fusion:cpu` -> the path of the package's config, with its preset; a path that exists stays one."""
    name, colon, preset = named.partition(":")
    if pathlib.Path(name).is_file():
        return named
    if not (CONFIGS / f"{name}.py").is_file():
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.py")))
        sys.exit(_refuse(f"config {name!r} is no file, nor one of {known}"))
    return f"{CONFIGS / name}.py{colon}{preset}"


def _refuse(message) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
