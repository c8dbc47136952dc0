"""A run without the state of its training: what prediction needs, a tenth of its size."""

import json
import os
import pathlib
import shutil

from vidpred_jax import stores
from vidpred_jax.checkpoints import integrity, restore


def export(workdir: str | os.PathLike, output: pathlib.Path, step: int | None = None) -> list:
    """Copies what prediction needs of a step into a new run folder; the files written.

    Folders that its config names are left out. step: None for `best_step`. Raises
    InputError where there is none, OSError where it cannot be written.
    """
    workdir = stores.local(workdir)
    source = restore.step_folder(workdir, restore.best_step(workdir) if step is None else step)
    with integrity.clear_errors(source, "read"):
        meta = restore.read_meta_of(source)
        restore.read_whole(source, meta)
    config = {**meta["config"], "data": {**meta["config"]["data"], "data_dir": "data"}}
    config |= {field: "" for field in ("fusion_run", "translator_run") if field in config}
    config |= {"proposal_runs": []} if config.get("proposals") else {}
    proposals = {
        name: [{**own, "data": {**own["data"], "data_dir": "data"}}, facts]
        for name, (own, facts) in meta.get("proposals", {}).items()
    }
    meta = {**meta, "config": config, "proposals": proposals}
    meta["digests"] = {**meta.get("digests", {}), "meta": integrity.digest_json(meta)}
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        target = temporary / restore.FOLDER / source.name
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
