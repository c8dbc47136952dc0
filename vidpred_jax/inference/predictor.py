"""Trained runs as one predictor: observed RGB frames in, future RGB frames out."""

import collections
import copy
import itertools
import numbers
import threading
from collections.abc import Callable, Sequence

import jax
import numpy as np

from vidpred_jax import startup
from vidpred_jax.data import cuts, fusion, pipeline, preparation
from vidpred_jax.data.fusion import EdgeRule
from vidpred_jax.inference import devices, inputs
from vidpred_jax.inference.networks import Network
from vidpred_jax.inference.prediction import Prediction
from vidpred_jax.inference.system import System, make_predict
from vidpred_jax.types import HORIZON, InputError

_KEPT = 8  # Compiled programs.


class Predictor:
    """`predict()` for one clip of any size, `predict_batch()` for prepared clips.

    Safe to call from several threads: each shape is compiled once, and the last `_KEPT` of them are
    kept.

    Attributes: system, runs (the run folders), described (with their stages), seed (of the last),
    configs (of runs and proposals), edge_rule, context (observed frames), size (height and width of frames
    and fusion pictures; `predict` may choose another: `at_aspect`), clarity (None: as trained), device.
    """

    def __init__(
        self,
        *networks: Network,
        system: System | None = None,
        device: jax.Device | str | Sequence[jax.Device] | None = None,
    ):
        """system: instead of one of all networks, such as without one of them. device: where it predicts, or
        its platform, such as `cpu`, or several of this process that share each batch; None: JAX's own choice.
        """
        self.system = system or System.of(*networks)
        roles = {network.stage.role: network.stage.field for network in networks}
        direct = "propose" in roles or roles.get("predict") == "frames"
        over = "translate" in roles and self.system.proposals
        if networks and not direct and not over and not {"predict", "translate"} <= roles.keys():
            named = ", ".join(f"{n.run!r} ({n.stage.name})" for n in networks)
            raise InputError(
                f"{named} predict no frames; runs of stages 1 and 2 do, one of stage 2 over proposals, a "
                "direct run, or a proposal"
            )
        self.runs = [network.run for network in networks]
        self.described = [f"{n.stage.name} {n.run}" for n in networks]
        self.edge_rule = EdgeRule.from_json(self.system.facts["edge_rule"])
        self.configs = [network.config for network in networks]
        self.configs += [proposal.described[0] for proposal in self.system.proposals.values()]
        self.seed = networks[-1].config["seed"] if networks else None
        self.context, self.size, self.clarity = self.system.context, self.system.size, None
        self._loaded, self._any_size = self.system, True
        try:
            self.device = jax.devices(device)[0] if isinstance(device, str) else device
            if not isinstance(self.device, jax.Device | None):
                self.device = devices.checked(self.device)
        except RuntimeError as error:
            raise InputError(f"device ({device!r}) cannot be used: {error}") from error
        self._variables: dict[jax.Device | None, dict] = {}
        self._compiled, self._lock = collections.OrderedDict(), threading.Lock()

    def predict(
        self,
        frames,
        labels=None,
        horizon: int = HORIZON,
        segmentation_method: str = "motion",
        clarity: float | None = None,
        callback: Callable[[int], None] | None = None,
    ) -> Prediction:
        """The `horizon` frames after a clip, and their fusion pictures: of the clip's aspect (`at_aspect`)
        where no size was asked for. Equal bytes for equal input, weights and machine.

        frames: an array of any library, (t, h, w, 3), (b, t, h, w, 3) or grey (t, h, w), RGB, uint8 or floats
        in [0, 1], t of `context` or more; the last `context` are observed, after a scene cut among them those
        that follow it alone. Or the path of a video, of which what follows its end is predicted. labels: ids
        from 0 to 255, (t, h, w) or (b, t, h, w); None finds them by `segmentation_method`, from the first
        frame that is read. clarity: as of `at_clarity`; None: as it is. callback: called every few frames
        with how many are predicted; its program is compiled in each process anew. Raises InputError.
        """
        batch, fps, batched = inputs.clips(frames, self.context)
        if len(batch[0]) < self.context:
            raise InputError(f"{frames} has {len(batch[0])} frames; at least {self.context} are needed")
        if labels is not None:
            labels = inputs.labels(labels, batch.shape[:4], batched)[:, -self.context :]
            batch = batch[:, -self.context :]
        ours = self.at_aspect(*batch.shape[2:4])
        ours = ours if clarity is None else ours.at_clarity(clarity)
        elements = []
        for i, clip in enumerate(batch):
            clip = preparation.prepare_clip(
                f"clip {i}",
                clip,
                labels=None if labels is None else labels[i],
                method=segmentation_method,
                edge_rule=self.edge_rule,
                observed=(len(clip) - self.context, len(clip)),
            )
            elements.append(pipeline.to_batch_element(clip.last(self.context), ours.size))
        of = lambda videos: videos if batched else videos[0]
        _, predicted = ours.predict_batch(elements, horizon, callback=callback, fields=("frames",))
        seen = np.stack([element["frames"] for element in elements])
        maps = lambda: of(ours.predict_batch(elements, horizon, fields=("fusion",))[0])
        known = {"predict_fusion": maps} if "fusion" in ours.system.fields else {}
        return Prediction(of(predicted), of(seen), fps, **known)

    @property
    def device_count(self) -> int:
        """How many devices share a batch."""
        return len(self.device) if isinstance(self.device, tuple) else 1

    @property
    def platform(self) -> str:
        """Of what it predicts on, such as `cpu`."""
        device = self.device[0] if isinstance(self.device, tuple) else self.device
        return device.platform if device else jax.default_backend()

    def at_size(self, size: tuple[int, int]) -> "Predictor":
        """The same weights for frames of a height and a width. Raises InputError where these do not fit."""
        other = self._with(size, self.clarity)
        other._any_size = False
        return other

    def at_aspect(self, height: int, width: int) -> "Predictor":
        """The same at the size nearest to the aspect of height x width; itself where a size was asked for."""
        size = self.system.size_at(height, width)
        return self if size == self.size or not self._any_size else self.at_size(size)

    def at_clarity(self, clarity: float) -> "Predictor":
        """The same weights at a clarity from 0, the most accurate mean of what may come, to 1, one clear
        future, which is what `vidpred_jax.load` gives. Raises InputError where they have no choice: the
        proposal `flow_blend` has one, and stage 2 over it.
        """
        return self._with(self.size, clarity)

    def _with(self, size, clarity):
        other = copy.copy(self)  # With the same programs and lock.
        other.system = self._loaded.at_size(size)
        if clarity is not None:
            other.system = other.system.at_clarity(clarity)
        other.size, other.clarity = other.system.size, clarity
        return other

    def predict_batch(
        self,
        elements: list[dict],
        horizon: int = HORIZON,
        exact: bool = False,
        callback: Callable[[int], None] | None = None,
        fields: tuple[str, ...] | None = None,
    ):
        """(fusion pictures or None, frames or None), both uint8 (n, horizon, h, w, 3), of prepared clips.

        elements: of `pipeline.to_batch_element` at `size`, each array of `context` frames. exact: both are
        float32 in [0, 255] before clipping and rounding. callback: as of `predict`. fields: of
        `System.fields`, those that are computed; None: all.
        """
        if not isinstance(horizon, numbers.Integral) or horizon < 1:
            raise InputError(f"horizon ({horizon!r}) must be a whole number, 1 or more")
        found = self._run(horizon, False, exact, self._stack(elements), callback, fields)
        return tuple(
            np.asarray(found[field])[: len(elements)] if field in found else None
            for field in ("fusion", "frames")
        )

    def translate_batch(self, elements: list[dict], exact: bool = False) -> np.ndarray:
        """Frames, uint8 (n, horizon, h, w, 3), by stage 2 alone, from known maps.

        elements, exact: as for `predict_batch`, but the maps go on for `horizon` more frames.
        """
        field = self.system.form.field
        horizon = len(elements[0][field]) - self.context if elements else 0
        if horizon < 1:
            raise InputError(f"{field} of {self.context + horizon} steps; {self.context + 1} are needed")
        found = self._run(horizon, True, exact, self._stack(elements, {field: self.context + horizon}))
        return np.asarray(found["frames"])[: len(elements)]

    def _stack(self, elements, lengths: dict[str, int] | None = None) -> dict[str, np.ndarray]:
        """The arrays that prediction needs of all elements, each refused if it is not as it must be.

        What precedes a scene cut is left out. The last is repeated up to a power of two for each device, so
        that few programs serve any number of clips.
        """
        if not elements:
            raise InputError("elements hold no clip; at least one is needed")
        elements = [{f: np.asarray(element[f]) for f in self.system.inputs} for element in elements]
        for field in self.system.inputs:
            needed = ((lengths or {}).get(field, self.context), *self.size, 2 if field == "planes" else 3)
            for number, element in enumerate(elements):
                found = element[field]
                if found.shape != needed or found.dtype != np.uint8:
                    raise InputError(
                        f"{field} of element {number} are {found.dtype} {found.shape}; "
                        f"uint8 {needed} is needed"
                    )
        elements = [cuts.leave_out(element, self.context) for element in elements]
        count = self.device_count
        whole = count * 2 ** (-(-len(elements) // count) - 1).bit_length()
        elements = [*elements, *[elements[-1]] * (whole - len(elements))]
        return {field: np.stack([e[field] for e in elements]) for field in self.system.inputs}

    def _labels_of(self, clip) -> int:
        """How many labels are told apart: as many as in the runs' data; by proposals alone as many as the
        clip has, up to the next power of two. Raises InputError where networks know fewer."""
        known = self.system.facts["num_labels"]
        most = int(clip["planes"][..., 1].max()) if "planes" in clip else 0
        if most < known:
            return known
        if self.system.networks:
            raise InputError(
                f"labels go up to {most}; {', '.join(self.described)} tell {known} apart, background included"
                ": the others would vanish; give labels or masks as in training"
            )
        return 1 << most.bit_length()

    def _run(self, horizon, known_maps, exact, clip: dict, callback=None, fields=None) -> dict:
        """The prediction of stacked elements, compiled for their shapes."""
        calls = _Calls(callback, self.device_count) if callback else None
        device = self.device or jax.config.jax_default_device
        several = isinstance(device, tuple)
        args = (self._on(device), clip, *([calls.number] if calls else []))
        labels = self._labels_of(clip)
        modules = [proposal.module for proposal in self.system.proposals.values()]
        shapes = (x.shape for x in clip.values())
        parts = self.system.clarity, *(network.stage.role for network in self.system.networks), *modules
        key = device, horizon, known_maps, exact, fields, labels, bool(calls), *parts, *shapes
        with self._lock:  # Held while it compiles: who asks for the same waits for it.
            if key not in self._compiled:
                finish = fusion.to_255 if exact else fusion.to_uint8
                system = self.system.telling_apart(labels)
                tell = _Calls.tell if calls else None
                options = {"known_maps": known_maps, "finish": finish, "fields": fields, "tell": tell}
                predict = make_predict(system, horizon, **options)
                predict = devices.shared(predict, device, len(args)) if several else predict
                with jax.enable_x64(False):
                    program = jax.jit(predict).lower(*args)
                    self._compiled[key] = program.compile(startup.compiler_options())
            self._compiled.move_to_end(key)
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
            run = self._compiled[key]
        return calls.during(lambda: run(*args)) if calls else run(*args)

    def _on(self, device) -> dict:
        """The variables on a device, on each of several, or on JAX's default, which `jax.default_device` may
        choose."""
        with self._lock, jax.enable_x64(False):  # A program that asks for float64 gets the same frames.
            if device not in self._variables:
                place = devices.each(device) if isinstance(device, tuple) else device
                self._variables[device] = jax.device_put(self._loaded.variables, place)
            return self._variables[device]


class _Calls:
    """The calls of a callback out of a running program, which knows it by its number."""

    _numbers, _known = itertools.count(), {}

    def __init__(self, callback, devices: int):
        self.number, self._callback, self._error = np.int32(next(self._numbers)), callback, None
        self._devices, self._told, self._lock = devices, collections.Counter(), threading.Lock()

    @classmethod
    def tell(cls, number, step):
        self, step = cls._known[int(number)], int(step)
        with self._lock:
            self._told[step] += 1
            if self._error or self._told[step] < self._devices:  # The last of several devices tells.
                return
            try:
                self._callback(step)
            except BaseException as error:  # Raised where the program was called.
                self._error = error

    def during(self, run):
        self._known[int(self.number)] = self
        try:
            found = jax.block_until_ready(run())
            jax.effects_barrier()
        finally:
            del self._known[int(self.number)]
        if self._error:
            raise self._error
        return found
