"""Moving MNIST and `moving_digits`: the field's rule, splits apart, drawn training clips, files refused."""

import gzip
import json
import re
import shutil

import numpy as np
import pytest

from vidpred_jax.config import Augmentation
from vidpred_jax.data import fusion, pipeline
from vidpred_jax.data.datasets import clips, moving_digits, registry, synthesis
from vidpred_jax.types import InputError


def write_idx(path, images):
    header = np.array([0x803, *images.shape], ">i4").tobytes()
    path.write_bytes(gzip.compress(header + images.tobytes()))
    return str(path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A set of 40 flat digits whose value tells their number."""
    folder = tmp_path_factory.mktemp("mnist")
    images = np.arange(100, 140, dtype=np.uint8).repeat(28 * 28).reshape(40, 28, 28)
    config = moving_digits.MovingDigitsConfig(
        name="default", idx=write_idx(folder / "idx.gz", images), num_validation=3, num_test=3
    )
    registry.prepare(registry.make_builder(moving_digits.MovingDigits, "moving_mnist", config, folder))
    return folder


def test_rule_by_vectors():
    """The rule on both coordinates at once; digits of one pixel in a field of 11."""
    rng = np.random.default_rng(5)
    found = synthesis.moving_digits(rng, np.full((1, 1, 1), 9, np.uint8), 40, 11)
    rng, expected = np.random.default_rng(5), np.zeros((40, 11, 11), np.uint8)
    for _ in range(2):
        rng.integers(1)
        place, angle = rng.random(2), rng.uniform(0, 2 * np.pi)
        step = 0.1 * np.array([np.sin(angle), np.cos(angle)])
        for t in range(40):
            place = place + step
            step = np.where((place <= 0) | (place >= 1), -step, step)
            place = np.clip(place, 0, 1)
            expected[t, *(place * 10).astype(int)] = 9
    np.testing.assert_array_equal(found, expected)
    assert found[:, 0].any() and found[:, 10].any()  # At a wall it stands on it.


def test_overlap_shows_the_brighter_and_ink_is_one_label():
    digits = np.stack([np.full((8, 8), 60, np.uint8), np.full((8, 8), 200, np.uint8)])
    clip = synthesis.moving_digits(np.random.default_rng(1), digits, 60, 12)
    assert set(np.unique(clip)) == {0, 60, 200}
    assert (clip == 200).sum((1, 2)).min() == 64  # Never hidden.
    np.testing.assert_array_equal(synthesis.ink(clip), clip == 200)


def test_splits_show_other_digits(prepared):
    shown = {}
    for split in ("validation", "test"):
        source = registry.open_split("moving_mnist", split, data_dir=prepared)
        assert len(source) == 3 and source.num_labels == 2
        assert set(source.num_frames) == {20} and source.sizes.tolist() == [[64, 64]] * 3
        shown[split] = set(np.unique([clips.decode(x).frames for x in source])) - {0}
    source = registry.open_split("moving_mnist", "train", data_dir=prepared, drawn=True)
    draws = [source.draw([0, i], 20, ["frames"])["frames"] for i in range(60)]
    shown["train"] = set(np.unique(draws)) - {0}
    assert shown["train"] <= set(range(100, 134)) and len(shown["train"]) > 25
    assert shown["validation"] <= {134, 135} and shown["test"] <= {136, 137, 138, 139}


def test_training_clips_are_a_function_of_seed_and_number(prepared):
    source = registry.open_split("moving_mnist", "train", data_dir=prepared, drawn=True)
    options = dict(num_frames=12, height=64, width=64, fields=("frames", "planes"))

    def batches(count, size=4, **more):
        found = pipeline.train_batches(source, batch_size=size, **options, **more)
        return found, [next(found) for _ in range(count)]

    whole, first = batches(4, seed=3)
    for batch in first:
        for i, number in enumerate(batch["index"]):
            drawn = source.draw([3, int(number)], 12, ("frames", "labels", "edges"))
            np.testing.assert_array_equal(batch["frames"][i], drawn["frames"])
            planes = fusion.stack_planes(drawn["edges"], drawn["labels"])
            np.testing.assert_array_equal(batch["planes"][i], planes)
            assert batch["planes"][i, ..., 0].any()
    numbers = np.concatenate([batch["index"] for batch in first])
    assert len(set(numbers.tolist())) == 16 and first[0]["length"].tolist() == [12] * 4
    _, other = batches(1, seed=4)
    assert (other[0]["frames"] != first[0]["frames"]).any()
    # Two processes see what one sees; a position is taken up again.
    shares = [batches(2, seed=3, process_index=i, process_count=2)[1] for i in range(2)]
    for i, batch in enumerate(first):
        np.testing.assert_array_equal(shares[i % 2][i // 2]["frames"], batch["frames"])
    state, expected = whole.get_state(), next(whole)
    again, _ = batches(0, seed=3)
    pipeline.set_position(again, state)
    np.testing.assert_array_equal(next(again)["frames"], expected["frames"])


def test_speeds_of_drawn_clips(prepared):
    """A faster window is every second frame of a longer clip."""
    source = registry.open_split("moving_mnist", "train", data_dir=prepared, drawn=True)
    fast = Augmentation(speeds=(2,))
    options = dict(batch_size=2, num_frames=6, height=64, width=64, seed=0, fields=("frames",))
    batch = next(pipeline.train_batches(source, augmentation=fast, **options))
    drawn = source.draw([0, int(batch["index"][0])], 11, ["frames"])["frames"]
    np.testing.assert_array_equal(batch["frames"][0], drawn[::2])


def test_training_split_holds_no_clips(prepared):
    for split in ("train", "train+test"):
        with pytest.raises(InputError, match=f"split '{re.escape(split)}' of .*: train holds no clips"):
            registry.open_split("moving_mnist", split, data_dir=prepared)


def test_missing_set_names_its_command(tmp_path):
    with pytest.raises(InputError, match="is made by: python scripts/prepare.py --moving_mnist"):
        registry.open_split("moving_mnist", "test", data_dir=tmp_path)


def test_embedded_digits(tmp_path):
    source = registry.open_split("moving_digits", "test", data_dir=tmp_path, config="tiny", log=str)
    clip = clips.decode(source[0])
    assert clip.frames.shape == (48, 64, 64, 3) and set(np.unique(clip.labels)) == {0, 1}
    assert (clip.frames[0] != clip.frames[5]).any()


def test_official_test_sequences(tmp_path):
    many = np.random.default_rng(0).integers(0, 256, (20, 3, 64, 64)).astype(np.uint8)
    np.save(tmp_path / "seq.npy", many)
    images = np.full((40, 28, 28), 200, np.uint8)
    config = moving_digits.MovingDigitsConfig(
        name="default",
        idx=write_idx(tmp_path / "idx.gz", images),
        test=str(tmp_path / "seq.npy"),
        num_validation=2,
    )
    registry.prepare(registry.make_builder(moving_digits.MovingDigits, "mine", config, tmp_path))
    source = registry.open_split("mine", "test", data_dir=tmp_path)
    assert len(source) == 3
    np.testing.assert_array_equal(clips.decode(source[1]).frames[..., 2], many[:, 1])


@pytest.mark.parametrize("shape", [(19, 28, 28), (40, 28, 20), (40, 64, 64)])
def test_digits_that_cannot_be_drawn_from(tmp_path, shape):
    """Too few for three splits, not square, or as large as the field: refused, nothing is left behind."""
    idx = write_idx(tmp_path / "idx.gz", np.zeros(shape, np.uint8))
    config = moving_digits.MovingDigitsConfig(name="default", idx=idx)
    made = registry.make_builder(moving_digits.MovingDigits, "mine", config, tmp_path)
    number, height, width = shape
    message = f"holds {number} pictures of {height} x {width}; 20 or more squares, smaller than 64"
    with pytest.raises(InputError, match=message):
        registry.prepare(made)
    assert not list((tmp_path / "mine").rglob("dataset_info.json"))


@pytest.mark.parametrize("side", [28, 29, "64", True])
def test_damaged_metadata_of_drawn_splits(prepared, tmp_path, side):
    """The digits are 28 x 28: a field of 29 takes them, one of 28 does not."""
    shutil.copytree(prepared / "moving_mnist", tmp_path / "moving_mnist")
    (file,) = (tmp_path / "moving_mnist").glob("*/*/metadata.json")
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, "drawn": {"train": side}}))
    read = lambda: registry.open_split("moving_mnist", "train", data_dir=tmp_path, drawn=True)
    if side == 29:
        assert read().draw([0], 3, ["frames"])["frames"].shape == (3, 29, 29, 3)
        return
    with pytest.raises(InputError, match="metadata.json is damaged: drawn split train of side"):
        read()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((20, 2, 64, 64)), r"hold float64 \(20, 2, 64, 64\); uint8"),
        (np.zeros((10, 2, 64, 64), np.uint8), r"uint8 \(10, 2, 64, 64\); uint8 \(20, n, 64, 64\)"),
        (np.zeros((20, 0, 64, 64), np.uint8), "is needed"),
        (np.array([{}]), "cannot be read: Array can't be memory-mapped"),
    ],
)
def test_bad_sequences(tmp_path, array, message):
    np.save(tmp_path / "seq.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        moving_digits.read_sequences(str(tmp_path / "seq.npy"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin as an idx3-ubyte"),
        (b"\0\3M", "does not begin as an idx3-ubyte"),
        (np.array([0x803, 2**31 - 1, 2**31 - 1, 2**31 - 1], ">i4").tobytes(), "declares shape"),
        (np.array([0x803, 2, 3, 3], ">i4").tobytes() + b"12345", "is truncated: 5 of 18 bytes"),
        (np.array([0x803, 2**30, 99, 99], ">i4").tobytes(), "declares shape"),
    ],
)
def test_bad_idx(tmp_path, data, message):
    (tmp_path / "idx").write_bytes(data)
    with pytest.raises(InputError, match=message):
        moving_digits.read_idx(str(tmp_path / "idx"))
    packed = bytearray(gzip.compress(bytes(999)))
    packed[12] ^= 255
    (tmp_path / "idx.gz").write_bytes(packed)
    with pytest.raises(InputError, match="cannot be read"):
        moving_digits.read_idx(str(tmp_path / "idx.gz"))
    with pytest.raises(InputError, match="does not exist"):
        moving_digits.read_idx(str(tmp_path / "none"))
