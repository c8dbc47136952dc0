"""Checkpoints through Orbax: atomic, asynchronous, arrays and JSON only, no code and no pickle.

One step's folder holds three items: `inference` (what prediction needs), `training` (the rest of
the state) and `meta` (JSON: config, data position, versions, data set's fingerprint, and a digest
of each item). A damaged newest step is told and set aside, and the one before it is used.
"""

import contextlib
import errno
import functools
import hashlib
import itertools
import json
import math
import os
import pathlib
import shutil
import threading
import warnings

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vidpred_jax import parallel
from vidpred_jax.state import TrainState
from vidpred_jax.types import DamagedWarning, InputError, UserError

FOLDER = "checkpoints"
DAMAGED = "damaged"  # Beside it: what could not be read, for a look.
_ITEMS = ("inference", "training", "meta")
_MOST_VALUES = 2**31
_DECADES = 2_000_000_000
_SECONDS = 10  # For a save that other processes may never finish.


def _split(state: TrainState) -> dict[str, dict]:
    return {
        "inference": {
            "step": state.step,
            "ema": state.ema,
            "batch_stats": state.batch_stats["g"],
        },
        "training": {
            "params": state.params,
            "d_batch_stats": state.batch_stats["d"],
            "opt_state": state.opt_state,
            "frozen": state.frozen,
        },
    }


def _join(inference: dict, training: dict) -> TrainState:
    return TrainState(
        step=inference["step"],
        params=training["params"],
        batch_stats={"g": inference["batch_stats"], "d": training["d_batch_stats"]},
        opt_state=training["opt_state"],
        ema=inference["ema"],
        frozen=training["frozen"],
    )


class Checkpointer:
    """Saves and restores the states of one run; keeps the newest two and the best one."""

    def __init__(self, workdir: str | os.PathLike, *, create: bool = True):
        self.folder = pathlib.Path(workdir).resolve() / FOLDER
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(2),
                checkpoint_managers.BestN(
                    get_metric_fn=lambda m: m["psnr"], n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        with _clear_errors(self.folder, "write"):
            parallel.in_main_process(functools.partial(_drop_damaged_metrics, self.folder))
            self._manager = ocp.CheckpointManager(
                self.folder,
                item_names=_ITEMS,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policy,
                    best_fn=lambda m: m["psnr"],  # Has them written, so that a restart knows them.
                    create=create,
                    # In the background, a folder that cannot be made is waited for at exit.
                    # Orbax measures how long a save takes by a clock that may jump.
                    async_options=ocp.AsyncOptions(
                        create_directories_asynchronously=False, timeout_secs=_DECADES
                    ),
                ),
            )

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, state: TrainState, meta: dict, metrics: dict | None = None) -> None:
        """Starts saving; a step already saved is left alone. Raises UserError if it cannot write."""
        state = parallel.to_host(state)
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        trees = _split(state)
        meta = {**meta, "digests": {name: _digest(tree) for name, tree in trees.items()}}
        meta["digests"]["meta"] = _digest_json(meta)
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        args = ocp.args.Composite(meta=ocp.args.JsonSave(meta), **items)
        with _clear_errors(self.folder, "write"):
            self._manager.save(step, args=args, metrics=metrics)

    def wait(self) -> None:
        with _clear_errors(self.folder, "write"):
            self._manager.wait_until_finished()

    def restore(self, template: TrainState) -> tuple[TrainState, dict]:
        """The newest sound state, shaped and placed as `template`, and its meta.

        Damaged newer ones are moved to `damaged/`, with a warning. Raises InputError if all are.
        """
        steps, error = sorted(self._manager.all_steps(), reverse=True), None
        for step in steps:
            found = None
            # A network disk may fail once; several processes must try equally often.
            for _ in range(2 if jax.process_count() == 1 else 1):
                try:
                    found = self._restore(step, template)
                    break
                except InputError as damage:
                    error = error or damage
            # All processes take the same step.
            if parallel.all_processes(found is not None):
                for newer in steps[: steps.index(step)]:
                    self._set_aside(newer, step)
                return _join(found["inference"], found["training"]), found["meta"]
        raise error or InputError(f"checkpoints of {self.folder} are damaged for another process")

    def _restore(self, step, template):
        items = {name: ocp.args.StandardRestore(t) for name, t in _split(template).items()}
        args = ocp.args.Composite(meta=ocp.args.JsonRestore(), **items)
        folder = self.folder / str(step)
        with _clear_errors(folder, "read"):
            found = self._manager.restore(step, args=args)
            for name in items:
                _check_digest(found["meta"], name, _digest(parallel.to_host(found[name])))
            _check_digest(found["meta"], "meta", _digest_json(found["meta"]))
        return found

    def _set_aside(self, step, used):
        _warn_damaged(self.folder / str(step), used)

        def move():
            aside = self.folder.parent / DAMAGED
            aside.mkdir(exist_ok=True)
            names = (f"{step}_{number}" for number in itertools.count())
            os.replace(
                self.folder / str(step), next(aside / n for n in names if not (aside / n).exists())
            )

        with _clear_errors(self.folder, "write"):
            parallel.in_main_process(move)
            self._manager.reload()

    def close(self) -> None:
        with _clear_errors(self.folder, "write"):
            self._manager.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        """Finishes a save in the background, after an error too, which is told instead of its own."""
        if kind is None:
            self.close()
        elif jax.process_count() == 1:
            with contextlib.suppress(UserError):
                self.wait()
        else:  # The others, for which a save waits, may be gone.
            waiting = threading.Thread(target=self._manager.wait_until_finished, daemon=True)
            waiting.start()
            waiting.join(_SECONDS)


def _drop_damaged_metrics(folder) -> None:
    """The record of a step's quality, which Orbax reads first, is no reason to refuse a run."""
    for file in folder.glob("[0-9]*/metrics/metrics"):
        try:
            sound = math.isfinite(json.loads(file.read_bytes())["psnr"])
        except (ValueError, LookupError, TypeError, RecursionError, IsADirectoryError):
            sound = False
        if not sound:
            shutil.rmtree(file.parent)
            warnings.warn(
                f"{file} is damaged; the quality of that step is forgotten",
                DamagedWarning,
                stacklevel=3,
            )


def _digest(tree) -> str:
    """SHA-256 of a pytree of arrays: names, types, shapes and values."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _digest_json(meta: dict) -> str:
    """The same of the meta item, without its digests."""
    rest = {key: value for key, value in meta.items() if key != "digests"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_digest(meta, item: str, found: str) -> None:
    """Raises ValueError where `item` is not what was saved; older versions saved no digests."""
    expected = meta.get("digests", {}).get(item, found)
    if expected != found:
        raise ValueError(f"{item} is not what was saved (its SHA-256 differs)")


def _warn_damaged(folder, used) -> None:
    warnings.warn(
        f"checkpoint {folder} is damaged; step {used} is used instead", DamagedWarning, stacklevel=3
    )


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
        _check_digest(meta, "inference", _digest(found))
        return folder, meta

    source, meta = _newest_sound(workdir, step, read)
    config = {**meta["config"], "data": {**meta["config"]["data"], "data_dir": "data"}}
    config |= {field: "" for field in ("fusion_run", "translator_run") if field in config}
    meta = {**meta, "config": config}
    meta["digests"] = {**meta.get("digests", {}), "meta": _digest_json(meta)}
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
        _check_digest(_read_meta(folder), "inference", _digest(found))
        return found

    return _newest_sound(workdir, step, read)


def _read_meta(folder) -> dict:
    found = _read(folder, meta=ocp.args.JsonRestore())["meta"]
    if not isinstance(found, dict):
        raise ValueError("its meta is not a JSON object")
    _check_digest(found, "meta", _digest_json(found))
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
            with _clear_errors(folder, "read"):
                found = read(folder)
        except InputError as damage:
            error = error or damage
            continue
        if error is not None:
            _warn_damaged(_step_folder(workdir, wanted[0]), number)
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


# Of the machine, not of the file. TensorStore tells them only in words.
_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_MACHINE += (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


def _machine_fault(error) -> str:
    """Disk full and its like, in words; '' for what may be the file's own fault."""
    if isinstance(error, MemoryError):
        return "out of memory"
    number, text = getattr(error, "errno", None), str(error)
    found = [os.strerror(n) for n in _MACHINE if n == number or os.strerror(n) in text]
    return found[0] if found else ""


@contextlib.contextmanager
def _clear_errors(folder, verb):
    """Orbax raises many kinds of errors; a user needs one line with the folder in it.

    Raises InputError where what is read is at fault, UserError where the machine is.
    """
    try:
        yield
    except (InputError, UserError):
        raise
    except Exception as error:
        reason = _machine_fault(error) or " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if verb == "write" or _machine_fault(error):
            raise UserError(f"cannot {verb} checkpoints in {folder}: {reason}") from error
        raise InputError(f"checkpoint {folder} is damaged or does not fit: {reason}") from error
