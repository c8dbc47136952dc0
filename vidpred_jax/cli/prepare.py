"""Builds a data set from a folder of clips, DAVIS's layout, a TFDS catalogue set or MNIST's digits.

python scripts/prepare.py --input=FOLDER [--masks=FOLDER] --name=mine
python -m vidpred_jax.train --config=configs/fusion.py --config.data.name=mine
"""

import pathlib
import time

from absl import flags

from vidpred_jax import stores
from vidpred_jax.data import fusion, segmentation, writing
from vidpred_jax.data.datasets import catalogue, metadata, moving_digits, registry
from vidpred_jax.types import MIN_SIDE, InputError

_INPUT = flags.DEFINE_string("input", None, "Folder of videos or of folders of frames.")
_MASKS = flags.DEFINE_string("masks", "", "Folder with a sub-folder of mask images for each clip.")
_SEGMENTATION = flags.DEFINE_string(
    "segmentation", "motion", f"Labels where there are no masks: {', '.join(segmentation.METHODS)}."
)
_NAME = flags.DEFINE_string("name", None, "Name of the new data set; default mine, or moving_mnist.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of data sets to write to.")
_MOVING_MNIST = flags.DEFINE_bool("moving_mnist", False, "Moving MNIST, instead of --input.")
_IDX = flags.DEFINE_string("idx", "", "MNIST images file that --moving_mnist draws from.")
_TEST_SEQUENCES = flags.DEFINE_string(
    "test", "", "The field's test sequences (mnist_test_seq.npy) for --moving_mnist; default: 500 drawn."
)
_VALIDATION = flags.DEFINE_string("num_validation", "1", "Clips held out to choose on: a number, or N%.")
_TEST = flags.DEFINE_string("num_test", "1", "Clips held out to test on: a number, or N%.")
_SPLITS = flags.DEFINE_string(
    "splits", "", "Instead, a folder with validation.txt and test.txt, a clip's name a line."
)
_MAX_FRAMES = flags.DEFINE_integer("max_frames", 2000, "Longest clip accepted.", 1)
_EDGE_DENSITY = flags.DEFINE_float("edge_density", 0.045, "Share of each frame that are edges, its steepest.")
_CANNY = flags.DEFINE_list(
    "canny",
    None,
    "Instead, fixed thresholds LOW,HIGH; the paper's (inferred), and of --moving_mnist: 300,350.",
)
_LOSSLESS = flags.DEFINE_bool("lossless", False, "Store the frames of video files as PNG instead of JPEG.")
_JPEG_QUALITY = flags.DEFINE_integer("jpeg_quality", 95, "Of stored frames.", 1, 100)
_STORAGE_SIZE = flags.DEFINE_integer(
    "storage_size",
    0,
    "Shorter side to which larger clips are reduced, edges and labels after they are found.",
    0,
)
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes that read clips; 0: one a core.", 0)
_RUNNER = flags.DEFINE_string(
    "runner",
    None,
    "Of Apache Beam (extra beam), instead of these: DirectRunner, FlinkRunner, SparkRunner, ...",
)
_BEAM_OPTIONS = flags.DEFINE_list(
    "beam_options",
    [],
    "Its options, NAME=VALUE, such as direct_num_workers=8,direct_running_mode=multi_processing.",
)
_SKIP_BAD = flags.DEFINE_bool("skip_bad", False, "Leave out clips that cannot be read, and go on.")
_CATALOGUE = flags.DEFINE_enum(
    "catalogue", None, list(catalogue.ADAPTERS), "A set that TFDS has prepared, instead of --input."
)
_CATALOGUE_DIR = flags.DEFINE_string("catalogue_dir", None, "TFDS's data_dir; its default.")


def main(_):
    if sum(map(bool, (_INPUT.value, _CATALOGUE.value, _MOVING_MNIST.value))) != 1:
        raise InputError("give one of --input=FOLDER, --catalogue=NAME and --moving_mnist")
    if _MOVING_MNIST.value != bool(_IDX.value) or (_TEST_SEQUENCES.value and not _IDX.value):
        raise InputError("--moving_mnist and --idx=FILE need each other; --test=FILE needs both")
    name = _NAME.value or (moving_digits.NAME if _MOVING_MNIST.value else "mine")
    registry.check_name(name)
    if not stores.is_address(_DATA_DIR.value):
        return _make(name, pathlib.Path(_DATA_DIR.value))
    with stores.mirrored(f"{_DATA_DIR.value}/{name}") as folder:
        _make(name, folder.parent)
    print(f"copied to {_DATA_DIR.value}/{name}")


def _make(name, data_dir):
    writing.check_writable(data_dir)
    edge_rule = _edge_rule()
    if _RUNNER.value and not _INPUT.value:
        raise InputError("--runner goes with --input: other sets are made by this machine")
    for flag in (_STORAGE_SIZE, _JPEG_QUALITY, _LOSSLESS, _SKIP_BAD, _SPLITS) if _MOVING_MNIST.value else ():
        if flag.value != flag.default:
            raise InputError(f"--{flag.name} is not for --moving_mnist")
    options = dict(_option(text) for text in _BEAM_OPTIONS.value)
    if _STORAGE_SIZE.value and _STORAGE_SIZE.value < MIN_SIDE:
        raise InputError(f"--storage_size={_STORAGE_SIZE.value} must be {MIN_SIDE} or more, or 0")
    shared = {"segmentation": _SEGMENTATION.value, "edge_rule": edge_rule, "lossless": _LOSSLESS.value}
    shared |= {"jpeg_quality": _JPEG_QUALITY.value, "storage_size": _STORAGE_SIZE.value}
    shared |= {"workers": _WORKERS.value, "skip_bad": _SKIP_BAD.value}
    shared["log"] = lambda line: print(line, flush=True)
    if _CATALOGUE.value:
        builder = catalogue.builder(
            name, data_dir, set_name=_CATALOGUE.value, set_dir=_CATALOGUE_DIR.value or "", **shared
        )
    elif _MOVING_MNIST.value:
        files = {"idx": _IDX.value, "test": _TEST_SEQUENCES.value}
        config = moving_digits.MovingDigitsConfig(name="default", edge_rule=edge_rule, **files)
        builder = registry.make_builder(moving_digits.MovingDigits, name, config, data_dir)
    else:
        builder = registry.video_folder(
            name,
            data_dir,
            input=_INPUT.value,
            masks=_MASKS.value,
            num_validation=_VALIDATION.value,
            num_test=_TEST.value,
            splits=_SPLITS.value,
            max_frames=_MAX_FRAMES.value,
            **shared,
        )
    if builder.is_prepared():
        raise InputError(f"data set {name!r} is already in {data_dir}; choose another --name")
    start = time.time()
    registry.prepare(builder, _RUNNER.value, options)
    found = metadata.read(builder)
    for split, columns in found.splits.items():
        drawn = f"clips are drawn from {columns['num_frames'][0]} digits"
        print(f"{split}: {drawn if split in found.drawn else str(len(columns['name'])) + ' clips'}")
    print(f"wrote {builder.data_path} in {time.time() - start:.0f} s")
    print(f"train on it by --config.data.name={name}")


def _option(text):
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InputError(f"--beam_options: {text!r} must be NAME=VALUE")
    return name, value


def _edge_rule() -> fusion.EdgeRule:
    if _CANNY.value is None:
        density = 0.0 if _MOVING_MNIST.value else _EDGE_DENSITY.value
        return fusion.EdgeRule(density=density)
    try:
        low, high = map(float, _CANNY.value)
    except ValueError as error:
        raise InputError(f"--canny={','.join(_CANNY.value)} must be two numbers: LOW,HIGH") from error
    return fusion.EdgeRule((low, high))
