"""What a command sets before JAX is used: where compiled programs are kept, how memory is taken and
how often garbage is looked for."""

import ctypes
import gc
import hashlib
import os
import pathlib
import platform

import jax
import jaxlib

_CACHE_BYTES = 4 << 30
_NEW_OBJECTS = 100_000  # After which Python looks for garbage, by default 700 (2,000 from 3.13 on).
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
    was asked for: see `_emitters_are_free`.
    """
    if not _emitters_are_free():
        return False
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false".strip()
    return True


def compiler_options() -> dict | None:
    """The same for one program, in a process that has used JAX: options of `Lowered.compile`."""
    if jax.default_backend() == "cpu" and _emitters_are_free():
        return {"xla_cpu_use_fusion_emitters": False}
    return None


def _emitters_are_free() -> bool:
    """Not where XLA_FLAGS says how or names a file, nor of other versions, which may not know it."""
    flags = os.environ.get("XLA_FLAGS", "")
    names_a_file = flags.strip() and not flags.strip().startswith("-")
    known = jaxlib.__version__.startswith("0.10.")
    return known and not names_a_file and "fusion_emitters" not in flags


def collect_rarely() -> None:
    """Has Python look for cycles of garbage a hundred times less often, and not among what is imported.

    Tracing makes objects by the million, nearly all freed as soon as nothing refers to them: looking
    through the others for cycles took a seventh of a command's start. Steps make next to none.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def keep_memory() -> bool:
    """Lets glibc keep freed memory instead of giving it back, and fetching it anew, at every step.

    XLA:CPU allocates its temporaries at each execution. Whether it was done: not where another C
    library is used, nor where GLIBC_TUNABLES says how.
    """
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    most = 2**31 - 1
    wanted = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: most, _TOP_PAD: 64 << 20}
    return all([mallopt(name, value) for name, value in wanted.items()])
