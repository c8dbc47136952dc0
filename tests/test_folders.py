"""Folders of videos and DAVIS's layout as data sets."""

import sys

import numpy as np
import pytest
from commands import run_many
from PIL import Image

from vidpred_jax.data import fusion, segmentation, video_io
from vidpred_jax.data.datasets import clips, folders, registry
from vidpred_jax.types import InputError


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


def test_labels_by_motion_leave_room_for_those_of_other_videos(tmp_path):
    """Nothing moves here; a network trained on it must take a video in which three objects do."""
    still = np.full((20, 32, 32, 3), 90, np.uint8)
    for i in range(3):
        video_io.write_video(tmp_path / "in" / f"{i}.avi", still)
    registry.prepare(registry.video_folder("still", tmp_path / "data", input=str(tmp_path / "in")))
    source = registry.open_split("still", "train", data_dir=tmp_path / "data")
    assert source.num_labels == segmentation.MOTION_LABELS == 4
    assert not clips.decode(source[0]).labels.any()


def test_video_folder_with_masks(tmp_path, video_folder, clip):
    root, masks = video_folder
    (root / "c.avi").unlink()
    fields = dict(input=str(root), masks=str(masks), num_validation=0)
    registry.prepare(registry.video_folder("masked", tmp_path / "data", **fields))
    found = clips.decode(registry.open_split("masked", "train", data_dir=tmp_path / "data")[0])
    np.testing.assert_array_equal(found.labels, clip.labels[:20])
    np.testing.assert_array_equal(found.edges, clip.edges[:20])
    np.testing.assert_array_equal(found.frames, clip.frames[:20])


def test_video_folder_refusals(tmp_path, video_folder):
    root, masks = video_folder

    def build(**fields):
        registry.video_folder("bad", tmp_path, **{"input": str(root), **fields})._clips()

    with pytest.raises(InputError, match="input folder 'nowhere' does not exist"):
        build(input="nowhere")
    with pytest.raises(InputError, match=r"input folder '.*c.avi' is a file, not a folder of clips"):
        build(input=str(root / "c.avi"))
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
        (root / "Annotations/480p" / name).mkdir(parents=True)
        for t in range(4):
            video_io.write_image(root / "JPEGImages/480p" / name / f"{t:05d}.jpg", clip.frames[t])
            mask = Image.fromarray(clip.labels[t], "P")
            mask.putpalette(fusion.PALETTE.tobytes())
            mask.save(root / "Annotations/480p" / name / f"{t:05d}.png")
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
        # JPEG frames keep their bytes: encoding again would change them.
        np.testing.assert_array_equal(found.frames, video_io.read(root / "JPEGImages/480p" / name))


def test_davis_list_cannot_leave_its_folder(tmp_path, clip):
    root = davis_miniature(tmp_path / "davis", clip)
    for name in (b"\xdb\n", b"a" * 300, b"..\n"):
        (root / "ImageSets" / "val.txt").write_bytes(name)
        with pytest.raises(InputError, match="of .*/ImageSets has no folder"):
            folders.davis_splits(root)
    (root / "ImageSets" / "val.txt").write_text("../../secrets\n")
    with pytest.raises(InputError, match=r"clip '../../secrets' of .* has no folder"):
        folders.davis_splits(root)
    (root / "ImageSets" / "val.txt").unlink()
    with pytest.raises(InputError, match=r"ImageSets/val.txt does not exist"):
        folders.davis_splits(root)


def test_a_data_set_of_a_stranger_imports_nothing_and_stays_in_its_folder(tmp_path, video_folder):
    registry.prepare(registry.video_folder("mine", tmp_path / "data", input=str(video_folder[0])))
    features = tmp_path / "data" / "mine" / "default" / "2.0.0" / "features.json"
    sound = features.read_text()
    features.write_text(sound.replace("tensorflow_datasets.core.features.text_feature.Text", "this.Text"))
    with pytest.raises(InputError, match="damaged or of another program: features.json is not"):
        registry.open_builder("mine", data_dir=tmp_path / "data")
    assert "this" not in sys.modules
    features.write_text(sound)
    assert len(registry.open_split("mine", "train", data_dir=tmp_path / "data")) == 1
    for name, config in (("../data/mine", ""), ("mine", "../mine/default"), ("", "mine")):
        with pytest.raises(InputError, match="data set .* is not in"):
            registry.open_builder(name, data_dir=tmp_path / "data", config=config)


def test_prepare_with_an_edge_rule_and_lossless(tmp_path, video_folder, clip):
    root, _ = video_folder
    prepare = ("scripts/prepare.py", f"--input={root}", f"--data_dir={tmp_path / 'data'}")
    held = ("--num_validation=0", "--num_test=1")
    done = run_many(
        tmp_path,
        [
            (*prepare, *held, "--name=fine", "--canny=50,100.5", "--lossless"),
            (*prepare, *held, "--name=lossy"),
            (*prepare, "--canny=350,300"),
            (*prepare, "--canny=350"),
            (*prepare, "--edge_density=1.5"),
        ],
    )
    assert [x.returncode for x in done] == [0, 0, 2, 2, 2], done
    assert "canny (350.0, 300.0) must be LOW, HIGH: 0 <= LOW <= HIGH" in done[2].stderr
    assert "--canny=350 must be two numbers: LOW,HIGH" in done[3].stderr
    assert "density of edges (1.5) must be 0 to 1" in done[4].stderr
    sources = {
        (name, split): registry.open_split(name, split, data_dir=tmp_path / "data")
        for name in ("fine", "lossy")
        for split in ("train", "test")
    }
    truth = video_io.read(root / "c.avi")
    for (name, split), source in sources.items():
        rule = fusion.EdgeRule((50.0, 100.5)) if name == "fine" else fusion.EdgeRule(density=0.045)
        assert source.edge_rule == rule
        assert source.fps.tolist() == ([12.0] if split == "test" else [24.0, 24.0])
        found = clips.decode(source[0])
        expected = truth if split == "test" else clip.frames[:20]
        np.testing.assert_array_equal(found.edges, rule.apply(expected))
        # Frames of a folder keep their bytes; those of a video file do if lossless.
        assert (found.frames == expected).all() == (name == "fine" or split == "train")
        assert found.fps == source.fps[0]
    assert np.abs(found.frames.astype(int) - expected).mean() < 5
