"""Synthetic clips, the format on disk, splits, idx files."""

import dataclasses
import io
import json
import re
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from vidpred_jax.data import fusion
from vidpred_jax.data.datasets import clips, metadata, registry, synthesis
from vidpred_jax.data.preparation import prepare_clip
from vidpred_jax.types import Clip, InputError


def encoded(name, frames, labels):
    return clips.encode(prepare_clip(name, frames, labels=labels, fps=29.97))


def test_bounce_by_hand():
    path = synthesis.bounce(np.array([1.0, 0.0]), np.array([2.0, 1.0]), 0.0, np.array([4.0, 9.0]), 6)
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
    example = encoded("a", clip.frames, clip.labels)
    found = clips.decode(example, np.array([3, 4, 40]))
    for field in ("frames", "labels", "edges"):
        np.testing.assert_array_equal(getattr(found, field), getattr(clip, field)[[3, 4, 40]])
    assert (found.name, found.fps) == ("a", 29.97)


@pytest.mark.parametrize(("levels", "bits"), [((0, 255), 1), ((0, 85, 170, 255), 2), (range(256), 8)])
def test_edges_are_stored_in_as_few_bits_as_tell_them_apart(levels, bits):
    edges = np.random.default_rng(0).choice(np.array(levels, np.uint8), (2, 11, 13))
    stored = clips.encode(Clip("a", np.zeros((2, 11, 13, 3), np.uint8), edges // 255, edges))
    for png, picture in zip(stored["edges"], edges, strict=True):
        assert png[24] == bits  # Of IHDR.
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(png)).convert("L")), picture)
    np.testing.assert_array_equal(clips.decode(stored).edges, edges)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 0.0}, r"fps of clip 'clip' \(0.0\) must be above 0 and at most 1000"),
        ({"fps": float("nan")}, r"fps of clip 'clip' \(nan\)"),
        ({"edges": np.zeros((1, 64, 64), np.uint8)}, r"edges of clip 'clip' are uint8 \(1, 64, 64\)"),
        ({"labels": np.zeros((48, 64, 64), int)}, "labels of clip 'clip' are int64"),
        ({"frames": np.zeros((48, 64, 64, 1), np.uint8)}, "they must be uint8 .t, h, w, 3."),
    ],
)
def test_a_clip_is_checked(change, message, clip):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(clip, **change)


def test_damaged_example_names_the_clip(clip):
    example = encoded("clip_7", clip.frames[:2], clip.labels[:2])
    example["labels"][1] = b"damaged"
    with pytest.raises(InputError, match="labels of clip 'clip_7' cannot be decoded"):
        clips.decode(example)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": b"../../x"}, "clip ../../x 2 64 64 29.97 is not a 2 64 64 29.97, as in metadata"),
        ({"num_frames": 3}, "clip a 3 64 64 29.97 is not a 2 64 64 29.97"),
        ({"height": 0}, "clip a 2 0 64 29.97 is not a 2 64 64 29.97"),
        ({"fps": 24.0}, "clip a 2 64 64 24.0 is not a 2 64 64 29.97"),
        ({"edges": [b""]}, "clip 'a' of 2 frames holds {'frames': 2, 'labels': 2, 'edges': 1}"),
        ({"edges": None}, "has no len"),
    ],
)
def test_a_forged_example_is_refused_with_its_shard(change, message, clip, tmp_path):
    example = encoded("a", clip.frames[:2], clip.labels[:2]) | change
    files = [tmp_path / f"train-{number}" for number in range(2)]
    split = types.SimpleNamespace(filepaths=files, shard_lengths=[2, 1], num_examples=3)
    builder = types.SimpleNamespace(
        as_data_source=lambda split: [example] * 3,
        info=types.SimpleNamespace(splits={"t": split}),
        data_path=tmp_path,
    )
    known = metadata.start(fusion.EdgeRule())
    for _ in range(3):
        metadata.add(known, "t", metadata.entry(encoded("a", clip.frames[:2], clip.labels[:2]), 4))
    known.save_metadata(tmp_path)
    source = clips.Source(builder, "t")
    for index, file in ((1, files[0]), (2, files[1]), (-1, files[1])):
        with pytest.raises(InputError, match=re.escape(f"{file} is damaged: ")) as error:
            source[index]
        assert message in str(error.value)
    with pytest.raises(IndexError):
        source[3]


def test_a_damaged_shard_names_itself(data_dir, tmp_path):
    shutil.copytree(data_dir / "sprites", tmp_path / "sprites")
    (file,) = (tmp_path / "sprites").rglob("*-test.array_record*")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + bytes(1000) + data[len(data) // 2 + 1000 :])
    source = registry.open_split("sprites", "test", data_dir=tmp_path, config="tiny")
    with pytest.raises(InputError, match=f"{re.escape(str(file))} is damaged"):
        for example in source:
            clips.decode(example)


def test_names_that_no_file_can_have(tmp_path):
    with pytest.raises(InputError, match="data set 'a{5000}' is not in"):
        registry.open_builder("a" * 5000, data_dir=tmp_path)
    with pytest.raises(InputError, match="data_dir .* cannot be read: File name too long"):
        registry.open_builder("mine", data_dir="a" * 5000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "is damaged or of another program"),
        ({"template": "../{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}, "its shards lie elsewhere"),
    ],
)
def test_forged_descriptions_are_refused(change, message, data_dir, tmp_path):
    shutil.copytree(data_dir / "sprites", tmp_path / "mine")
    (file,) = tmp_path.rglob("dataset_info.json")
    info = json.loads(file.read_text())
    if "name" in change:
        info["name"] = ""
    for split in info["splits"]:
        split["filepathTemplate"] = change.get("template", split["filepathTemplate"])
    file.write_text(json.dumps(info))
    with pytest.raises(InputError, match=message):
        registry.open_split("mine", "train", data_dir=tmp_path)


@pytest.mark.parametrize("stream", ["frames", "edges"])
def test_pictures_of_another_size_are_refused_before_they_are_decoded(stream, clip):
    example = encoded("a", clip.frames[:2], clip.labels[:2])
    example[stream][1] = encoded("b", clip.frames[:1, :9], clip.labels[:1, :9])[stream][0]
    with pytest.raises(InputError, match=f"{stream} of clip 'a' are 64 x 9, the clip is 64 x 64"):
        clips.decode(example)


def test_labels_with_colours_are_refused(clip):
    example = encoded("a", clip.frames[:1], clip.labels[:1])
    example["labels"] = example["frames"]
    with pytest.raises(InputError, match="labels of clip 'a' cannot be decoded"):
        clips.decode(example)


def test_splits_are_disjoint_and_stable(data_dir):
    frames = {}
    for split, stream, count in (("train", 0, 12), ("validation", 1, 4), ("test", 3, 4)):
        source = registry.open_split("sprites", split, data_dir=data_dir, config="tiny")
        assert len(source) == count
        for example in source:
            clip = clips.decode(example, [0])
            frames[clip.name] = clip.frames.tobytes()
            # What threads drew at once is what each draws alone.
            rng = np.random.default_rng([0, stream, int(clip.name.split("_")[1])])
            alone = synthesis.sprite_clip(rng, clip.name, 48, 32)
            np.testing.assert_array_equal(clip.frames, alone.frames[:1])
    assert len(frames) == len(set(frames.values())) == 20


def test_fingerprint_follows_the_data(data_dir, tmp_path):
    """Not the place where it is; one other clip of as many bytes is another data set."""
    first = registry.open_builder("sprites", data_dir=data_dir, config="tiny")
    shutil.copytree(data_dir / "sprites", tmp_path / "sprites")
    again = registry.open_builder("sprites", data_dir=tmp_path, config="tiny")
    assert registry.fingerprint(first) == registry.fingerprint(again)
    columns = {"num_frames": 1, "height": 4, "width": 4, "fps": 12.0, "labels": [], "edges": []}
    found = []
    for pixels in (b"aa", b"ab"):
        known = metadata.start(fusion.EdgeRule())
        metadata.add(known, "train", metadata.entry({"name": "a", "frames": [pixels], **columns}, 1))
        found.append(known["splits"]["train"]["digest"])
    assert found[0] != found[1]


def test_unknown_data_set_split_and_config(data_dir):
    with pytest.raises(InputError, match="data set 'moon' is not in .*: embedded are sprites, moving_digits"):
        registry.open_split("moon", "train", data_dir=data_dir)
    with pytest.raises(InputError, match="has no split 'dev', but test, train, validation"):
        registry.open_split("sprites", "train+dev", data_dir=data_dir, config="tiny")
    joined = registry.open_split("sprites", "train+validation", data_dir=data_dir, config="tiny")
    names = {joined.clip_name(i) for i in range(len(joined))}
    assert len(joined) == len(names) == 16 and {"train_00011", "validation_00003"} < names
    with pytest.raises(InputError, match=r"data.config \('huge'\) of 'sprites' must be one of 64, tiny"):
        registry.open_split("sprites", "train", data_dir=data_dir, config="huge")
