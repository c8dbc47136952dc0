"""Synthetic clips, the format on disk, folders, DAVIS's layout, idx files, catalogue sets."""

import gzip

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vidpred_jax import fusion, video_io
from vidpred_jax.datasets import catalogue, clips, digits, folders, registry, synthesis
from vidpred_jax.types import Clip, InputError


def test_bounce_by_hand():
    path = synthesis.bounce(
        np.array([1.0, 0.0]), np.array([2.0, 1.0]), 0.0, np.array([4.0, 9.0]), 6
    )
    assert path[:, 0].tolist() == [1, 3, 3, 1, 1, 3]
    assert path[:, 1].tolist() == [0, 1, 2, 3, 4, 5]


def test_sprites_are_a_function_of_the_seed_and_move():
    first, again, other = (
        synthesis.sprite_clip(np.random.default_rng(seed), "a", 20, 64) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.frames, again.frames)
    assert (first.frames != other.frames).mean() > 0.5
    assert 2 <= first.labels.max() <= 3
    for label in range(1, first.labels.max() + 1):
        assert (first.labels[0] == label).sum() > 0
        assert ((first.labels[0] == label) != (first.labels[-1] == label)).sum() > 20


def test_sprite_labels_are_exact():
    """Redrawing the background alone would leave objects' pixels different: each is inside its label."""
    clip = synthesis.sprite_clip(np.random.default_rng(3), "a", 2, 64)
    change = np.abs(clip.frames[1].astype(int) - clip.frames[0]).sum(-1)
    still = (clip.labels[0] == 0) & (clip.labels[1] == 0)
    assert change[still].mean() < change[~still & (clip.labels[0] != clip.labels[1])].mean() / 3


def test_clip_format_round_trip(clip):
    example = clips.encode(Clip("a", clip.frames, clip.labels))
    found = clips.decode(example, np.array([3, 4, 40]))
    for field in ("frames", "labels", "edges"):
        np.testing.assert_array_equal(getattr(found, field), getattr(clip, field)[[3, 4, 40]])


def test_damaged_example_names_the_clip(clip):
    example = clips.encode(Clip("clip_7", clip.frames[:2], clip.labels[:2]))
    example["labels"][1] = b"damaged"
    with pytest.raises(InputError, match="labels of clip 'clip_7' cannot be decoded"):
        clips.decode(example)


def test_splits_are_disjoint_and_stable(data_dir):
    frames = {}
    for split, count in {"train": 12, "validation": 4, "test": 4}.items():
        source = registry.open_split("sprites", split, data_dir=data_dir, config="tiny")
        assert len(source) == count
        for example in source:
            clip = clips.decode(example, [0])
            frames[clip.name] = clip.frames.tobytes()
    assert len(frames) == len(set(frames.values())) == 20


def test_fingerprint_follows_the_data(data_dir, tmp_path):
    first = registry.open_builder("sprites", data_dir=data_dir, config="tiny")
    again = registry.open_builder(
        "sprites", data_dir=tmp_path, config="tiny", log=lambda line: None
    )
    assert registry.fingerprint(first) == registry.fingerprint(again)
    shard = next(tmp_path.rglob("*.array_record*"))
    shard.write_bytes(shard.read_bytes() + b"x")
    assert registry.fingerprint(first) != registry.fingerprint(again)


def test_unknown_data_set_split_and_config(data_dir):
    with pytest.raises(
        InputError, match="data set 'moon' is not in .*: embedded are sprites, digits"
    ):
        registry.open_split("moon", "train", data_dir=data_dir)
    with pytest.raises(InputError, match="has no split 'dev', but test, train, validation"):
        registry.open_split("sprites", "dev", data_dir=data_dir, config="tiny")
    with pytest.raises(
        InputError, match=r"data.config \('huge'\) of 'sprites' must be one of 64, tiny"
    ):
        registry.open_split("sprites", "train", data_dir=data_dir, config="huge")


def test_digits_move_and_keep_test_digits_apart(tmp_path):
    source = registry.open_split("digits", "test", data_dir=tmp_path, config="tiny", log=str)
    clip = clips.decode(source[0])
    assert clip.frames.shape == (48, 64, 64, 3) and set(np.unique(clip.labels)) == {0, 1, 2}
    assert (clip.frames[0] != clip.frames[5]).any()
    images = np.arange(100, dtype=np.uint8).repeat(28 * 28).reshape(100, 28, 28)
    path = tmp_path / "images.gz"
    path.write_bytes(
        gzip.compress(np.array([0x803, 100, 28, 28], ">i4").tobytes() + images.tobytes())
    )
    config = digits.DigitsConfig(name="mine", idx=str(path), num_train=20, num_test=20)
    made = digits.Digits(data_dir=tmp_path, config=config)._clips()
    train = {int(v) for make in made["train"].values() for v in np.unique(make().frames)}
    test = {int(v) for make in made["test"].values() for v in np.unique(make().frames)}
    assert max(train) < 80 and min(test - {0}) >= 90


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin as an idx3-ubyte"),
        (np.array([0x803, 2, 3, 3], ">i4").tobytes() + b"12345", "is truncated: 5 of 18 bytes"),
        (np.array([0x803, 2**30, 99, 99], ">i4").tobytes(), "declares shape"),
    ],
)
def test_bad_idx(tmp_path, data, message):
    (tmp_path / "idx").write_bytes(data)
    with pytest.raises(InputError, match=message):
        digits.read_idx(str(tmp_path / "idx"))
    with pytest.raises(InputError, match="does not exist"):
        digits.read_idx(str(tmp_path / "none"))


@pytest.fixture
def video_folder(tmp_path, clip):
    """Three clips: a video file and two folders of frames, and masks for the latter."""
    root, masks = tmp_path / "videos", tmp_path / "masks"
    video_io.write_video(root / "c.avi", clip.frames[:20])
    for name in ("a", "b"):
        (masks / name).mkdir(parents=True)
        for t in range(20):
            video_io.write_image(root / name / f"{t}.png", clip.frames[t])
            Image.fromarray(clip.labels[t]).save(masks / name / f"{t}.png")
    return root, masks


def test_video_folder(tmp_path, video_folder, clip):
    builder = registry.video_folder("mine", tmp_path / "data", input=str(video_folder[0]))
    registry.prepare(builder)
    names = {}
    for split in ("train", "validation", "test"):
        source = registry.open_split("mine", split, data_dir=tmp_path / "data")
        names[split] = [clips.decode(e, [0]).name for e in source]
    assert names == {"train": ["a"], "validation": ["b"], "test": ["c"]}


def test_video_folder_with_masks(tmp_path, video_folder, clip):
    root, masks = video_folder
    (root / "c.avi").unlink()
    fields = dict(input=str(root), masks=str(masks), num_validation=0)
    registry.prepare(registry.video_folder("masked", tmp_path / "data", **fields))
    found = clips.decode(registry.open_split("masked", "train", data_dir=tmp_path / "data")[0])
    np.testing.assert_array_equal(found.labels, clip.labels[:20])
    np.testing.assert_array_equal(found.edges, clip.edges[:20])  # Of the frames before JPEG.
    assert np.abs(found.frames.astype(int) - clip.frames[:20]).mean() < 6


def test_video_folder_refusals(tmp_path, video_folder):
    root, masks = video_folder

    def build(**fields):
        registry.video_folder("bad", tmp_path, **{"input": str(root), **fields})._clips()

    with pytest.raises(InputError, match="input folder 'nowhere' does not exist"):
        build(input="nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds 0 clips"):
        build(input=str(tmp_path / "empty"))
    with pytest.raises(InputError, match="holds 3 clips; with num_validation=2 and num_test=1"):
        build(num_validation=2)
    with pytest.raises(InputError, match="masks of clip 'c' are missing"):
        build(masks=str(masks))
    with pytest.raises(InputError, match=r"--name \('no-good'\) must be letters"):
        registry.video_folder("no-good", tmp_path, input=str(root))


def davis_miniature(root, clip):
    for name in ("bear", "dog", "goat"):
        (root / folders.DAVIS_MASKS / name).mkdir(parents=True)
        for t in range(4):
            video_io.write_image(
                root / folders.DAVIS_FRAMES / name / f"{t:05d}.jpg", clip.frames[t]
            )
            mask = Image.fromarray(clip.labels[t], "P")
            mask.putpalette(fusion.PALETTE.tobytes())
            mask.save(root / folders.DAVIS_MASKS / name / f"{t:05d}.png")
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "train.txt").write_text("bear\ndog\n")
    (root / "ImageSets" / "val.txt").write_text("goat\n")
    return root


def test_davis_layout(tmp_path, clip):
    root = davis_miniature(tmp_path / "davis", clip)
    registry.prepare(registry.video_folder("tiny_davis", tmp_path, input=str(root)))
    for split, name in {"train": "bear", "validation": "dog", "test": "goat"}.items():
        found = clips.decode(registry.open_split("tiny_davis", split, data_dir=tmp_path)[0])
        assert found.name == name
        np.testing.assert_array_equal(found.labels, clip.labels[:4])


def test_davis_list_cannot_leave_its_folder(tmp_path, clip):
    root = davis_miniature(tmp_path / "davis", clip)
    (root / "ImageSets" / "val.txt").write_text("../../secrets\n")
    with pytest.raises(InputError, match=r"clip '../../secrets' of .* has no folder"):
        folders.davis_splits(root)
    (root / "ImageSets" / "val.txt").unlink()
    with pytest.raises(InputError, match=r"ImageSets/val.txt does not exist"):
        folders.davis_splits(root)


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
    digits_clip = catalogue.to_clip(
        "moving_mnist", {"image_sequence": [m * 100 for m in masks]}, "x"
    )
    assert digits_clip.frames.shape == (4, 8, 8, 3) and digits_clip.labels.max() == 1
    big = np.zeros((4, 32, 32, 3), np.uint8)
    assert catalogue.to_clip("ucf101", {"video": big}, "x", "kmeans").frames.shape == big.shape
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
                builder=self,
                features=tfds.features.FeaturesDict({"video": video, "metadata": meta}),
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(range(2)),
                "validation": self._generate_examples([2]),
            }

        def _generate_examples(self, numbers):
            for i in numbers:
                files = [_png(tmp_path / f"{i}_{t}.png", f) for t, f in enumerate(frames[i])]
                masks = [
                    _png(tmp_path / f"m{i}_{t}.png", f[..., 0] // 100)
                    for t, f in enumerate(frames[i])
                ]
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
