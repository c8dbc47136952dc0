"""What a data set's metadata tell without reading a clip, their order, and damaged ones."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.data.datasets import building, clips, metadata, registry, sprites, synthesis
from vidpred_jax.types import InputError


def builder(folder, **fields):
    config = sprites.SpritesConfig(name="small", size=16, num_frames=3, **fields)
    return sprites.Sprites(data_dir=folder, config=config)


def test_entries_and_examples_have_the_order_of_generation(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_CLIPS", 5)
    made = builder(tmp_path, num_train=12, num_validation=5, num_test=1)
    registry.prepare(made)
    assert made.info.splits["train"].shard_lengths == [5, 5, 2]
    train, validation = (
        [f"{split}_{i:05d}" for i in range(n)] for split, n in (("train", 12), ("validation", 5))
    )
    for split, names in (
        ("train", train),
        ("train+validation", train + validation),
        ("validation+train", validation + train),
    ):
        source = clips.Source(made, split)
        assert source.names == names == [clips.name(example) for example in source]
        assert len(source) == len(source.num_frames) == len(source.sizes) == len(source.fps)
    assert clips.decode(source[-1]).fps == source.fps[-1] == 12.0


def test_memory_while_a_data_set_is_prepared_does_not_grow_with_it(tmp_path, monkeypatch):
    """A few clips are drawn ahead of the one that is written, and none is kept after it."""
    made = builder(tmp_path, num_train=40, num_validation=1, num_test=1, workers=2)
    drawn, examples, held = [], [], []
    clip = synthesis.sprite_clip
    monkeypatch.setattr(synthesis, "sprite_clip", lambda *args: drawn.append(0) or clip(*args))

    def counted(shard, made):
        for name, example in written(shard, made):
            examples.append(example)
            yield name, example
            held.append(len(drawn) - len(examples) + sum(map(bool, examples)))

    written = building.Shard.examples
    monkeypatch.setattr(building.Shard, "examples", counted)
    registry.prepare(made)
    assert len(held) == 42 and max(held) <= 6


def test_metadata(tmp_path):
    rule = fusion.EdgeRule((50.0, 60.0))
    made = builder(tmp_path, num_train=3, num_validation=1, num_test=1, edge_rule=rule)
    registry.prepare(made)
    source = clips.Source(made, "train")
    assert source.edge_rule == rule and source.sizes.tolist() == [[16, 16]] * 3
    found = [clips.decode(example) for x in made.info.splits for example in clips.Source(made, x)]
    assert source.num_labels == 1 + max(clip.labels.max() for clip in found)
    for clip in found:
        np.testing.assert_array_equal(clip.edges, rule.apply(clip.frames))
    assert (clip.edges != fusion.EdgeRule().apply(clip.frames)).any()


@pytest.fixture
def damaged(data_dir, tmp_path):
    """metadata.json of a data set, called `mine`, to be damaged."""
    shutil.copytree(data_dir / "sprites" / "tiny", tmp_path / "mine" / "tiny")
    return tmp_path / "mine" / "tiny" / "2.0.0" / "metadata.json"


def columns(found):
    return found["splits"]["test"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.clear(), "'num_labels'"),
        (lambda x: x.update(num_labels=257), r"num_labels \(257\) must be 1 to 256"),
        (lambda x: x.update(num_labels=4.0), r"num_labels \(4.0\) must be 1 to 256"),
        (lambda x: x.update(edge_rule={"canny": [1]}), "the edge rule .* must be"),
        (lambda x: x["splits"].pop("test"), "its splits are train, validation, not"),
        (lambda x: columns(x).pop("fps"), "split test holds .*, not name, num_frames"),
        (lambda x: columns(x)["name"].pop(), "columns of split test must be lists of 4"),
        (lambda x: columns(x).update(fps={}), "columns of split test must be lists of 4"),
        (lambda x: columns(x)["name"].__setitem__(1, "../x"), r"clip 1 of split test is \('../x', 48"),
        (lambda x: columns(x)["name"].__setitem__(1, 3), r"clip 1 of split test is \(3, 48"),
        (lambda x: columns(x)["num_frames"].__setitem__(0, 0), "clip 0 of split test is"),
        (lambda x: columns(x)["num_frames"].__setitem__(0, 2**31), "clip 0 of split test is"),
        (lambda x: columns(x)["height"].__setitem__(0, True), "clip 0 of split test is"),
        (lambda x: columns(x)["width"].__setitem__(0, 1 << 22), "clip 0 of split test is"),
        (lambda x: columns(x)["fps"].__setitem__(3, float("nan")), "clip 3 of split test is"),
        (lambda x: columns(x)["fps"].__setitem__(3, 1001), "clip 3 of split test is"),
    ],
)
def test_damaged_metadata_are_refused(change, message, damaged, tmp_path):
    found = json.loads(damaged.read_text())
    change(found)
    damaged.write_text(json.dumps(found))
    with pytest.raises(InputError, match=f"{re.escape(str(damaged))} is damaged: .*{message}"):
        registry.open_split("mine", "train", data_dir=tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "{}" + " " * 200_000])
def test_what_is_no_metadata_is_refused(text, damaged, tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "_MAX_BYTES", 150_000)
    damaged.write_text(text)
    with pytest.raises(InputError, match="metadata.json is damaged: "):
        registry.open_split("mine", "train", data_dir=tmp_path)


def test_a_clip_that_is_not_its_entry_is_refused(damaged, tmp_path):
    damaged.write_text(damaged.read_text().replace("train_00001", "train_x"))
    source = registry.open_split("mine", "train", data_dir=tmp_path)
    assert source.clip_name(1) == "train_x" and clips.name(source[0]) == "train_00000"
    with pytest.raises(InputError, match="is damaged: clip train_00001 48 .* is not train_x 48"):
        source[1]
    joined = registry.open_split("mine", "validation+train", data_dir=tmp_path)
    assert joined.clip_name(4) == "train_00000"
    with pytest.raises(InputError, match="sprites-train.array_record-.* is damaged: clip train_00001"):
        joined[5]


def test_a_data_set_of_the_first_version_is_refused(data_dir, tmp_path):
    shutil.copytree(data_dir / "sprites" / "tiny" / "2.0.0", tmp_path / "mine" / "tiny" / "1.0.0")
    with pytest.raises(InputError, match="'mine' is not in .* prepared are none; scripts/prepare.py makes"):
        registry.open_builder("mine", data_dir=tmp_path)
    shutil.copytree(data_dir / "sprites" / "tiny" / "2.0.0", tmp_path / "mine" / "a" / "2.0.0")
    assert registry.open_builder("mine", data_dir=tmp_path).is_prepared()


_OPEN = """
import pathlib, sys, time
from vidpred_jax.data.datasets import registry
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
(folder / name).touch()
while not all((folder / other).exists() for other in "ab"):
    time.sleep(0.001)
source = registry.open_split("sprites", "train", data_dir=folder / "data", config="tiny")
print(len(source), source[0]["num_frames"])
"""


def test_processes_that_start_together_make_one_data_set(tmp_path):
    """Each waits until the other has its imports behind it."""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, tmp_path, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in "ab"
    ]
    found = [(process.communicate()[0], process.returncode) for process in both]
    assert [code for _, code in found] == [0, 0], found
    assert all(out.endswith("12 48\n") for out, _ in found)
    assert sum("making data set sprites/tiny" in out for out, _ in found) == 1
    assert [x.name for x in (tmp_path / "data" / "sprites" / "tiny").iterdir()] == ["2.0.0"]
