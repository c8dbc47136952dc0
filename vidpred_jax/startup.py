"""What a command sets before JAX is used: how programs are compiled and where they are kept, how memory is
taken and how often garbage is looked for."""

import ctypes
import gc
import hashlib
import os
import pathlib
import platform
import warnings

import jax
import jaxlib

_CACHE_BYTES = 4 << 30
_NEW_OBJECTS = 100_000  # After which Python looks for garbage, by default 700 (2,000 from 3.13 on).
_EMITTERS, _ONEDNN = "xla_cpu_use_fusion_emitters", "xla_cpu_experimental_onednn_custom_call"
_VERSION = tuple(map(int, jaxlib.__version__.split(".")[:2]))
_KNOWS_EMITTERS = _VERSION == (0, 10)
_KNOWS_ONEDNN = _VERSION >= (0, 11) and platform.machine().lower() in ("x86_64", "amd64")
# Of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_programs(folder: str | None = None) -> None:
    """Compiled programs outlive the process, so that the next one starts at once.

    folder: `off` for none; None for JAX_COMPILATION_CACHE_DIR or, where that is unset, the user's
    cache folder. At most 4 GiB are kept there, the most recently used.
    """
    if folder == "off":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if not folder and "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    if not folder:
        base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        # A home folder may be shared by machines whose processors differ.
        folder = pathlib.Path(base, "vidpred_jax", _processor())
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    jax.config.update("jax_compilation_cache_max_size", _CACHE_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _processor() -> str:
    """Eight letters that differ where the instructions that a processor knows differ."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        known = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        known = platform.processor()
    return hashlib.sha256(f"{platform.machine()} {known}".encode()).hexdigest()[:8]


def compile_quickly() -> bool:
    """Has XLA:CPU emit its loops as it did before fusion emitters; not after JAX has been used.

    Programs of many gathers and small steps, as ours, compile in a tenth to a half less time. Whether it
    was asked for.
    """
    return _KNOWS_EMITTERS and _ask(_EMITTERS, "false")


def compiler_options() -> dict | None:
    """The same for one program, in a process that has used JAX: options of `Lowered.compile`."""
    if jax.default_backend() == "cpu" and _KNOWS_EMITTERS and _is_free(_EMITTERS):
        return {_EMITTERS: False}
    return None


def use_onednn() -> bool:
    """Has XLA:CPU leave convolutions to oneDNN; not after JAX has been used.

    Training steps take up to a quarter less time, but such programs cannot be kept, and each start
    compiles them anew: for processes that run for minutes. Whether it was asked for: jaxlib before 0.11
    leaves nothing to oneDNN.
    """
    asked = _KNOWS_ONEDNN and _ask(_ONEDNN, "true")
    if asked:  # Of jaxlib 0.12.
        warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry.*MemoryError")
    return asked


def uses_onednn() -> bool:
    """Whether XLA:CPU leaves convolutions to oneDNN."""
    return _KNOWS_ONEDNN and f"--{_ONEDNN}=true" in os.environ.get("XLA_FLAGS", "")


def _ask(flag: str, value: str) -> bool:
    free = _is_free(flag)
    if free:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{flag}={value}".strip()
    return free


def _is_free(flag: str) -> bool:
    """Not where XLA_FLAGS names it, or a file."""
    flags = os.environ.get("XLA_FLAGS", "").strip()
    return flag not in flags and (not flags or flags.startswith("-"))


def collect_rarely() -> None:
    """Has Python look for cycles of garbage a hundred times less often, and not among what is imported.

    Tracing makes objects by the million, nearly all freed as soon as nothing refers to them: looking
    through the others for cycles took a seventh of a command's start. Steps make next to none.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def keep_memory() -> bool:
    """Lets glibc keep freed memory instead of giving it back, and fetching it anew, at every step.

    XLA:CPU allocates its temporaries at each execution. Whether it was done.
    """
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    most = 2**31 - 1
    wanted = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: most, _TOP_PAD: 64 << 20}
    return all([mallopt(name, value) for name, value in wanted.items()])
