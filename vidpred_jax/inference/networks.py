"""The networks of runs, ready for prediction."""

import dataclasses
import functools
import math
import os
from typing import Any

import jax
import numpy as np

from vidpred_jax import stages
from vidpred_jax.checkpoints import restore
from vidpred_jax.config import parse
from vidpred_jax.data.fusion import EdgeRule
from vidpred_jax.models import build, schedules
from vidpred_jax.models.accompanying import STACKS
from vidpred_jax.types import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network with what it is applied by.

    variables: {"params", "batch_stats"} (EMA parameters), of a stack {"a", "b", "p"}; None while it is
    trained. config: parsed. size: height and width of its frames. schedule: of a stack. edge_rule: of
    the data that it was trained on.
    """

    stage: stages.Stage
    module: Any
    config: dict
    size: tuple[int, int]
    variables: dict | None = None
    run: str = ""
    schedule: tuple | None = None
    edge_rule: EdgeRule = dataclasses.field(default_factory=EdgeRule)
    axis_name: str | None = None

    @property
    def context(self) -> int:
        return self.config["context"]

    @property
    def shift(self) -> int:
        """Frames by which a clip is moved on at each call, of role `predict`."""
        return self.module.shift

    @property
    def reference_frames(self) -> int:
        """Observed frames that are references, of role `translate`."""
        return self.module.reference_frames

    def observe(self, clip):
        """What the network remembers of observed frames: computed once a window."""
        return self.module.observe(clip)

    @property
    def quantize_labels(self) -> int:
        return self.config["evaluation"]["quantize_labels"]

    def apply(self, variables, *args, **kwargs):
        """The module's `apply`, or the stack along its schedule; in the precision of its own config."""
        with build.numerics(self.config):
            if self.stage.role == "sharpen":
                return schedules.sharpen(self.module, variables, self.schedule, *args)
            return self.module.apply(variables, *args, **kwargs)


def make(config: dict, *, size: tuple[int, int] | None = None, axis_name=None, **fields) -> Network:
    """The network that a config describes. Raises InputError naming the field.

    config: parsed. size: height and width of its frames; None: those of the config. Optical flow has
    as many more pyramid levels as `size` is doublings larger. fields: of Network.
    """
    stage = stages.get(config["stage"])
    trained = config["data"]["height"], config["data"]["width"]
    size = tuple(size or trained)
    if stage.role == "sharpen":
        module, _ = build.make_stack(build.network_fields(config), config["selection"], *size)
        return Network(stage, module, config, size, axis_name=axis_name, **fields)
    own = build.network_fields(config)
    if own.get("flow_levels"):
        levels = own["flow_levels"] + round(math.log2(min(size) / min(trained)))
        own = {**own, "flow_levels": max(levels, 1)}
    module = build.make_network(
        stage,
        own,
        *size,
        context=config["context"],
        axis_name=axis_name,
        name=config["network"],
    )
    return Network(stage, module, config, size, axis_name=axis_name, **fields)


def example_inputs(network: Network) -> tuple[np.ndarray, ...]:
    """Arrays of the shapes that the network is called with, for its initialisation."""
    size, ones = network.size, lambda *shape: np.ones(shape, np.float32)
    if network.stage.role == "predict":
        return (np.zeros((1, network.context, *size, 3), np.float32),)
    if network.stage.role == "sharpen":
        return ones(1, *size, 3), ones(1, *size, 3), ones(1)
    return ones(1, 1, *size, 3), ones(1, network.module.reference_frames, *size, 6), ones(1, 1)


def read_config(run: str | os.PathLike, step: int | None = None) -> dict:
    """The config of a run, parsed. Raises InputError."""
    return parse(restore.read_meta(os.fspath(run), step)["config"])


def load(
    run: str | os.PathLike,
    stage: str | None = None,
    step: int | None = None,
    size: tuple[int, int] | None = None,
) -> Network:
    """The network of a run. Raises InputError.

    stage: that the run must be of. step: its checkpoint; None: the best by validation, or the newest.
    size: as of `make`.
    """
    run = os.fspath(run)
    step = restore.best_step(run) if step is None else step
    meta = restore.read_meta(run, step)
    if stage is not None and meta["stage"] != stage:
        article = "an" if stage[0] in "aeiou" else "a"
        raise InputError(f"{run!r} holds a {meta['stage']} run; {article} {stage} run is needed")
    facts = meta.get("data", {"edge_rule": EdgeRule().to_json()})
    edge_rule = EdgeRule.from_json(facts.get("edge_rule") if isinstance(facts, dict) else facts)
    network = make(parse(meta["config"]), size=size, run=run, edge_rule=edge_rule)
    init = functools.partial(jax.eval_shape, network.module.init, jax.random.key(0))
    shapes = init(*example_inputs(network))
    if network.stage.role == "sharpen":
        shapes = {"ema": dict.fromkeys(STACKS, shapes["params"]), "batch_stats": {}}
        found = restore.restore_inference(run, shapes, step)
        schedule = schedules.check_schedule(meta.get("schedule"), network.module, run)
        return dataclasses.replace(network, variables=found["ema"], schedule=schedule)
    shapes = {"ema": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    found = restore.restore_inference(run, shapes, step)
    variables = {"params": found["ema"], "batch_stats": found["batch_stats"]}
    return dataclasses.replace(network, variables=variables)
