"""Small checkpoints, saved and damaged."""

import json

import jax.numpy as jnp

from vidpred_jax.checkpoints import restore, save
from vidpred_jax.training.state import TrainState, to_items

META = {"format": restore.FORMAT, "stage": "fusion", "config": {"stage": "fusion"}}


def make_state(step, value=1.0):
    tree = {"w": jnp.full((2, 3), value), "b": jnp.arange(3.0)}
    state = TrainState(
        step=jnp.asarray(step, jnp.int32),
        params={"g": tree, "d": {}},
        batch_stats={"g": {}, "d": {}},
        opt_state={"g": (tree, jnp.asarray(step)), "d": ()},
        ema={"w": tree["w"] * 2, "b": tree["b"]},
        frozen={},
        updates=jnp.asarray(step // 2, jnp.int32),
    )
    return to_items(state)


def save_steps(folder, *steps, psnr=None, **meta):
    """psnr: {step: dB} of those that have one. Each step's meta says which step it is."""
    saver = save.Checkpointer(folder)
    for step in steps:
        quality = {"psnr": psnr[step]} if step in (psnr or {}) else None
        found = {**META, "data_state": {"next_index": step}, **meta}
        saver.save(make_state(step, float(step)), found, quality)
    saver.close()


def template() -> dict:
    """The shapes of `restore.restore_inference`."""
    inference = make_state(0)["inference"]
    return {name: inference[name] for name in ("ema", "batch_stats", "proposals")}


def damage(item):
    """One bit in the middle of each file that holds an item's values."""
    files = [*item.rglob("d/*")] or [*item.glob("metadata*")]
    assert files
    for file in files:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4
        file.write_bytes(data)


def write_run(folder, stage, step, config=None):
    """A run folder whose checkpoint holds a made-up state."""
    folder.mkdir(parents=True)
    config = {"stage": stage, **(config or {})}
    (folder / "config.json").write_text(json.dumps(config))
    saver = save.Checkpointer(folder)
    saver.save(make_state(step), {**META, "stage": stage, "config": config})
    saver.close()
