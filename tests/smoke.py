"""Small configs of the package, changed where a test asks for it, and the state of their runs."""

import pathlib

from vidpred_jax.checkpoints import save
from vidpred_jax.cli import common
from vidpred_jax.training import experiment
from vidpred_jax.training.state import from_items, to_items

ROOT = pathlib.Path(__file__).parents[1]


def get_config(stage, data_dir, preset="smoke", **fields) -> dict:
    """A field of a part of the config is given as part__field."""
    config = common.load_config(ROOT / "configs" / f"{stage}.py", preset)
    config["data"]["data_dir"] = str(data_dir)
    for name, value in fields.items():
        part, _, field = name.rpartition("__")
        (config[part] if part else config)[field] = value
    return config


def restored(config, workdir):
    """The training state that a run's newest checkpoint holds."""
    template = to_items(experiment.make(config).state)
    items, meta = save.Checkpointer(workdir, create=False).restore(template)
    return from_items(items), meta
