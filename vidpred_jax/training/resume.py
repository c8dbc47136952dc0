"""The run folder of a training: locked, and refused where it does not fit."""

import contextlib
import errno
import pathlib

import filelock
import jax
from flax import traverse_util

from vidpred_jax.checkpoints import restore
from vidpred_jax.config import parse
from vidpred_jax.types import InputError, UserError

# What may change between two starts of one run; the rest would make another run of it.
_FREE = (
    "num_steps",
    "log_every",
    "save_every",
    "skip_nonfinite",
    "convolutions",
    "evaluation",
    "optimizer.learning_rate",
    "data.data_dir",
    "data.cache_bytes",
    "fusion_run",  # Only where it is now: its weights are in the later stage's checkpoint.
    "translator_run",
    "proposal_runs",
)


@contextlib.contextmanager
def locked(workdir: pathlib.Path):
    """Within the block no other training writes to the workdir. Raises UserError if one does."""
    if jax.process_index() != 0:
        yield
        return
    path = workdir / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(filelock.FileLock(path, timeout=0))
        except filelock.Timeout:
            raise UserError(f"another training is running in {workdir}") from None
        except NotImplementedError:  # No locks there.
            pass
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise UserError(f"cannot write {path}: {error.strerror}") from error
        yield


def check_resumable(config: dict, workdir: pathlib.Path) -> None:
    """Raises InputError, field by field, if the workdir holds a run of another config.

    config: as of `parse`. A field that the run did not know has its default.
    """
    if not restore.steps(workdir):
        return
    try:
        saved = parse(restore.read_meta(workdir)["config"])
    except InputError as error:
        raise InputError(f"workdir {str(workdir)!r}: {error}") from error
    before, now = (traverse_util.flatten_dict(group, sep=".") for group in (saved, config))
    changed = [
        f"{field} was {before.get(field)!r}, is {now.get(field)!r}"
        for field in sorted(before.keys() | now.keys())
        if before.get(field) != now.get(field) and not _is_free(field)
    ]
    if changed:
        raise InputError(
            f"workdir {str(workdir)!r} holds a run of another config: {'; '.join(changed)}; "
            "choose another --workdir or the same config"
        )
    schedule, steps = now["optimizer.schedule"], (before["num_steps"], now["num_steps"])
    if schedule == "cosine" and steps[0] != steps[1]:
        raise InputError(
            f"num_steps was {steps[0]}, is {steps[1]}: the rate of optimizer.schedule='cosine' ends at "
            "num_steps; a run of optimizer.schedule='constant' can be extended"
        )


def _is_free(field: str) -> bool:
    return any(field == free or field.startswith(f"{free}.") for free in _FREE)
