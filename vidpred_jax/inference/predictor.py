"""Trained runs as one predictor: observed RGB frames in, future RGB frames out."""

import collections
import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax import schema
from vidpred_jax.checkpoints import restore
from vidpred_jax.data import fusion, segmentation, sizes
from vidpred_jax.inference import networks, rollout
from vidpred_jax.models import build, schedules
from vidpred_jax.types import CONTEXT, HORIZON, InputError

_KEPT = 8  # Compiled programs.


@dataclasses.dataclass(frozen=True)
class Prediction:
    """frames: uint8 (horizon, h, w, 3), RGB. fusion: the predicted fusion pictures, their own h and w."""

    frames: np.ndarray
    fusion: np.ndarray


def _load_accompanying(run: str, height: int, width: int):
    """(`accompanying.sharpen` along the run's schedule, its parameters)."""
    stack, params, schedule = networks.load_stack(run)
    size = restore.read_meta(run)["config"]["data"]
    if (size["height"], size["width"]) != (height, width):
        raise InputError(
            f"accompanying run {run!r} works at {size['height']} x {size['width']}, the translator run at "
            f"{height} x {width}; they must be equal"
        )

    def sharpen(params, frames, pictures, ahead):
        return schedules.sharpen(stack, params, schedule, frames, pictures, ahead)

    return sharpen, params


class Predictor:
    """`predict()` for one clip of any size, `predict_batch()` for prepared clips.

    Safe to call from several threads: each shape is compiled once, and the
    last `_KEPT` of them are kept.

    Attributes: runs (the run folders), config (of the translator run), height and width (of fusion
    pictures), frame_size (height and width of frames: the same, unless stage 2 looks at frames alone).
    """

    def __init__(
        self,
        fusion_run: str,
        translator_run: str,
        quantize_labels: int | None = None,
        accompanying_run: str | None = None,
        size: tuple[int, int] | None = None,
    ):
        fusion_config = restore.read_meta(fusion_run)["config"]
        self.config = restore.read_meta(translator_run)["config"]
        for config in (fusion_config, self.config):
            schema.check(config)
        self.fusion_run, self.translator_run = fusion_run, translator_run
        pictures, trained = (
            (c["data"]["height"], c["data"]["width"]) for c in (fusion_config, self.config)
        )
        if size and not (len(size) == 2 and all(side > 0 for side in size)):
            raise InputError(f"size ({size!r}) must be a height and a width, each above 0")
        (self.height, self.width), self.frame_size = pictures, tuple(size or trained)
        self._fusion, self._fusion_variables = networks.load_generator(fusion_run)
        if quantize_labels is None:
            quantize_labels = fusion_config["evaluation"].get("quantize_labels", 0)
        self.quantize_labels = quantize_labels
        try:
            loaded = networks.load_generator(translator_run, size=self.frame_size)
        except InputError as error:
            raise InputError(f"size {sizes.by(size)}: {error}" if size else str(error)) from error
        self._translator, self._translator_variables = loaded
        alone = not self._translator.needs_fusion
        if self.frame_size != trained and not alone:
            raise InputError(
                f"size {sizes.by(size)}: stage 2 of translator run {translator_run!r} looks at fusion "
                f"pictures and predicts at {sizes.by(trained)} alone; that of weights=real predicts at others"
            )
        if trained != pictures and not alone:
            raise InputError(
                f"fusion run {fusion_run!r} works at {sizes.by(pictures)}, translator run "
                f"{translator_run!r} at {sizes.by(trained)}; they must be equal, unless stage 2 looks "
                "at frames alone: a compositor whose model.widths is ()"
            )
        if accompanying_run and self.frame_size != pictures:
            raise InputError(
                f"accompanying run {accompanying_run!r} needs frames of {sizes.by(pictures)}, as the fusion "
                f"pictures are, not of {sizes.by(self.frame_size)}"
            )
        self.accompanying_run = accompanying_run
        self.runs = [r for r in (fusion_run, translator_run, accompanying_run) if r]
        # What sharpens a frame, and its parameters, which go where the translator's go.
        self._sharpen = None
        if accompanying_run:
            self._sharpen, params = _load_accompanying(accompanying_run, *self.frame_size)
            self._translator_variables = {**self._translator_variables, "sharpen": params}
        variables = self._fusion_variables["params"], self._translator_variables
        self._parameters, self._frames_parameters = jax.device_put(variables)
        self._compiled, self._lock = collections.OrderedDict(), threading.Lock()

    def predict(
        self,
        frames: np.ndarray,
        labels: np.ndarray | None = None,
        horizon: int = HORIZON,
        segmentation_method: str = "motion",
    ) -> Prediction:
        """The `horizon` frames after a clip, of `frame_size`, and their fusion pictures.

        frames: uint8 (t, h, w, 3), RGB, t of 16 or more; the last 16 are used. labels: uint8
        (t, h, w); None finds them by `segmentation_method`. Raises InputError.
        """
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise InputError(
                f"frames are {frames.dtype} {frames.shape}; they must be uint8 (t, h, w, 3)"
            )
        if len(frames) < CONTEXT:
            raise InputError(f"the clip has {len(frames)} frames; at least {CONTEXT} are needed")
        if labels is not None and np.asarray(labels).shape != frames.shape[:3]:
            raise InputError(
                f"labels have shape {np.asarray(labels).shape}; {frames.shape[:3]} is needed"
            )
        frames = frames[-CONTEXT:]
        if labels is None:
            labels = segmentation.segment(frames, segmentation_method)
        labels = np.asarray(labels)[-CONTEXT:]
        if labels.dtype.kind not in "iub" or not 0 <= labels.min() <= labels.max() <= 255:
            raise InputError("labels must be whole numbers from 0 to 255")
        labels = labels.astype(np.uint8)
        pictures = fusion.render(fusion.EdgeRule().apply(frames), labels)
        element = {
            "frames": fusion.resize_frames(frames, *self.frame_size),
            "fusion": fusion.resize(pictures, self.height, self.width),
        }
        pictures, predicted = self.predict_batch([element], horizon)
        return Prediction(predicted[0], pictures[0])

    def predict_batch(self, elements: list[dict], horizon: int = HORIZON):
        """(fusion pictures, frames), both uint8 (n, horizon, h, w, 3), of prepared clips.

        elements: dicts of `frames`, uint8 (16, *frame_size, 3), and `fusion`, (16, height, width, 3).
        """
        if horizon < 1:
            raise InputError(f"horizon ({horizon}) must be 1 or more")
        stacked = self._stack(elements, CONTEXT)
        pictures, frames = self._run(
            self._make_roll, horizon, self._parameters, self._frames_parameters, *stacked
        )
        return np.asarray(pictures)[: len(elements)], np.asarray(frames)[: len(elements)]

    def translate_batch(self, elements: list[dict]) -> np.ndarray:
        """Frames, uint8 (n, horizon, h, w, 3), by the translator alone, from true fusion pictures.

        elements: as for `predict_batch`, but `fusion` goes on for `horizon` more pictures.
        """
        horizon = len(elements[0]["fusion"]) - CONTEXT if elements else 0
        if horizon < 1:
            raise InputError(
                f"fusion pictures of {CONTEXT + horizon} steps; {CONTEXT + 1} are needed"
            )
        frames, pictures = self._stack(elements, CONTEXT + horizon)
        found = self._run(self._make_translate, horizon, self._frames_parameters, frames, pictures)
        return np.asarray(found)[: len(elements)]

    def _stack(self, elements, num_pictures: int) -> list[np.ndarray]:
        """frames, fusion: of all elements, each refused if it is not as it must be.

        The last is repeated up to a power of two, so that few programs serve any number of clips.
        """
        if not elements:
            raise InputError("elements hold no clip; at least one is needed")
        shapes = {
            "frames": (CONTEXT, *self.frame_size, 3),
            "fusion": (num_pictures, self.height, self.width, 3),
        }
        for field, needed in shapes.items():
            for number, element in enumerate(elements):
                found = np.asarray(element[field])
                if found.shape != needed or found.dtype != np.uint8:
                    raise InputError(
                        f"{field} of element {number} are {found.dtype} {found.shape}; "
                        f"uint8 {needed} is needed"
                    )
        missing = 2 ** (len(elements) - 1).bit_length() - len(elements)
        elements = [*elements, *[elements[-1]] * missing]
        return [np.stack([e[field] for e in elements]) for field in ("frames", "fusion")]

    def _run(self, make, horizon, *args):
        """`make(horizon)` of the arguments, compiled for their shapes."""
        key = make.__name__, horizon, *(np.shape(x) for x in args if isinstance(x, np.ndarray))
        with self._lock:  # Held while it compiles: who asks for the same waits for it.
            if key not in self._compiled:
                with build.numerics(self.config):
                    self._compiled[key] = jax.jit(make(horizon)).lower(*args).compile()
            self._compiled.move_to_end(key)
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
            run = self._compiled[key]
        return run(*args)

    def _apply(self, variables, pictures, references, ahead):
        """The translator, and what sharpens its frames."""
        own = {k: v for k, v in variables.items() if k != "sharpen"}
        frames = self._translator.apply(own, pictures, references, ahead)
        if self._sharpen is not None:
            frames = self._sharpen(variables["sharpen"], frames, pictures, ahead)
        return frames

    def _references(self, frames, pictures):
        frames, pictures = fusion.to_float(frames), fusion.to_float(pictures)
        if pictures.shape != frames.shape:  # Then they are not looked at.
            pictures = jnp.zeros_like(frames)
        return rollout.references(frames, pictures, self._translator.reference_frames)

    def _make_translate(self, horizon):
        del horizon  # The pictures tell.

        def translate(variables, frames, pictures):
            seen = self._references(frames, pictures[:, :CONTEXT])
            return rollout.translate_pictures(
                self._apply, variables, pictures[:, CONTEXT:], seen, finish=fusion.to_uint8
            )

        return translate

    def _make_roll(self, horizon):
        roll = rollout.make_rollout(
            self._fusion,
            horizon,
            quantize_labels=self.quantize_labels,
            translate=self._apply,
            finish=fusion.to_uint8,
        )

        def predict(params, variables, frames, pictures):
            seen = self._references(frames, pictures)
            return roll(params, fusion.to_float(pictures), variables, seen)

        return predict
