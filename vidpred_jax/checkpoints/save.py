"""Checkpoints of a training: saved in the background, restored whole. `restore.py` has the format."""

import contextlib
import functools
import itertools
import os
import pathlib
import shutil
import threading
import warnings

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vidpred_jax import processes
from vidpred_jax.checkpoints import integrity
from vidpred_jax.checkpoints.restore import FOLDER, recorded_psnr
from vidpred_jax.types import DamagedWarning, InputError, UserError

DAMAGED = "damaged"  # Beside the checkpoints: what could not be read, for a look.
_ITEMS = ("inference", "training", "meta")
_DECADES = 2_000_000_000
_SECONDS = 10  # For a save that other processes may never finish.


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
        with integrity.clear_errors(self.folder, "write"):
            processes.in_main_process(functools.partial(_drop_damaged_metrics, self.folder))
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

    def save(self, trees: dict[str, dict], meta: dict, metrics: dict | None = None) -> None:
        """Starts saving; a step already saved is left alone. Raises UserError if it cannot write.

        trees: the items `inference`, which holds the step, and `training` (`state.to_items`).
        """
        trees = processes.to_host(trees)
        step = int(trees["inference"]["step"])
        if step in self._manager.all_steps():
            return
        meta = {**meta, "digests": {name: integrity.digest(tree) for name, tree in trees.items()}}
        meta["digests"]["meta"] = integrity.digest_json(meta)
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        args = ocp.args.Composite(meta=ocp.args.JsonSave(meta), **items)
        with integrity.clear_errors(self.folder, "write"):
            self._manager.save(step, args=args, metrics=metrics)

    def wait(self) -> None:
        with integrity.clear_errors(self.folder, "write"):
            self._manager.wait_until_finished()

    def restore(self, template: dict[str, dict]) -> tuple[dict[str, dict], dict]:
        """The newest sound items, shaped and placed as `template`'s, and their meta.

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
            if processes.all_processes(found is not None):
                for newer in steps[: steps.index(step)]:
                    self._set_aside(newer, step)
                return {name: found[name] for name in template}, found["meta"]
        raise error or InputError(f"checkpoints of {self.folder} are damaged for another process")

    def _restore(self, step, template):
        items = {name: ocp.args.StandardRestore(t) for name, t in template.items()}
        args = ocp.args.Composite(meta=ocp.args.JsonRestore(), **items)
        folder = self.folder / str(step)
        with integrity.clear_errors(folder, "read"):
            found = self._manager.restore(step, args=args)
            for name in items:
                integrity.check_digest(found["meta"], name, integrity.digest(processes.to_host(found[name])))
            integrity.check_digest(found["meta"], "meta", integrity.digest_json(found["meta"]))
        return found

    def _set_aside(self, step, used):
        integrity.warn_damaged(self.folder / str(step), used)

        def move():
            aside = self.folder.parent / DAMAGED
            aside.mkdir(exist_ok=True)
            names = (f"{step}_{number}" for number in itertools.count())
            os.replace(self.folder / str(step), next(aside / n for n in names if not (aside / n).exists()))

        with integrity.clear_errors(self.folder, "write"):
            processes.in_main_process(move)
            self._manager.reload()

    def close(self) -> None:
        with integrity.clear_errors(self.folder, "write"):
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
        if recorded_psnr(file.parents[1]) is None:
            shutil.rmtree(file.parent)
            warnings.warn(
                f"{file} is damaged; the quality of that step is forgotten", DamagedWarning, stacklevel=3
            )
