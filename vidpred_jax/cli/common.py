"""What the commands share: one clear line for a user's mistake, and the right exit code."""

import contextlib
import functools
import json
import os
import re
import runpy
import sys
import traceback
import warnings
from collections.abc import Callable

import jax
from absl import app, flags, logging

import vidpred_jax
from vidpred_jax import processes, startup, stores
from vidpred_jax.config import removed
from vidpred_jax.types import DamagedWarning, InputError, UserError, reason

_DEBUG = flags.DEFINE_bool("debug", False, "Show a traceback and check every operation for NaN.")

_CACHE = flags.DEFINE_string(
    "compilation_cache", None, "Folder that keeps compiled programs, or off; ~/.cache/vidpred_jax."
)


def run(main: Callable[[list[str]], None], before: Callable[[], None] | None = None) -> None:
    """Runs `main` as a program: exit code 2 for bad input, 1 for a failure, 130 for Ctrl-C.

    75 stands for a training that was asked to stop, and is saved.
    """
    keep_errors_to_a_line()
    jax.config.update("jax_enable_x64", False)  # Whatever the environment says: networks are of float32.
    startup.collect_rarely()
    startup.compile_quickly()
    if not processes.has_accelerator():
        startup.keep_memory()

    def guarded(argv):
        # Orbax reports every file it moves, and logs each error before it raises it.
        logging.set_verbosity(logging.ERROR if _DEBUG.value else logging.FATAL)
        jax.config.update("jax_debug_nans", _DEBUG.value)
        startup.keep_programs(_CACHE.value)
        try:
            if argv[1:]:
                raise InputError(f"argument {argv[1]!r} is not a flag; flags begin with --")
            _traced(main, argv)
        except UserError as error:
            _stop(str(error), error.exit_code, error.label)
        except KeyboardInterrupt:
            _stop("interrupted", 130)
        except OSError as error:
            _stop(f"{error.filename or 'a file'}: {error.strerror or error}", UserError.exit_code)
        except Exception as error:
            _stop(f"{type(error).__name__}: {reason(error)} (--debug shows where)", UserError.exit_code)

    try:
        if before:
            before()
        _check_platforms()
    except InputError as error:
        _stop(str(error), error.exit_code)
    app.run(guarded, flags_parser=functools.partial(_parse, module=sys.modules[main.__module__]))


def _check_platforms() -> None:
    """Raises InputError where JAX_PLATFORMS names what is not here: later a checkpoint would be blamed."""
    if asked := os.environ.get("JAX_PLATFORMS"):
        try:
            jax.default_backend()
        except (RuntimeError, AssertionError) as error:
            why = reason(error) if str(error).strip() else "there is none"
            raise InputError(f"JAX_PLATFORMS ({asked}) names a device that cannot be used: {why}") from error


def peak_memory_mib() -> int | None:
    """Of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)  # macOS counts bytes.


def machine() -> dict:
    """What figures were measured on."""
    return {
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cpus": os.cpu_count(),
        "jax": jax.__version__,
        "vidpred_jax": vidpred_jax.__version__,
        **({"onednn": True} if startup.uses_onednn() else {}),
    }


def command() -> str:
    """This command, as it can be run again."""
    return " ".join(sys.argv if sys.argv[0].startswith("vidpred ") else ["python", *sys.argv])


def load_config(path: str | os.PathLike, preset: str) -> dict:
    """What a config file gives for a preset, as plain dicts and lists."""
    return json.loads(runpy.run_path(os.fspath(path))["get_config"](preset).to_json())


def keep_errors_to_a_line() -> None:
    """Each of our warnings in a line, once."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.simplefilter("once", DamagedWarning)
    warnings.showwarning = _show_warning


def _traced(main, argv):
    try:
        main(argv)
    except Exception:
        if _DEBUG.value:
            traceback.print_exc()
        raise


_REMOVED_FLAGS = {
    "quantize_labels": "maps are planes, which need no rounding",
    "snap_labels": "maps are planes, which need no rounding",
    "blame": "use --ablate",
    "bounds": "use benchmarks/oracles.py",
    **dict.fromkeys(
        ("fusion", "translator", "accompanying"), "use --runs=RUN,RUN (evaluate.py: NAME=RUN,RUN)"
    ),
    "export": "use --write_windows of evaluate.py",
    "labels": "the data set tells how many there are",
}


def _parse(argv, module):
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(module.__doc__, flags.FLAGS.module_help(module), flags.FLAGS.module_help(__name__), sep="\n")
        sys.exit(0)
    try:
        rest = flags.FLAGS([argv[0], *map(_local, argv[1:])])
        for name in (word[:-1].lstrip("-") for word in argv[1:] if word[:2] == "--" and word[-1] == "="):
            if "." not in name and name in flags.FLAGS and flags.FLAGS[name].default != "":
                raise ValueError(f"--{name}= is empty")
        return rest
    except flags.UnrecognizedFlagError as error:
        name = error.flagname.removeprefix("no")
        instead = _REMOVED_FLAGS.get(name)
        message = f"--{name} was removed: {instead}" if instead else str(error).splitlines()[0]
        _stop(message, InputError.exit_code)
    except (flags.Error, ValueError, OSError, AttributeError, KeyError, TypeError) as error:
        # config_flags lets through what a config raised, or wraps a whole traceback around it,
        # whose last line tells.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if isinstance(error, (AttributeError, KeyError)):
            name = re.search(r"\w+", str(error)).group()
            lines = [f"--config has no field {name!r}" + (f": {x}" if (x := removed(name)) else "")]
        _stop(lines[-1].removeprefix("ValueError: "), InputError.exit_code)


def _local(argument: str) -> str:
    """A flag whose paths begin with a home folder written out, which shells do for words of their own alone.

    Raises ValueError for an address, but of runs and data sets.
    """
    name, equals, value = argument.partition("=")
    if not (equals and name.startswith("-")):
        return argument
    kept = re.search(r"(^|[-.])(workdir|runs?|data_dir|\w+_runs?)$", name)
    for found in re.findall(r"(?:^|[=,(])['\"]?([a-z][a-z0-9+.-]*://[^,'\")]*)", value):
        if not (kept and stores.is_address(found)):
            known = "such addresses are not known" if kept else "folders and files must be local"
            raise ValueError(f"{name}: {found} is an address; {known}")
    return name + equals + re.sub(r"(?:^|(?<=[=,]))~[^/,=]*", lambda home: os.path.expanduser(home[0]), value)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    if issubclass(category, DamagedWarning):
        print(f"warning: {message}", file=sys.stderr, flush=True)
    else:
        _show_plain(message, category, filename, lineno, file, line)


_show_plain = warnings.showwarning


def _stop(message: str, code: int, label: str = "error"):
    with contextlib.suppress(OSError):  # Of a pipe that nobody reads.
        sys.stdout.flush()
    print(f"{label}: " + " ".join(message.split()), file=sys.stderr, flush=True)
    processes.end(code)
