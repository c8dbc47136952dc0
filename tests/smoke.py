"""Small configs of the package, changed where a test asks for it, the state of their runs, made-up runs."""

import json
import pathlib

import jax.numpy as jnp

from vidpred_jax.checkpoints import save
from vidpred_jax.cli import common
from vidpred_jax.training import experiment
from vidpred_jax.training.state import TrainState, from_items, to_items

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


def make_state(step, value=1.0):
    tree = {"w": jnp.full((2, 3), value), "b": jnp.arange(3.0)}
    state = TrainState(
        step=jnp.asarray(step, jnp.int32),
        params={"g": tree, "d": {}},
        batch_stats={"g": {}, "d": {}},
        opt_state={"g": (tree, jnp.asarray(step)), "d": ()},
        ema={"w": tree["w"] * 2, "b": tree["b"]},
        frozen={},
    )
    return to_items(state)


def write_run(folder, stage, step, config=None):
    """A run folder whose checkpoint holds a made-up state."""
    folder.mkdir(parents=True)
    config = {"stage": stage, **(config or {})}
    (folder / "config.json").write_text(json.dumps(config))
    saver = save.Checkpointer(folder)
    saver.save(make_state(step), {"stage": stage, "config": config})
    saver.close()
