"""The networks of runs, ready for prediction."""

import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax import stages, stores
from vidpred_jax.checkpoints import restore
from vidpred_jax.config import parse
from vidpred_jax.data.fusion import EdgeRule
from vidpred_jax.inference import proposing
from vidpred_jax.inference.proposing import Proposal
from vidpred_jax.models import build, maps, schedules
from vidpred_jax.models.accompanying import STACKS
from vidpred_jax.proposals import fitted
from vidpred_jax.proposals.forecast import Window
from vidpred_jax.types import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network with what it is applied by.

    variables: {"params", "batch_stats"} (EMA parameters), of a stack {"a", "b", "p"}; None while it is
    trained. config: parsed. size: height and width of its frames and maps. form: of its maps. proposals:
    those that it adds to, by name; of role `propose` the run itself. schedule: of a stack. facts: of the
    data that it was trained on.
    """

    stage: stages.Stage
    module: Any
    config: dict
    size: tuple[int, int]
    form: maps.Planes | maps.Picture
    proposals: dict[str, Proposal] = dataclasses.field(default_factory=dict)
    variables: dict | None = None
    run: str = ""
    schedule: tuple | None = None
    facts: dict = dataclasses.field(default_factory=dict)
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

    def at_size(self, size: tuple[int, int]) -> "Network":
        """The same for frames and maps of a height and a width. Raises InputError."""
        try:
            self.module.check(*size)
        except ValueError as error:
            raise InputError(f"{self.stage.name} run {self.run!r}: {error}") from error
        proposals = {name: proposal.at_size(size, self.size) for name, proposal in self.proposals.items()}
        return dataclasses.replace(self, size=tuple(size), proposals=proposals)

    def apply(self, variables, *args, **kwargs):
        """The module's `apply`, or the stack along its schedule; in the precision of its own config."""
        with build.numerics(self.config):
            if self.stage.role == "sharpen":
                return schedules.sharpen(self.module, variables, self.schedule, *args)
            return self.module.apply(variables, *args, **kwargs)

    def raw_maps(self, params, window, forecasts=None, kept=None):
        """Raw values of the maps `shift` frames after a window of maps, what is proposed included.

        forecasts: of `proposing.propose`, at the steps of the outputs. kept: as of `proposing.add`.
        """
        apply = lambda *given: (self.apply({"params": params}, window, *given), None)
        if not self.proposals:
            return apply()[0]
        own = {name: forecasts[name] for name in self.proposals}
        base, given = proposing.map_base(self.form, own), proposing.inputs(self.form, own)
        return proposing.add(apply, base, given, kept)[0]

    def raw_frames(self, variables, maps, references, steps_ahead, forecasts=None, kept=None, **training):
        """(raw values of the frames of maps, what is proposed included; updated batch statistics).

        forecasts, kept: as of `raw_maps`. training: `train`, `mutable` and `rngs` of `apply`.
        """

        def apply(*given):
            found = self.apply(variables, maps, references, steps_ahead, *given, **training)
            return found if training else (found, {})

        if not self.proposals:
            return apply()
        own = {name: forecasts[name] for name in self.proposals}
        given = proposing.inputs(self.form, own)
        return proposing.add(apply, proposing.frame_base(own), given, kept)

    def predict(self, params, window, forecasts=None, kept=None):
        """The maps `shift` frames after a window, the last `shift` of them: the new ones."""
        raw = self.raw_maps(params, window, forecasts, kept)[:, -self.shift :]
        return self.form.activate(raw, based=bool(self.proposals))

    def translate(self, variables, maps, references, steps_ahead, forecasts=None, kept=None):
        """Frames of maps, in [-1, 1]."""
        raw, _ = self.raw_frames(variables, maps, references, steps_ahead, forecasts, kept)
        return jnp.tanh(raw) if self.squash else jnp.clip(raw, -1, 1)

    @property
    def squash(self) -> bool:
        """Whether raw values of frames pass a tanh; those added to a proposal's, or moved, do not."""
        return not self.proposals and getattr(self.module, "squash", True)


def make(
    config: dict,
    facts: dict,
    *,
    proposals: dict[str, Proposal] | None = None,
    size: tuple[int, int] | None = None,
    axis_name=None,
    **fields,
) -> Network:
    """The network that a config describes. Raises InputError naming the field.

    config: parsed. facts: of its data, `num_labels` and `edge_rule`. size: height and width of its frames;
    None: those of the config. fields: of Network.
    """
    stage, proposals = stages.get(config["stage"]), proposals or {}
    trained = config["data"]["height"], config["data"]["width"]
    size = tuple(size or trained)
    form = _form(config, stage, facts["num_labels"])
    common = dict(facts=facts, axis_name=axis_name, **fields)
    if stage.role == "sharpen":
        module = build.make_stack(build.network_fields(config), *size)
        return Network(stage, module, config, size, form, **common)
    if stage.role == "propose":
        module = fitted.make(config["network"], config["model"], facts["num_labels"], size, trained)
        return Network(stage, module, config, size, form, **common)
    module = build.make_network(
        stage,
        build.network_fields(config),
        *size,
        context=config["context"],
        axis_name=axis_name,
        name=config["network"],
    )
    if getattr(module, "regions", False) and config["maps"] != "planes":
        raise InputError(f"model.regions (True) needs maps of planes, not maps={config['maps']!r}")
    if proposals and form.field == "frames":
        raise InputError(f"proposals ({', '.join(proposals)}) are of maps: stage {stage.name} has none")
    if proposals and stage.role == "predict" and module.outputs != module.shift:
        raise InputError(
            f"proposals ({', '.join(proposals)}) need model.outputs ({module.outputs}) equal to "
            f"model.shift ({module.shift}): they are of coming frames alone"
        )
    return Network(stage, module, config, size, form, proposals, **common)


def _form(config, stage, num_labels):
    if stage.role == "predict" and stage.field == "frames":
        return maps.Picture("frames", squash=False)
    return maps.make(config["maps"], num_labels)


def example_inputs(network: Network) -> tuple:
    """Arrays of the shapes that the network is called with, for its initialisation."""
    size, channels = network.size, network.form.channels
    ones = lambda *shape: np.ones(shape, np.float32)
    role, proposed = network.stage.role, len(network.proposals) * (3 + channels + 1)
    if role == "propose":
        edges = jnp.zeros((1, network.context, *size))
        frames, labels = jnp.zeros((*edges.shape, 3)), edges.astype(jnp.int32)
        return Window(frames, edges, labels), ones(1, 1)
    if role == "sharpen":
        return ones(1, *size, 3), ones(1, *size, 3), ones(1)
    if role == "predict":
        inputs = (np.zeros((1, network.context, *size, channels), np.float32),)
        extra = ones(1, network.module.outputs, *size, proposed)
    else:
        references = ones(1, network.reference_frames, *size, 3 + channels)
        inputs = ones(1, 1, *size, channels), references, ones(1, 1)
        extra = ones(1, 1, *size, proposed)
    return (*inputs, extra) if network.proposals else inputs


def read_config(run: str | os.PathLike) -> dict:
    """The config of a run, parsed. Raises InputError."""
    return parse(restore.read_meta(stores.local(run))["config"])


def _check_stage(meta, run, stage):
    if stage is not None and meta["stage"] != stage:
        article = "an" if stage[0] in "aeiou" else "a"
        raise InputError(f"{run!r} holds a {meta['stage']} run; {article} {stage} run is needed")


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
    run, folder = os.fspath(run), stores.local(run)
    step = restore.best_step(folder) if step is None else step
    meta = restore.read_meta(folder, step)
    _check_stage(meta, run, stage)
    facts, config = _facts(meta, run), parse(meta["config"])
    carried, proposal_shapes = {}, {}  # Of earlier stages too.
    size = tuple(size or (config["data"]["height"], config["data"]["width"]))
    for name, described in _described(meta, run).items():
        proposal = make(*described, size=size)
        proposal_shapes[name] = _shapes(proposal)["params"]
        carried[name] = Proposal(name, proposal.module, described=described)
    names = config.get("proposals", ())
    if not set(names) <= set(carried):
        raise InputError(f"run {run!r} carries proposals {', '.join(carried)}, not {', '.join(names)}")
    proposals = {name: carried[name] for name in names}
    network = make(config, facts, proposals=proposals, size=size, run=run)
    own = _shapes(network)
    if network.stage.role == "sharpen":
        own = {"params": dict.fromkeys(STACKS, own["params"])}
    shapes = {"ema": own["params"], "batch_stats": own.get("batch_stats", {}), "proposals": proposal_shapes}
    found = restore.restore_inference(folder, shapes, step)
    if network.stage.role == "sharpen":
        schedule = schedules.check_schedule(meta.get("schedule"), network.module, run)
        return dataclasses.replace(network, variables=found["ema"], schedule=schedule)
    variables = {"params": found["ema"], "batch_stats": found["batch_stats"]}
    proposals = {
        name: dataclasses.replace(p, params=found["proposals"][name]) for name, p in network.proposals.items()
    }
    if network.stage.role == "propose":
        name = network.config["network"]
        proposals = {name: Proposal(name, network.module, found["ema"], (config, facts))}
    return dataclasses.replace(network, variables=variables, proposals=proposals)


def _shapes(network):
    init = functools.partial(jax.eval_shape, network.module.init, jax.random.key(0))
    with jax.enable_x64(False):  # Whatever else the program asks for.
        return init(*example_inputs(network))


def _facts(meta, run) -> dict:
    """What a checkpoint says of its data, checked."""
    facts = meta.get("data")
    number = facts.get("num_labels") if isinstance(facts, dict) else None
    if type(number) is not int or not 1 <= number <= 256:
        raise InputError(f"run {run!r}: its data's num_labels ({number!r}) must be 1 to 256")
    EdgeRule.from_json(facts.get("edge_rule"))
    return facts


def _described(meta, run) -> dict:
    """{name: (config, facts)} of the proposals that a checkpoint carries."""
    found = meta.get("proposals", {})
    if not isinstance(found, dict) or not all(
        isinstance(x, list) and len(x) == 2 and all(isinstance(y, dict) for y in x) for x in found.values()
    ):
        raise InputError(f"run {run!r}: its proposals ({str(found)[:80]}) are not of this format")
    described = {}
    for name, (config, facts) in found.items():
        described[name] = parse(config), _facts({"data": facts}, run)
        if stages.get(described[name][0]["stage"]).role != "propose":
            raise InputError(f"run {run!r}: its proposal {name!r} is no proposal")
    return described
