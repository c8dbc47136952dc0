"""Coverage-guided fuzzing of the readers that are our own: whatever they are given, InputError or a result.

pip install -e '.[fuzz]'; python tests/fuzz_readers.py -runs=200000 [-max_total_time=600] CORPUS_FOLDER
"""

import contextlib
import json
import pathlib
import sys
import tempfile
import warnings

import atheris
import numpy as np

with atheris.instrument_imports(include=["vidpred_jax"]):
    from vidpred_jax.checkpoints import runs
    from vidpred_jax.config import parse
    from vidpred_jax.data import masks, video_io
    from vidpred_jax.data.datasets import folders, moving_digits, registry
    from vidpred_jax.evaluation import external
    from vidpred_jax.inference import networks
    from vidpred_jax.models import schedules
    from vidpred_jax.models.accompanying import AccompanyingStack
    from vidpred_jax.types import InputError, Limits

FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="vidpred_jax_fuzz_"))
STACK = AccompanyingStack((2, 1), (8, 8))


def _file(name, data):
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def idx(data):
    moving_digits.read_idx(str(_file("digits.idx", data)))


def idx_gz(data):
    moving_digits.read_idx(str(_file("digits.gz", data)))


def npz(data):
    _file("npz/clip.npz", data)
    folder = external.Folder(FOLDER / "npz", [("clip", 0)], 2, 4, 4)
    folder([{"clip": "clip", "start": 0, "frames": np.zeros((4, 4, 4, 3), np.uint8)}])


def mask(data):
    _file("masks/0.png", data)
    masks.read_masks(FOLDER / "masks", 1, (4, 4))


def image(data):
    _file("frames/0.png", data)
    video_io.read(FOLDER / "frames", limits=Limits(max_pixels=4096))


def image_sets(data):
    (FOLDER / "davis" / "JPEGImages/480p" / "a").mkdir(parents=True, exist_ok=True)
    _file("davis/ImageSets/train.txt", data)
    _file("davis/ImageSets/val.txt", b"a\n")
    for split in folders.davis_splits(FOLDER / "davis").values():
        for frames, _ in split.values():
            assert frames.resolve().is_relative_to(FOLDER), frames


def config(data):
    networks.make(parse(_json(data)), size=(32, 32))


def schedule(data):
    schedules.check_schedule(_json(data), STACK, "run")


def run_folder(data):
    _file("runs/a/config.json", data)
    runs.newest("fusion", FOLDER / "runs")


def prepared(data):
    for name in ("dataset_info.json", "features.json", "metadata.json"):
        _file(f"data/mine/default/2.0.0/{name}", data)
    registry.open_builder("mine", data_dir=FOLDER / "data")


def names(data):
    with contextlib.suppress(UnicodeDecodeError):
        registry.open_builder(data.decode(), data_dir=FOLDER / "none", config=data[::-1].decode())


def _json(data):
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise InputError("not JSON") from None


READERS = (idx, idx_gz, npz, mask, image, image_sets, config, schedule, run_folder, prepared, names)


def one_input(data):
    if data:
        with contextlib.suppress(InputError):
            READERS[data[0] % len(READERS)](data[1:])


def main():
    warnings.simplefilter("ignore")
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
