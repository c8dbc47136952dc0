"""`davis` and `video_folder`: data sets made from a user's folders."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable

from vidpred_jax.data import images, video_io
from vidpred_jax.data.datasets import building, metadata
from vidpred_jax.data.fusion import EdgeRule
from vidpred_jax.data.masks import read_masks
from vidpred_jax.data.preparation import prepare_clip
from vidpred_jax.types import Clip, InputError, Limits

_DAVIS_FRAMES, _DAVIS_MASKS = "JPEGImages", "Annotations"
_DAVIS_SIZES = ("480p", "Full-Resolution", "1080p")


@dataclasses.dataclass
class FolderConfig(building.BuildConfig):
    """Where the clips are and how they get labels.

    input: a folder of video files or frame folders, or DAVIS's. masks: a folder with a sub-folder of
    mask images for each clip; empty: labels by `segmentation`. num_validation, num_test: clips held out
    of a folder without split lists, the last ones by name: a number, or a share such as 5%. splits: a folder
    with their names instead, in validation.txt and test.txt. max_frames: of the longest clip accepted.
    """

    input: str = ""
    masks: str = ""
    segmentation: str = "motion"
    num_validation: int | str = 1
    num_test: int | str = 1
    splits: str = ""
    lossless: bool = False
    max_frames: int = 2000


def davis_size(folder: str | pathlib.Path) -> str | None:
    """The sub-folder of DAVIS's frames and masks, the smallest that is there; None of another folder."""
    return next((s for s in _DAVIS_SIZES if pathlib.Path(folder, _DAVIS_FRAMES, s).is_dir()), None)


class VideoFolder(building.ClipBuilder, skip_registration=True):
    """Clips of a folder (video files, or sub-folders of frames), or of a folder in DAVIS's layout."""

    def _clips(self):
        config = self.builder_config
        folder = pathlib.Path(config.input)
        if not folder.is_dir():
            why = "is a file, not a folder of clips" if folder.exists() else "does not exist"
            raise InputError(f"input folder {config.input!r} {why}")
        is_davis = davis_size(folder) is not None
        if is_davis and config.masks:
            raise InputError(
                f"--masks ({config.masks!r}) is for a folder of videos; {folder} brings {_DAVIS_MASKS}"
            )
        if is_davis and config.splits:
            raise InputError(f"--splits ({config.splits!r}) is for a folder of videos; {folder} has its own")
        if is_davis:
            splits = self._readable(davis_splits(folder))
        elif config.splits:
            found = find_clips(folder, config.masks, config.log)
            splits = self._readable(_listed(pathlib.Path(config.splits), found))
        else:
            found = find_clips(folder, config.masks, config.log)
            splits = folder_splits(config, self._readable({"": found})[""])
        read = functools.partial(
            read_clip,
            max_frames=config.max_frames,
            segmentation=config.segmentation,
            edge_rule=config.edge_rule,
        )
        return {
            split: {name: functools.partial(read, name, *paths) for name, paths in members.items()}
            for split, members in splits.items()
            if members
        }

    def _readable(self, splits):
        """{split: {clip: (video, masks)}} of what can be opened. Raises InputError that names all others."""
        bad = {}
        for name, (video, masks) in (pair for members in splits.values() for pair in members.items()):
            try:
                video_io.probe(video)
                if masks is not None and not masks.is_dir():
                    raise InputError(f"masks of clip {name!r} are missing: {masks} is not a folder")
            except InputError as error:
                bad[name] = error
        if bad and not self.builder_config.skip_bad:
            told = "; ".join(map(str, bad.values()))
            total = sum(map(len, splits.values()))
            raise InputError(f"{len(bad)} of {total} clips cannot be read: {told} (--skip_bad goes on)")
        for error in bad.values():
            self.builder_config.log(f"left out: {error}")
        keep = lambda members: {name: paths for name, paths in members.items() if name not in bad}
        return {split: keep(members) for split, members in splits.items()}


def read_clip(
    name: str,
    video: pathlib.Path,
    masks: pathlib.Path | None,
    log: Callable[[str], None],
    *,
    max_frames: int,
    segmentation: str,
    edge_rule: EdgeRule,
) -> Clip:
    """A video with its masks, if it has any. Raises InputError."""
    frames = video_io.read(video, limits=Limits(max_frames=max_frames))
    labels = masks and read_masks(masks, len(frames), frames.shape[1:3], frames=video, log=log)
    return prepare_clip(
        name,
        frames,
        labels=labels,
        method=segmentation,
        edge_rule=edge_rule,
        fps=video_io.probe(video).fps,
        encoded=_original_bytes(video),
    )


def _original_bytes(video: pathlib.Path) -> list[bytes] | None:
    """The files of a folder of JPEG and PNG frames: encoding a JPEG again would change its pixels."""
    files = images.list_images(video) if video.is_dir() else []
    found = [images.original_bytes(file) for file in files]
    return found if found and None not in found else None


def davis_splits(folder: pathlib.Path) -> dict:
    """{split: {clip: (frames, masks or None)}} by DAVIS's ImageSets.

    DAVIS's val list is the test split. The last fifth of its train list is the validation split.
    """
    names, size = {}, davis_size(folder)
    for split in ("train", "val"):
        found = [folder / "ImageSets" / year / f"{split}.txt" for year in ("", "2017", "2016", "480p")]
        lists = [file for file in found if file.is_file()]
        if not lists:
            raise InputError(f"{folder}/ImageSets/{split}.txt does not exist; DAVIS's layout needs it")
        names[split] = list(dict.fromkeys(map(_davis_name, _lines(lists[0]))))
    held_out = max(len(names["train"]) // 5, 1) if len(names["train"]) > 1 else 0
    cut = len(names["train"]) - held_out
    splits = {"train": names["train"][:cut], "validation": names["train"][cut:], "test": names["val"]}
    if both := set(names["train"]) & set(names["val"]):
        raise InputError(f"clip {min(both)!r} is in train.txt and in val.txt of {folder}/ImageSets")
    return {
        split: {name: _davis_clip(folder, size, name) for name in members}
        for split, members in splits.items()
        if members
    }


def _lines(file: pathlib.Path) -> list[str]:
    data = file.read_bytes()
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = data.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    return [line for line in text.splitlines() if line.strip()]


def _davis_name(line: str) -> str:
    """The clip of a line of ImageSets: its name, or, in DAVIS 2016, the paths of a frame and its mask."""
    name = line.split()[0]
    found = re.match(rf"/?{_DAVIS_FRAMES}/(?:{'|'.join(_DAVIS_SIZES)})/([^/]+)", name)
    return found[1] if found else name


def _davis_clip(folder, size, name):
    frames = folder / _DAVIS_FRAMES / size / name
    if not metadata.is_name(name) or not frames.is_dir():
        raise InputError(f"clip {name!r} of {folder}/ImageSets has no folder {frames}")
    masks = folder / _DAVIS_MASKS / size / name
    return frames, masks if masks.is_dir() else None


def find_clips(
    root: str | pathlib.Path, masks: str = "", log: Callable[[str], None] = lambda line: None
) -> dict:
    """{clip: (video, masks or None)} of a folder, by sorted name: files and folders of images at any depth.

    A clip is called by its path, `class/a.mp4` class_a. masks: a folder with one for each clip by that name.
    Hidden files are passed over; what else is no clip, and a folder that links lead to again, is told. Raises
    InputError for two clips of one name.
    """
    root, found, left_out = pathlib.Path(root), {}, []

    def add(video):
        inside = video.relative_to(root)
        name = "_".join((inside if video.is_dir() else inside.with_suffix("")).parts)
        if not name.isprintable():
            raise InputError(f"{str(video)!r} has characters in its name that cannot be printed; rename it")
        if name in found:
            raise InputError(f"{root} holds two clips named {name!r}; names must differ")
        found[name] = video, pathlib.Path(masks, name) if masks else None

    waiting, seen = [root], set()
    while waiting:
        folder = waiting.pop()
        if folder.resolve() in seen:
            left_out.append(folder)
            continue
        seen.add(folder.resolve())
        entries = [e for e in folder.iterdir() if e.name[0] != "." and e.name != "__MACOSX"]
        moving = lambda e: e.is_dir() or video_io.is_video_file(e)
        frames = [e for e in entries if e.suffix.lower() in images.SUFFIXES and folder != root]
        frames = [e for e in frames if e.suffix.lower() != ".webp" or not moving(e)]
        if len(frames) == 1 and any(map(moving, entries)):  # A preview of the clips beside it.
            left_out, frames = left_out + frames, []
            entries = [e for e in entries if e not in left_out]
        if frames:
            add(folder)
        elif not entries:
            left_out.append(folder)
        for entry in sorted(set(entries) - set(frames), key=images.natural_key, reverse=True):
            if entry.is_dir() and not frames:
                waiting.append(entry)
            elif not frames and video_io.is_video_file(entry):
                add(entry)
            else:
                left_out.append(entry)
    for entry in sorted(left_out):
        log(f"left out: {entry} is not a clip")
    return dict(sorted(found.items(), key=lambda pair: images.natural_key(pathlib.Path(pair[0]))))


def folder_splits(config: FolderConfig, clips: dict) -> dict:
    """{split: {clip: (video, masks or None)}}: the last clips by name are held out."""
    if not clips:
        raise InputError(f"{config.input} holds 0 clips; it must hold videos or folders of frames")
    names, splits, counts = list(clips), {}, {}
    for split, text in (("test", config.num_test), ("validation", config.num_validation)):
        counts[split] = _count(f"num_{split}", str(text), len(names))
    held_out = sum(counts.values())
    if len(names) <= held_out:
        raise InputError(
            f"{config.input} holds {len(names)} clips; with num_validation={config.num_validation} and "
            f"num_test={config.num_test} at least {held_out + 1} are needed"
        )
    for split, count in (counts | {"train": len(names) - held_out}).items():
        names, members = names[: len(names) - count], names[len(names) - count :]
        splits[split] = {name: clips[name] for name in members}
    return dict(reversed(splits.items()))


def _count(field, text, total) -> int:
    """A number of clips of all: N, or N% of them, rounded up."""
    number = text.removesuffix("%")
    if not number.isdecimal():
        raise InputError(f"{field} ({text}) must be a number of clips, or a share such as 5%")
    return -(-int(number) * total // 100) if number != text else int(number)


def _listed(folder, clips) -> dict:
    """The splits of the lists validation.txt and test.txt, a clip's name a line; the rest is for training."""
    splits = {"train": dict(clips)}
    for split in ("validation", "test"):
        file = folder / f"{split}.txt"
        if not file.is_file():
            raise InputError(f"--splits: {file} does not exist")
        names = [line.strip() for line in _lines(file)]
        for name in names:
            if name not in splits["train"]:
                known = "twice, or is in both lists" if name in clips else "no clip"
                raise InputError(f"{file} names {name!r}, which is {known}")
            splits.setdefault(split, {})[name] = splits["train"].pop(name)
    if not splits["train"]:
        raise InputError(f"{folder} leaves no clip for training")
    return splits
