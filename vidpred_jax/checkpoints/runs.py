"""Run folders, found by what they hold: the newest runs that belong together."""

import json
import os
import pathlib
from collections.abc import Callable

from vidpred_jax import stages, stores
from vidpred_jax.checkpoints import restore
from vidpred_jax.types import InputError

NONE = "none"  # As `fusion_run`: stage 2 over proposals alone.


def configs(folder: str | os.PathLike, stage: str) -> dict[str, dict]:
    """{run: its config} of the runs of a stage under `folder` that hold a checkpoint, newest first.

    Other methods, which stand beside ours as baselines (`pix2pixhd`), are taken only where they are
    named.
    """
    found = []
    for path in pathlib.Path(folder).glob("*/config.json"):
        run = path.parent
        try:
            config = json.loads(path.read_text())
            is_wanted = config["stage"] == stage and config.get("network") != "pix2pixhd"
            data = config.get("data", {})
            is_wanted = is_wanted and isinstance(data, dict) and isinstance(data.get("name", ""), str)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError):
            continue
        if is_wanted and (steps := restore.steps(run)):
            newest = run / restore.FOLDER / str(steps[-1])
            found.append((newest.stat().st_mtime, os.fspath(run), config))
    return {run: config for _, run, config in sorted(found, key=lambda x: x[:2], reverse=True)}


def within(folder: str | os.PathLike) -> tuple[str, ...]:
    """The runs that a folder holds, one of each stage; itself, where it is a run or holds none.

    Proposals and direct runs only where no others are. Raises InputError for two of a stage.
    """
    folder, found = os.fspath(folder), {}
    if stores.is_address(folder) or os.path.exists(os.path.join(folder, "config.json")):
        return (folder,)
    for stage in sorted(stages.STAGES, key="proposal".__eq__):
        held = [*configs(folder, stage)] if not found or stage not in ("proposal", "direct") else []
        if len(held) > 1:
            raise InputError(f"{folder} holds {len(held)} runs of stage {stage}: {', '.join(held)}; name one")
        found |= dict.fromkeys(held, stage)
    return tuple(found) or (folder,)


def newest(
    stage: str, folder: str | os.PathLike = "runs", data: str | None = None, network: str | None = None
) -> str | None:
    """The run of a stage under `folder` whose newest checkpoint is the latest, or None.

    data: only runs trained on the data set of that name. network: only runs of that network.
    """
    wanted = (
        run
        for run, config in configs(folder, stage).items()
        if (data is None or config.get("data", {}).get("name") == data)
        and (network is None or config.get("network") == network)
    )
    return next(wanted, None)


def newest_pair(
    folder: str | os.PathLike = "runs", accept: Callable[[str], bool] = lambda data: True
) -> tuple[str, ...] | None:
    """The newest run of stage 2 and the run of stage 1 that it goes with, or None.

    That is the run it was trained on, if it was not trained without one; where it names none, the newest
    trained on the same data set. accept: of the name of that data set.
    """
    for run, config in configs(folder, "translator").items():
        data = config.get("data", {}).get("name")
        if not accept(data):
            continue
        first = config.get("fusion_run") or newest("fusion", folder, data)
        if first == NONE:
            return (run,)
        if isinstance(first, str) and (first := _moved(first, folder)):
            return first, run
    return None


def _moved(run: str, folder) -> str | None:
    """A run where it was, or beside the run that names it, if they were moved together."""
    places = (run, os.path.join(folder, os.path.basename(run)))
    return next((place for place in places if restore.steps(place)), None)
