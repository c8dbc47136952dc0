"""Checkpoints through Orbax: atomic, asynchronous, arrays and JSON only, no code and no pickle.

One step's folder holds three items: `inference` (what prediction needs), `training` (the rest of
the state) and `meta` (JSON: config, data position, versions, data set's fingerprint, and a digest
of each item). A damaged newest step is told and set aside, and the one before it is used.
"""

import json
import math
import os
import pathlib
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp

from vidpred_jax.checkpoints import integrity
from vidpred_jax.types import InputError

FOLDER = "checkpoints"
_MOST_VALUES = 2**31


def steps(workdir: str | os.PathLike) -> list[int]:
    """Finished steps of a run, oldest first."""
    folder = pathlib.Path(workdir) / FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(f.name) for f in folder.iterdir() if f.is_dir() and _is_number(f.name))


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def read_meta(workdir: str | os.PathLike, step: int | None = None) -> dict:
    """The meta item of a step (None: the newest sound one). Raises InputError where there is none."""
    found = _newest_sound(workdir, step, _read_meta)
    if not {"stage", "config"} <= set(found):
        raise InputError(
            f"checkpoint of {str(workdir)!r} was not made by vidpred_jax: its meta names no stage"
        )
    return found


def export(workdir: str | os.PathLike, output: pathlib.Path, step: int | None = None) -> list:
    """Copies what prediction needs of a step into a new run folder; the files written.

    Folders that its config names are left out. step: None for the newest sound one. Raises
    InputError where there is none, OSError where it cannot be written.
    """

    def read(folder):
        meta = _read_meta(folder)
        found = _read(folder, inference=ocp.args.StandardRestore())["inference"]
        integrity.check_digest(meta, "inference", integrity.digest(found))
        return folder, meta

    source, meta = _newest_sound(workdir, step, read)
    config = {**meta["config"], "data": {**meta["config"]["data"], "data_dir": "data"}}
    config |= {field: "" for field in ("fusion_run", "translator_run") if field in config}
    meta = {**meta, "config": config}
    meta["digests"] = {**meta.get("digests", {}), "meta": integrity.digest_json(meta)}
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        target = temporary / FOLDER / source.name
        ignore = shutil.ignore_patterns("commit_success.txt")  # Of object stores; it names folders.
        for part in ("inference", "meta"):
            shutil.copytree(source / part, target / part, ignore=ignore)
        shutil.copy(source / "_CHECKPOINT_METADATA", target)
        (target / "meta" / "metadata").write_text(json.dumps(meta))
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        os.replace(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [f for f in output.rglob("*") if f.is_file()]


def restore_inference(workdir: str | os.PathLike, shapes: dict, step: int | None = None) -> dict:
    """The `inference` item: {step, ema, batch_stats}, NumPy arrays.

    shapes: {ema, batch_stats} as `jax.eval_shape` gives them. step: None for the newest sound one.
    Raises InputError where there is none, or none that fits, and beyond 2 G values.
    """
    size = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
    if size > _MOST_VALUES:  # A stranger's config may ask for any.
        raise InputError(
            f"run {str(workdir)!r} has {size:,} parameters; at most {_MOST_VALUES:,} are read"
        )
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    template = {**template, "step": np.zeros((), np.int32)}

    def read(folder):
        found = _read(folder, inference=ocp.args.StandardRestore(template))["inference"]
        integrity.check_digest(_read_meta(folder), "inference", integrity.digest(found))
        integrity.check_shapes(found, template)
        return found

    return _newest_sound(workdir, step, read)


def _read_meta(folder) -> dict:
    found = _read(folder, meta=ocp.args.JsonRestore())["meta"]
    if not isinstance(found, dict):
        raise ValueError("its meta is not a JSON object")
    integrity.check_digest(found, "meta", integrity.digest_json(found))
    return found


def _newest_sound(workdir, step, read):
    """`read(folder)` of a step, or of the newest for which it does not raise."""
    wanted = [int(_step_folder(workdir, step).name)]
    if step is None:
        wanted = steps(workdir)[::-1]
    error = None
    for number in wanted:
        folder = _step_folder(workdir, number)
        try:
            with integrity.clear_errors(folder, "read"):
                found = read(folder)
        except InputError as damage:
            error = error or damage
            continue
        if error is not None:
            integrity.warn_damaged(_step_folder(workdir, wanted[0]), number)
        return found
    raise error


def _step_folder(workdir, step) -> pathlib.Path:
    found = steps(workdir)
    if not found:
        raise InputError(f"run {str(workdir)!r} holds no checkpoint under {FOLDER}/")
    step = found[-1] if step is None else step
    if step not in found:
        raise InputError(f"run {str(workdir)!r} holds no checkpoint of step {step}, but {found}")
    return pathlib.Path(workdir).resolve() / FOLDER / str(step)


def _read(folder, **items):
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        return reader.restore(folder, args=ocp.args.Composite(**items))
