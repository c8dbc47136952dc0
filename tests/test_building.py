"""Data sets are made by processes, in shards; who made them changes no byte."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from commands import run

from vidpred_jax.data import fusion, preparation, video_io, workers
from vidpred_jax.data.datasets import building, clips, registry
from vidpred_jax.types import Clip, InputError, UserError

NUMBER, FRAMES, SIZE = 10, 4, (32, 48)


@pytest.fixture
def folder(tmp_path):
    """Ten clips, the third and the eighth with a frame that cannot be read."""
    (tmp_path / "in").mkdir()
    for i in range(NUMBER):
        frames = np.random.default_rng(i).integers(0, 256, (FRAMES, 4, 6, 3)).astype(np.uint8)
        frames = np.stack([cv2.resize(frame, SIZE[::-1]) for frame in frames])
        if i not in (2, 7):
            video_io.write_video(tmp_path / "in" / f"c{i}.mp4", frames, 24.0)
            continue
        for t, frame in enumerate(frames):
            video_io.write_image(tmp_path / "in" / f"c{i}" / f"{t}.png", frame)
        (tmp_path / "in" / f"c{i}" / "2.png").write_bytes(b"")
    return tmp_path / "in"


def make(folder, to, **fields):
    fields = {"input": str(folder), "skip_bad": True, "workers": 1, **fields}
    registry.prepare(registry.video_folder("mine", folder.parent / to, **fields))
    return folder.parent / to


def records(data_dir):
    """{split: its records}, and the metadata."""
    (data,) = data_dir.glob("mine/default/*")
    assert os.listdir(data.parent) == ["2.0.0"]
    files = {
        split: sorted(data.glob(f"mine-{split}.array_record*")) for split in ("train", "validation", "test")
    }
    found = {
        split: [r for f in some for r in ArrayRecordReader(str(f)).read_all()]
        for split, some in files.items()
    }
    return found, json.loads((data / "metadata.json").read_text())


def test_processes_make_what_one_makes_and_bad_clips_are_named(folder, monkeypatch):
    monkeypatch.setattr(building, "_CLIPS", 3)
    told = []
    alone = records(make(folder, "alone"))
    assert records(make(folder, "two", workers=2, log=told.append)) == alone
    assert alone[1]["splits"]["train"]["name"] == ["c0", "c1", "c3", "c4", "c5", "c6"]
    assert [len(split) for split in alone[0].values()] == [6, 1, 1]
    left_out = [line.split(" cannot")[0] for line in told if "left out" in line]  # Beside those of progress.
    assert left_out == [f"left out: {folder}/c{i}/2.png" for i in (2, 7)]
    for split in ("train", "validation", "test"):
        source = registry.open_split("mine", split, data_dir=folder.parent / "two")
        assert [clips.name(example) for example in source] == alone[1]["splits"][split]["name"]
    with pytest.raises(InputError, match="c2/2.png"):
        make(folder, "refused", skip_bad=False, workers=2)


def test_a_refusal_is_one_line_and_leaves_no_half(folder, tmp_path):
    flags = (f"--input={folder}", f"--data_dir={tmp_path / 'data'}", "--workers=2", "--num_test=3")
    done = run("scripts/prepare.py", *flags, TF_CPP_MIN_LOG_LEVEL="3")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"error: {folder}/c2/2.png cannot be opened as an image")
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_a_shard_without_a_readable_clip(folder, monkeypatch):
    monkeypatch.setattr(building, "_CLIPS", 1)
    data_dir = make(folder, "data")
    source = registry.open_split("mine", "train", data_dir=data_dir)
    assert [clips.name(example) for example in source] == ["c0", "c1", "c3", "c4", "c5", "c6"]
    for video in folder.glob("*.mp4"):
        video.unlink()
        shutil.copytree(folder / "c2", video.with_suffix(""))
    with pytest.raises(InputError, match="all 8 clips of split train cannot be read"):
        make(folder, "none")
    assert not (folder.parent / "none/mine/default/2.0.0").exists()


KILLED = """
import sys
from vidpred_jax.data.datasets import building, registry

if __name__ == "__main__":
    building._CLIPS = 2
    fields = dict(input=sys.argv[1], skip_bad=True, workers=2)
    registry.prepare(registry.video_folder("mine", sys.argv[2], **fields))
"""


def test_killed_in_the_middle_and_run_again(folder, tmp_path, monkeypatch):
    """What was finished is not made again, unless its files have changed; no process is left."""
    monkeypatch.setattr(building, "_CLIPS", 2)
    whole = records(make(folder, "whole"))
    (tmp_path / "killed.py").write_text(KILLED)
    running = subprocess.Popen([sys.executable, tmp_path / "killed.py", folder, tmp_path / "data"])
    parts = tmp_path / "data/mine/default/parts"
    deadline = time.monotonic() + 60
    while not list(parts.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    finished = {path.name for path in parts.glob("*.json")}
    assert finished
    made, told, in_order = [], [], workers.in_order

    def watched(pool, function, tasks, ahead):
        made.extend(maker.args[0] for *_, maker in tasks)
        return in_order(pool, function, tasks, ahead)

    monkeypatch.setattr(workers, "in_order", watched)
    os.utime(folder / "c0.mp4", (1, 1))
    assert records(make(folder, "data", log=told.append)) == whole
    assert "c0" in made and len(made) <= NUMBER - 2 * (len(finished) - 1)
    assert len(finished) == 1 or any("shards were finished before" in line for line in told)


def test_a_process_that_is_ended_from_outside(folder, monkeypatch):
    monkeypatch.setattr(workers, "_begin", os.abort)
    with pytest.raises(
        UserError, match="a worker process has ended, as where memory is short; .* with fewer --workers"
    ):
        make(folder, "data", workers=2)


def test_clips_are_stored_smaller(tmp_path):
    rng = np.random.default_rng(0)
    frames, labels = rng.integers(0, 256, (3, 40, 61, 3)), rng.integers(0, 3, (3, 40, 61))
    clip = preparation.prepare_clip("a", frames.astype(np.uint8), labels=labels.astype(np.uint8))
    small = preparation.reduced(clip, 20)
    assert small.frames.shape == (3, 20, 30, 3)
    for i in range(3):
        edges = cv2.resize(fusion.EdgeRule().apply(clip.frames)[i], (30, 20), interpolation=cv2.INTER_AREA)
        assert abs(small.edges[i] / 255 - edges / 255).max() < 0.17 and set(np.unique(small.edges)) <= {
            0,
            85,
            170,
            255,
        }
    assert set(np.unique(small.labels)) == {0, 1, 2}
    assert preparation.reduced(clip, 40) is clip
    encoding = building.Encoding(lossless=False, jpeg_quality=50, storage_size=20)
    rough, fine = encoding(clip), building.Encoding(lossless=True, jpeg_quality=50, storage_size=20)(clip)
    assert rough["height"] == 20 and sum(map(len, rough["frames"])) < sum(map(len, fine["frames"])) / 2
    np.testing.assert_array_equal(clips.decode(fine).frames, small.frames)
    kept = Clip("a", clip.frames, clip.labels, clip.edges, encoded=[b"x"] * 3)
    assert (
        preparation.reduced(kept, 20).encoded is None and preparation.reduced(kept, 99).encoded == [b"x"] * 3
    )


def test_splits_by_share_and_by_lists(folder, tmp_path):
    def splits(**fields):
        found = registry.video_folder("mine", tmp_path / "data", input=str(folder), skip_bad=True, **fields)
        return {split: list(members) for split, members in found._clips().items()}

    found = splits(num_validation="20%", num_test="5%")
    assert found["validation"] == ["c7", "c8"] and found["test"] == ["c9"] and len(found["train"]) == 7
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "validation.txt").write_text("c3\n")
    with pytest.raises(InputError, match="--splits: .*test.txt does not exist"):
        splits(splits=str(lists))
    (folder / "c1.mp4").write_bytes(b"")  # Left out, as everywhere.
    (lists / "test.txt").write_text("c5\nc1\n\n")
    found = splits(splits=str(lists))
    assert found["validation"] == ["c3"] and found["test"] == ["c5"] and len(found["train"]) == 7
    for text, message in (("c3", "is in both lists"), ("c77", "which is no clip")):
        (lists / "test.txt").write_text(text)
        with pytest.raises(InputError, match=message):
            splits(splits=str(lists))
    with pytest.raises(
        InputError, match=r"num_test \(few\) must be a number of clips, or a share such as 5%"
    ):
        splits(num_test="few")
    (lists / "validation.txt").write_text("\n".join(f"c{i}" for i in range(9)))
    (lists / "test.txt").write_text("c9")
    with pytest.raises(InputError, match="leaves no clip for training"):
        splits(splits=str(lists))
