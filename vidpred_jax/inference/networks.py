"""The networks of runs, ready for prediction."""

import math

import jax
import numpy as np

from vidpred_jax.checkpoints import restore
from vidpred_jax.config import parse
from vidpred_jax.models import build, schedules
from vidpred_jax.models.accompanying import STACKS
from vidpred_jax.types import CONTEXT


def load_generator(run: str, step: int | None = None, size: tuple[int, int] | None = None):
    """The network of a run and its variables for prediction (EMA parameters).

    size: height and width of its frames; None: those it was trained at. Flows are found over as many
    more levels of a pyramid as `size` is doublings larger.
    """
    meta = restore.read_meta(run, step)
    config = parse(meta["config"])
    trained, fields = (config["data"]["height"], config["data"]["width"]), config["model"]
    size = size or trained
    if fields.get("flow_levels"):
        levels = fields["flow_levels"] + round(math.log2(min(size) / min(trained)))
        fields = {**fields, "flow_levels": max(levels, 1)}
    fields = build.network_fields({**config, "model": fields})
    module = build.make_generator(meta["stage"], fields, *size, network=config["network"])
    if meta["stage"] in ("fusion", "direct"):
        inputs = (np.zeros((1, CONTEXT, *size, 3), np.float32),)
    else:
        inputs = translator_inputs(module, size)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    shapes = {"ema": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    found = restore.restore_inference(run, shapes, step)
    return module, {"params": found["ema"], "batch_stats": found["batch_stats"]}


def translator_inputs(model, size):
    pictures, references = (1, 1, *size, 3), (1, model.reference_frames, *size, 6)
    return tuple(np.ones(shape, np.float32) for shape in (pictures, references, (1, 1)))


def load_stack(run: str, step: int | None = None):
    """The stack of a run, its EMA parameters and its frozen schedule. Raises InputError."""
    meta = restore.read_meta(run, step)
    config = parse(meta["config"])
    size = config["data"]["height"], config["data"]["width"]
    stack, _ = build.make_stack(build.network_fields(config), config["selection"], *size)
    frame = np.zeros((1, *size, 3), np.float32)
    shapes = jax.eval_shape(stack.init, jax.random.key(0), frame, frame, np.ones(1, np.float32))
    shapes = {"ema": dict.fromkeys(STACKS, shapes["params"]), "batch_stats": {}}
    found = restore.restore_inference(run, shapes, step)
    schedule = restore.read_meta(run, int(found["step"])).get("schedule")  # Of the same step.
    return stack, found["ema"], schedules.check_schedule(schedule, stack, run)
