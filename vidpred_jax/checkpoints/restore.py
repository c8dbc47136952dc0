"""Checkpoints through Orbax: atomic, asynchronous, arrays and JSON only, no code and no pickle.

One step's folder holds three items: `inference` (what prediction needs), `training` (the rest of
the state) and `meta` (JSON: format, config, data position, versions, data set's fingerprint, and a
digest of each item), and the step's validation PSNR, where there was one.
"""

import functools
import json
import math
import os
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp

import vidpred_jax
from vidpred_jax import processes
from vidpred_jax.checkpoints import integrity
from vidpred_jax.types import InputError

FOLDER = "checkpoints"
FORMAT = 3  # Of what a checkpoint holds, under which names; meta["format"], 1 where it has none.
_READERS = {1: "vidpred_jax 0.1", 2: "vidpred_jax 0.2"}
_MOST_VALUES = 2**31


def steps(workdir: str | os.PathLike) -> list[int]:
    """Finished steps of a run, oldest first."""
    folder = pathlib.Path(workdir) / FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(f.name) for f in folder.iterdir() if f.is_dir() and _is_number(f.name))


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def recorded_psnr(folder: pathlib.Path) -> float | None:
    """The validation PSNR of a step's folder in dB; None where there is none, or it is damaged."""
    try:
        found = float(json.loads((folder / "metrics" / "metrics").read_bytes())["psnr"])
        return found if math.isfinite(found) else None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def best_step(workdir: str | os.PathLike) -> int:
    """The sound step of the highest validation PSNR, or the newest where no step has one.

    Process 0's choice, in every process. Raises InputError where no step is sound; the first such
    error.
    """
    return processes.from_main(lambda: _best_sound(workdir))


def _best_sound(workdir) -> int:
    quality = {n: recorded_psnr(step_folder(workdir, n)) for n in steps(workdir)}
    known = {n: -math.inf if psnr is None else psnr for n, psnr in quality.items()}
    wanted = sorted(known, key=lambda n: (known[n], n), reverse=True)
    if len(wanted) < 2:  # Whoever reads it finds whether it is sound.
        return int(step_folder(workdir, None).name)
    error = None
    for number in wanted:
        folder = step_folder(workdir, number)
        try:
            with integrity.clear_errors(folder, "read"):
                files = [(f, f.stat()) for f in sorted(folder.rglob("*"))]
                _check_sound(folder, tuple((f, s.st_mtime_ns, s.st_size) for f, s in files))
        except InputError as damage:
            error = error or damage
            continue
        if error is not None:
            integrity.warn_damaged(step_folder(workdir, wanted[0]), number)
        return number
    raise error


@functools.lru_cache(maxsize=8)
def _check_sound(folder, stamps) -> None:
    """Raises what `integrity.clear_errors` clears. stamps: of its files, so that it is read once."""
    read_whole(folder, read_meta_of(folder))


def read_meta(workdir: str | os.PathLike, step: int | None = None) -> dict:
    """The meta item of a step (None: `best_step`). Raises InputError where there is none."""
    folder = step_folder(workdir, best_step(workdir) if step is None else step)
    with integrity.clear_errors(folder, "read"):
        return read_meta_of(folder)


def restore_inference(workdir: str | os.PathLike, shapes: dict, step: int | None = None) -> dict:
    """The `inference` item: {step, ema, batch_stats, proposals}, NumPy arrays.

    shapes: all but the step, as `jax.eval_shape` gives them. step: None for `best_step`.
    Raises InputError where there is none, or none that fits, and beyond 2 G values.
    """
    _check_size(shapes, workdir)
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    template = {**template, "step": np.zeros((), np.int32)}
    folder = step_folder(workdir, best_step(workdir) if step is None else step)
    with integrity.clear_errors(folder, "read"):
        found = _read(folder, inference=ocp.args.StandardRestore(template))["inference"]
        integrity.check_digest(read_meta_of(folder), "inference", integrity.digest(found))
        integrity.check_shapes(found, template)
    return found


def _check_size(shapes, run) -> None:
    """A stranger's config, or checkpoint, may ask for any."""
    size = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
    if size > _MOST_VALUES:
        raise InputError(f"run {str(run)!r} has {size:,} parameters; at most {_MOST_VALUES:,} are read")


def read_whole(folder, meta):
    """The `inference` item as it was saved, whatever its shapes."""
    _check_size(ocp.StandardCheckpointHandler().metadata(folder / "inference"), folder)
    found = _read(folder, inference=ocp.args.StandardRestore())["inference"]
    integrity.check_digest(meta, "inference", integrity.digest(found))
    return found


def read_meta_of(folder) -> dict:
    found = _read(folder, meta=ocp.args.JsonRestore())["meta"]
    if not isinstance(found, dict):
        raise ValueError("its meta is not a JSON object")
    integrity.check_digest(found, "meta", integrity.digest_json(found))
    if not {"stage", "config"} <= set(found):
        raise InputError(f"checkpoint {folder} was not made by vidpred_jax: its meta names no stage")
    number = found.get("format", 1)
    if number != FORMAT:
        reader = _READERS.get(number, "a later vidpred_jax")
        raise InputError(
            f"checkpoint {folder} was made by format {number}, which {reader} reads; this is "
            f"{vidpred_jax.__version__} and reads format {FORMAT}"
        )
    return found


def step_folder(workdir, step) -> pathlib.Path:
    found = steps(workdir)
    if not found:
        raise InputError(f"run {str(workdir)!r} holds no checkpoint under {FOLDER}/")
    step = found[-1] if step is None else step
    if step not in found:
        raise InputError(f"run {str(workdir)!r} holds no checkpoint of step {step}, but {found}")
    return pathlib.Path(workdir).resolve() / FOLDER / str(step)


def _read(folder, **items):
    """By this process alone: others may not read at all."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone)
    )
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
        return reader.restore(folder, args=ocp.args.Composite(**items))
