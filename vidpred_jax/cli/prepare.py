"""Builds a data set from a folder of clips, DAVIS's layout, a TFDS catalogue set or MNIST digits.

python scripts/prepare.py --input=FOLDER [--masks=FOLDER] --name=mine
python -m vidpred_jax.train --config=configs/fusion.py --config.data.name=mine
"""

import pathlib
import time

from absl import flags

from vidpred_jax.data import fusion, segmentation, video_io
from vidpred_jax.data.datasets import catalogue, digits, registry
from vidpred_jax.types import InputError

_INPUT = flags.DEFINE_string("input", None, "Folder of videos or of folders of frames.")
_MASKS = flags.DEFINE_string("masks", "", "Folder with a sub-folder of mask images for each clip.")
_SEGMENTATION = flags.DEFINE_string(
    "segmentation", "motion", f"Labels where there are no masks: {', '.join(segmentation.METHODS)}."
)
_NAME = flags.DEFINE_string("name", "mine", "Name of the new data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of data sets to write to.")
_IDX = flags.DEFINE_string("idx", None, "MNIST images file: moving digits, instead of --input.")
_VALIDATION = flags.DEFINE_integer("num_validation", 1, "Clips held out to choose on.", 0)
_TEST = flags.DEFINE_integer("num_test", 1, "Clips held out to test on.", 0)
_MAX_FRAMES = flags.DEFINE_integer("max_frames", 2000, "Longest clip accepted.", 1)
_CANNY = flags.DEFINE_list("canny", ["300", "350"], "Thresholds of the edges: LOW,HIGH.")
_LOSSLESS = flags.DEFINE_bool(
    "lossless", False, "Store the frames of video files as PNG; default JPEG of quality 95."
)
_CATALOGUE = flags.DEFINE_enum(
    "catalogue", None, list(catalogue.ADAPTERS), "A set that TFDS has prepared, instead of --input."
)
_CATALOGUE_DIR = flags.DEFINE_string("catalogue_dir", None, "TFDS's data_dir; its default.")


def main(_):
    if sum(flag.value is not None for flag in (_INPUT, _CATALOGUE, _IDX)) != 1:
        raise InputError("give one of --input=FOLDER, --catalogue=NAME and --idx=FILE")
    data_dir = pathlib.Path(_DATA_DIR.value)
    video_io.check_writable(data_dir)
    edge_rule = _edge_rule()
    shared = {
        "segmentation": _SEGMENTATION.value,
        "edge_rule": edge_rule,
        "lossless": _LOSSLESS.value,
    }
    if _CATALOGUE.value:
        builder = catalogue.builder(
            _NAME.value,
            data_dir,
            set_name=_CATALOGUE.value,
            set_dir=_CATALOGUE_DIR.value or "",
            **shared,
        )
    elif _IDX.value:
        config = digits.DigitsConfig(name="default", idx=_IDX.value, edge_rule=edge_rule)
        builder = registry.make_builder(digits.Digits, _NAME.value, config, data_dir)
    else:
        builder = registry.video_folder(
            _NAME.value,
            data_dir,
            input=_INPUT.value,
            masks=_MASKS.value,
            num_validation=_VALIDATION.value,
            num_test=_TEST.value,
            max_frames=_MAX_FRAMES.value,
            log=lambda line: print(line, flush=True),
            **shared,
        )
    if builder.is_prepared():
        raise InputError(
            f"data set {_NAME.value!r} is already in {data_dir}; choose another --name"
        )
    start = time.time()
    registry.prepare(builder)
    for split, info in builder.info.splits.items():
        print(f"{split}: {info.num_examples} clips")
    print(f"wrote {builder.data_path} in {time.time() - start:.0f} s")
    print(f"train on it by --config.data.name={_NAME.value}")


def _edge_rule() -> fusion.EdgeRule:
    try:
        low, high = map(float, _CANNY.value)
    except ValueError as error:
        raise InputError(
            f"--canny={','.join(_CANNY.value)} must be two numbers: LOW,HIGH"
        ) from error
    return fusion.EdgeRule((low, high))
