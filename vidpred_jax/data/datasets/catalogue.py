"""Converts video sets of the TFDS catalogue, prepared by TFDS, to our clip format.

Converting `ucf101` needs TensorFlow (extra `tf`), as TFDS's Video feature does. The
converted set is read without it.
"""

import dataclasses
import functools
import math

import numpy as np
import tensorflow_datasets as tfds

from vidpred_jax.data.datasets import building, registry
from vidpred_jax.data.fusion import EdgeRule
from vidpred_jax.data.preparation import prepare_clip
from vidpred_jax.types import Clip, InputError, reason


def _davis(example):
    """video: a sequence of frames and segmentations (h, w, 1); ids of the objects."""
    video = example["video"]
    frames, labels = np.stack(video["frames"]), np.stack(video["segmentations"])[..., 0]
    return _text(example["metadata"]["video_name"]), frames, labels


def _ucf101(example):
    """video: (t, 256, 256, 3)."""
    return "", np.stack(example["video"]), None


def _bair(example):
    """A sequence of steps, each with image_main (64, 64, 3)."""
    steps = example if isinstance(example, dict) else {"image_main": [s["image_main"] for s in example]}
    return "", np.stack(steps["image_main"]), None


ADAPTERS = {"davis": _davis, "ucf101": _ucf101, "bair_robot_pushing_small": _bair}


def to_clip(
    set_name: str,
    example: dict | list,
    fallback_name: str,
    method: str = "motion",
    edge_rule: EdgeRule = EdgeRule(),
) -> Clip:
    """One example of a catalogue set as a clip; labels by `method` where the set has none."""
    name, frames, labels = ADAPTERS[set_name](example)
    frames = np.asarray(frames, np.uint8)
    labels = labels if labels is None else np.asarray(labels, np.uint8)
    return prepare_clip(name or fallback_name, frames, labels=labels, method=method, edge_rule=edge_rule)


@dataclasses.dataclass
class CatalogueConfig(building.BuildConfig):
    """set_name: of the catalogue. set_dir: TFDS's data_dir; empty: its default."""

    set_name: str = ""
    set_dir: str = ""
    segmentation: str = "motion"
    lossless: bool = False


class Catalogue(building.ClipBuilder, skip_registration=True):
    """Clips converted from a set of the TFDS catalogue."""

    least = math.inf  # TFDS's sources are not to be sent to processes.

    def _clips(self):
        clips_of = {}
        for split, data in _open(self.builder_config).items():
            names = [f"{split}_{i:06d}" for i in range(len(data))]
            clips_of[split] = {
                name: functools.partial(self._convert, data, i, name) for i, name in enumerate(names)
            }
        return _three_splits(clips_of)

    def _convert(self, data, i, name, log):
        del log
        config = self.builder_config
        return to_clip(config.set_name, data[i], name, config.segmentation, config.edge_rule)


def _three_splits(found: dict) -> dict:
    """The splits of a set as train, validation and test.

    A set without `test` gives its `validation` (DAVIS), else the last tenth of `train`, as test. A set
    whose only split is not `train` gives it as train first. A missing validation is the
    last tenth of the rest of train.
    """
    found = dict(found)
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    if "train" not in found:
        (name,) = found
        found["train"] = found.pop(name)
    for split in ("test", "validation"):
        if split not in found:
            names = list(found["train"])
            cut = names[len(names) - max(len(names) // 10, 1) :]
            found[split] = {name: found["train"].pop(name) for name in cut}
    return found


def _open(config: CatalogueConfig) -> dict:
    """{split: random-access source} of the prepared set. Raises InputError."""
    hint = f"prepare it by TFDS first: tfds build {config.set_name} --file_format=array_record"
    try:
        builder = tfds.builder(config.set_name, data_dir=config.set_dir or None, try_gcs=False)
        return dict(builder.as_data_source())
    except ImportError as error:
        raise InputError(
            f"data set {config.set_name!r} needs TensorFlow to be read: pip install 'vidpred_jax[tf]'"
        ) from error
    except Exception as error:  # TFDS raises its own and bare kinds; the remedy is one.
        raise InputError(
            f"data set {config.set_name!r} cannot be opened ({reason(error)}); {hint}"
        ) from error


def builder(name: str, data_dir, **fields):
    """The builder that converts; fields are CatalogueConfig's."""
    config = CatalogueConfig(name="default", **fields)
    return registry.make_builder(Catalogue, name, config, data_dir)


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
