"""Names of data sets -> prepared data on disk: `data_dir/name/config/version`, TFDS's layout."""

import contextlib
import glob
import hashlib
import json
import os
import pathlib
import re
import shutil

import filelock
import tensorflow_datasets as tfds
from google.protobuf import json_format

from vidpred_jax import stores
from vidpred_jax.data.datasets import building, clips, folders, metadata, moving_digits, sprites
from vidpred_jax.types import InputError, UserError, reason

EMBEDDED = {"sprites": sprites.Sprites, "moving_digits": moving_digits.MovingDigits}

os.environ.setdefault("NO_GCE_CHECK", "true")


def open_split(name: str, split: str, *, data_dir="data", config: str = "", drawn: bool = False, log=print):
    """The random-access source of a prepared split; embedded sets are made if missing.

    split: one, or several joined by `+`. config: one of the data set's configurations; empty: its first.
    drawn: whether a split whose clips are drawn (`moving_digits.DrawnSource`) is of use; else it is
    refused. Raises InputError.
    """
    builder = open_builder(name, data_dir=data_dir, config=config, log=log)
    for part in split.split("+"):
        if part not in builder.info.splits:
            raise InputError(
                f"data set {name!r} has no split {part!r}, but {', '.join(sorted(builder.info.splits))}"
            )
    without_clips = set(metadata.read(builder).drawn)
    if drawn and split in without_clips:
        return moving_digits.DrawnSource(builder, split)
    if found := without_clips & set(split.split("+")):
        raise InputError(
            f"split {split!r} of {name!r}: {', '.join(found)} holds no clips, for training draws them"
        )
    return clips.Source(builder, split)


def open_builder(name: str, *, data_dir="data", config: str = "", log=print):
    """The builder of a prepared or embedded data set. Raises InputError."""
    if stores.is_address(data_dir) and name not in EMBEDDED and metadata.is_name(name):
        data_dir = pathlib.Path(stores.local(f"{data_dir}/{name}")).parent
    elif stores.is_address(data_dir):
        data_dir = stores.cached(data_dir)  # Embedded sets are made here.
    if name in EMBEDDED:
        known = EMBEDDED[name].builder_configs
        config = config or next(iter(known))
        if config not in known:
            raise InputError(f"data.config ({config!r}) of {name!r} must be one of {', '.join(known)}")
        return _open_embedded(name, data_dir, config, log)
    plain = metadata.is_name(name) and (not config or metadata.is_name(config))
    version = building.ClipBuilder.VERSION
    found = pathlib.Path(data_dir, name).glob(f"{glob.escape(config) or '*'}/{version}/dataset_info.json")
    try:
        found = sorted(found) if plain else []  # Within data_dir alone.
    except OSError as error:
        raise InputError(f"data_dir ({str(data_dir)[:80]!r}) cannot be read: {error.strerror}") from error
    if not found and name == moving_digits.NAME:
        raise InputError(moving_digits.HINT)
    if not found:
        others = pathlib.Path(data_dir).glob(f"*/*/{version}/dataset_info.json")
        prepared = sorted({file.parts[-4] for file in others})
        raise InputError(
            f"data set {name!r} is not in {str(data_dir)[:80]!r}: embedded are {', '.join(EMBEDDED)}, "
            f"prepared are {', '.join(prepared) or 'none'}; scripts/prepare.py makes one"
        )
    return _open_prepared(found[-1].parent)


def _open_embedded(name, data_dir, config, log):
    """Makes the data set if it is missing; other processes that need it wait and use the same."""
    make = lambda: EMBEDDED[name](data_dir=data_dir, config=config)
    if (builder := make()).is_prepared():
        return builder
    pathlib.Path(data_dir).mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(pathlib.Path(data_dir, f".{name}_{config}.lock")):
        if not (builder := make()).is_prepared():
            log(f"making data set {name}/{config} in {data_dir}")
            prepare(builder)
    return builder


def _open_prepared(folder: pathlib.Path):
    """The builder of a prepared folder, which may be a stranger's. Raises InputError."""
    try:
        # Before TFDS opens the folder: it imports the modules that features.json names.
        expected = json_format.MessageToDict(clips.features().to_proto())
        if json.loads((folder / "features.json").read_text()) != expected:
            raise ValueError("features.json is not that of a data set made by scripts/prepare.py")
        builder = tfds.builder_from_directory(folder)
        files = [file for split in builder.info.splits.values() for file in split.filepaths]
        if any(pathlib.Path(file).resolve().parent != folder.resolve() for file in files):
            raise ValueError("its shards lie elsewhere")
        return builder
    except Exception as error:
        raise InputError(f"data set {folder} is damaged or of another program: {reason(error)}") from error


def prepare(builder, beam_runner: str | None = None, beam_options: dict | None = None) -> None:
    """Writes every split as array_record; what an interrupted run has finished of a user's clips is kept for
    the next.

    beam_runner: of Apache Beam, such as DirectRunner, instead of processes here; with its options.
    """
    tfds.disable_progress_bar()
    config = _beam(beam_runner, beam_options or {}) if beam_runner else None
    try:
        builder.download_and_prepare(file_format=clips.FILE_FORMAT, download_config=config)
        for folder in (builder.parts, *builder.parts.parent.glob("incomplete.*")):  # Of processes that died.
            shutil.rmtree(folder)
    except RuntimeError as error:  # Beam's, of an error in one of its workers.
        if not (found := re.search(r"InputError: (.*?)( \[while running .*)?$", str(error), re.MULTILINE)):
            raise
        raise InputError(found[1]) from error
    finally:
        for path in builder.parts.glob("unfinished.*"):
            path.unlink()
        for folder in (builder.parts, *builder.parts.parents[:2]):
            with contextlib.suppress(OSError, ValueError):
                folder.rmdir()  # Where nothing was made.


def _beam(runner, options):
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError("Apache Beam needs: pip install 'vidpred_jax[beam]'") from error
    options = {"default_sdk_harness_log_level": "WARNING", **options}
    options = PipelineOptions([f"--{name}={value}" for name, value in options.items()])
    return tfds.download.DownloadConfig(beam_runner=runner, beam_options=options)


def make_builder(base: type[building.ClipBuilder], name: str, config, data_dir):
    """A builder of a user's own data set called `name`."""
    check_name(name)
    builder = type(
        name, (base,), {"name": name, "__doc__": base.__doc__, "__module__": __name__}, skip_registration=True
    )
    return builder(data_dir=data_dir, config=config)


def check_name(name: str) -> None:
    """Raises InputError where a user's data set cannot be called so."""
    if not name.isidentifier() or name in EMBEDDED:
        raise InputError(
            f"--name ({name!r}) must be letters, digits and _, no digit first, and not one of "
            f"{', '.join(EMBEDDED)}"
        )


def video_folder(name: str, data_dir, **fields):
    """The builder of a folder of clips; fields are `folders.FolderConfig`'s."""
    config = folders.FolderConfig(name="default", **fields)
    return make_builder(folders.VideoFolder, name, config, data_dir)


def fingerprint(builder) -> str:
    """Changes when a clip does: a hash of the metadata, which hold a digest of each."""
    file = pathlib.Path(builder.data_path) / "metadata.json"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
