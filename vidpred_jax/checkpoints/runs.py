"""Run folders, found by what they hold."""

import json
import os
import pathlib

from vidpred_jax.checkpoints import restore


def newest(stage: str, folder: str | os.PathLike = "runs") -> str | None:
    """The run of a stage under `folder` whose newest checkpoint is the latest, or None.

    Baselines (`pix2pixhd`) are taken only where they are named.
    """
    found = []
    for config in pathlib.Path(folder).glob("*/config.json"):
        run = config.parent
        try:
            values = json.loads(config.read_text())
            found_stage = values["stage"] if values.get("network") != "pix2pixhd" else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError):
            continue
        if found_stage == stage and restore.steps(run):
            newest_step = run / restore.FOLDER / str(restore.steps(run)[-1])
            found.append((newest_step.stat().st_mtime, os.fspath(run)))
    return max(found)[1] if found else None
