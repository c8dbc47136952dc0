"""Checkpoints through Orbax: atomic, asynchronous, arrays and JSON only, no code and no pickle.

One step's folder holds three items: `inference` (what prediction needs), `training` (the rest of
the state) and `meta` (JSON: config, data position, versions, data set's fingerprint).
"""

import contextlib
import os
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vidpred_jax import parallel
from vidpred_jax.state import TrainState
from vidpred_jax.types import InputError, UserError

FOLDER = "checkpoints"
_ITEMS = ("inference", "training", "meta")


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
            self._manager = ocp.CheckpointManager(
                self.folder,
                item_names=_ITEMS,
                options=ocp.CheckpointManagerOptions(preservation_policy=policy, create=create),
            )

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, state: TrainState, meta: dict, metrics: dict | None = None) -> None:
        """Starts saving; a step already saved is left alone. Raises UserError if it cannot write."""
        state = parallel.to_host(state)
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = {name: _save_args(tree) for name, tree in _split(state).items()}
        args = ocp.args.Composite(meta=ocp.args.JsonSave(meta), **items)
        with _clear_errors(self.folder, "write"):
            self._manager.save(step, args=args, metrics=metrics)

    def wait(self) -> None:
        with _clear_errors(self.folder, "write"):
            self._manager.wait_until_finished()

    def restore(self, template: TrainState) -> tuple[TrainState, dict]:
        """The newest state, shaped and placed as `template`, and its meta."""
        step = self.latest_step()
        items = {name: ocp.args.StandardRestore(t) for name, t in _split(template).items()}
        args = ocp.args.Composite(meta=ocp.args.JsonRestore(), **items)
        with _clear_errors(self.folder / str(step), "read"):
            found = self._manager.restore(step, args=args)
        return _join(found["inference"], found["training"]), found["meta"]

    def close(self) -> None:
        with _clear_errors(self.folder, "write"):
            self._manager.close()


def _save_args(tree):
    return ocp.args.StandardSave(jax.tree.map(np.asarray, tree))


def steps(workdir: str | os.PathLike) -> list[int]:
    """Finished steps of a run, oldest first."""
    folder = pathlib.Path(workdir) / FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(f.name) for f in folder.iterdir() if f.is_dir() and f.name.isdigit())


def read_meta(workdir: str | os.PathLike, step: int | None = None) -> dict:
    """The meta item of a step (None: the newest). Raises InputError where there is none."""
    folder = _step_folder(workdir, step)
    with _clear_errors(folder, "read"):
        found = _read(folder, meta=ocp.args.JsonRestore())["meta"]
    if not isinstance(found, dict) or not {"stage", "config"} <= set(found):
        raise InputError(
            f"checkpoint {folder} was not made by vidpred_jax: its meta names no stage"
        )
    return found


def restore_inference(workdir: str | os.PathLike, template, step: int | None = None) -> dict:
    """The `inference` item shaped as `template`: {step, ema, batch_stats}, NumPy arrays."""
    folder = _step_folder(workdir, step)
    with _clear_errors(folder, "read"):
        return _read(folder, inference=ocp.args.StandardRestore(template))["inference"]


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


@contextlib.contextmanager
def _clear_errors(folder, verb):
    """Orbax raises many kinds of errors; a user needs one line with the folder in it."""
    try:
        yield
    except (InputError, UserError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if verb == "write":
            raise UserError(f"cannot write checkpoints to {folder}: {reason}") from error
        raise InputError(f"checkpoint {folder} is damaged or does not fit: {reason}") from error
