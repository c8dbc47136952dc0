"""Sets of the TFDS catalogue as clips."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vidpred_jax.data.datasets import catalogue, clips, registry
from vidpred_jax.types import InputError


def test_catalogue_examples_become_clips():
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8))
    masks = list(rng.integers(0, 3, (4, 8, 8, 1)).astype(np.uint8))
    davis = {
        "video": {"frames": frames, "segmentations": masks},
        "metadata": {"num_frames": 4, "video_name": b"bear"},
    }
    clip = catalogue.to_clip("davis", davis, "x")
    assert clip.name == "bear"
    np.testing.assert_array_equal(clip.labels, np.stack(masks)[..., 0])
    big = np.zeros((4, 32, 32, 3), np.uint8)
    assert catalogue.to_clip("ucf101", {"video": big}, "x").frames.shape == big.shape
    bair = [{"image_main": f, "action": np.zeros(4)} for f in big]
    assert catalogue.to_clip("bair_robot_pushing_small", bair, "x").frames.shape == big.shape


def test_catalogue_davis_is_converted_from_what_tfds_prepared(tmp_path, monkeypatch):
    """A miniature with TFDS's own features of `davis`, written and read by TFDS."""
    frames = np.random.default_rng(0).integers(0, 256, (3, 5, 16, 24, 3)).astype(np.uint8)

    class Davis(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """TFDS's davis in small."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(None, None, 3))
            mask = tfds.features.Image(shape=(None, None, 1))
            video = tfds.features.Sequence({"frames": image, "segmentations": mask})
            meta = {"num_frames": np.int64, "video_name": tfds.features.Text()}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict({"video": video, "metadata": meta})
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(range(2)), "validation": self._generate_examples([2])}

        def _generate_examples(self, numbers):
            for i in numbers:
                files = [_png(tmp_path / f"{i}_{t}.png", f) for t, f in enumerate(frames[i])]
                masks = [_png(tmp_path / f"m{i}_{t}.png", f[..., 0] // 100) for t, f in enumerate(frames[i])]
                yield (
                    str(i),
                    {
                        "video": {"frames": files, "segmentations": masks},
                        "metadata": {"num_frames": 5, "video_name": f"clip{i}"},
                    },
                )

    miniature = Davis(data_dir=tmp_path / "tfds")
    miniature.download_and_prepare(file_format="array_record")
    monkeypatch.setattr(tfds, "builder", lambda *args, **kwargs: miniature)
    registry.prepare(catalogue.builder("converted", tmp_path / "data", set_name="davis"))
    names = set()
    for split in ("train", "validation", "test"):
        (example,) = registry.open_split("converted", split, data_dir=tmp_path / "data")
        found = clips.decode(example)
        names.add(found.name)
        np.testing.assert_array_equal(found.labels, frames[int(found.name[-1])][..., 0] // 100)
    assert found.name == "clip2" and names == {"clip0", "clip1", "clip2"}


def _png(path, image):
    Image.fromarray(image).save(path)
    return str(path)


def test_catalogue_splits():
    names = {i: None for i in range(20)}
    only = catalogue._three_splits({"test": dict(names)})
    assert {k: len(v) for k, v in only.items()} == {"train": 16 + 1, "test": 2, "validation": 1}
    three = catalogue._three_splits({"train": {1: 0}, "validation": {2: 0}, "test": {3: 0}})
    assert three == {"train": {1: 0}, "validation": {2: 0}, "test": {3: 0}}


def test_catalogue_set_that_is_not_prepared(tmp_path):
    builder = catalogue.builder("x", tmp_path, set_name="davis", set_dir=str(tmp_path))
    with pytest.raises(InputError, match="'davis' cannot be opened .* tfds build davis"):
        builder._clips()
