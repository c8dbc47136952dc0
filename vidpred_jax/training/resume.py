"""The run folder of a training: locked, filled in with earlier runs, refused where it does not fit."""

import contextlib
import errno
import fcntl
import pathlib

import jax

from vidpred_jax import processes, stages
from vidpred_jax.checkpoints import restore, runs
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
            fcntl.flock(stack.enter_context(path.open("w")), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another training is running in {workdir}") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # No locks there.
                raise UserError(f"cannot write {path}: {error.strerror}") from error
        yield


def fill_in(config: dict, workdir: pathlib.Path) -> dict:
    """Names the runs of earlier stages that this one trains on where the config leaves them open.

    A run that resumes keeps those it began with; a new one takes the newest beside it that were trained
    on the same data set and, of stages 1 and 2, on each other. Raises InputError where there is none.
    """
    stage, folder, data = stages.get(config["stage"]), workdir.parent, config["data"]["name"]
    if stage.role == "translate" and not config["predicted_fraction"]:
        return config
    fields = [f"{name}_run" for name in stage.earlier]
    missing = [field for field in fields if not config[field]]
    if not missing:
        return config
    if restore.steps(workdir):
        saved = restore.read_meta(workdir)["config"]
        return {**config, **{field: saved.get(field, "") for field in missing}}
    if missing == ["fusion_run", "translator_run"]:
        pair = processes.from_main(lambda: runs.newest_pair(folder, lambda name: name == data))
        found = dict(zip(missing, pair or (None, None), strict=True))
    else:
        newest = lambda field: runs.newest(field.removesuffix("_run"), folder, data)
        found = processes.from_main(lambda: {field: newest(field) for field in missing})
    for field, run in found.items():
        if run is None:
            name = field.removesuffix("_run")
            why, instead = "stage 3", ""
            if stage.role == "translate":
                why = f"predicted_fraction ({config['predicted_fraction']})"
                instead = ", or set predicted_fraction to 0"
            raise InputError(
                f"{why} needs a {name} run: none trained on {data!r} is under {str(folder)!r}; train "
                f"one, or name it by {field}{instead}"
            )
    return {**config, **found}


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
    before, now = _flatten(saved), _flatten(config)
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


def _flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
