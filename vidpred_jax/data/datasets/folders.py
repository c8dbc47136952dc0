"""`davis` and `video_folder`: data sets made from a user's folders."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

from vidpred_jax.data import segmentation, video_io
from vidpred_jax.data.datasets import clips, metadata
from vidpred_jax.data.preparation import prepare_clip
from vidpred_jax.types import InputError, Limits

DAVIS_FRAMES, DAVIS_MASKS = "JPEGImages/480p", "Annotations/480p"


@dataclasses.dataclass
class FolderConfig(clips.ClipConfig):
    """Where the clips are and how they get labels.

    input: a folder of video files or frame folders, or DAVIS's. masks: a folder with a sub-folder of
    mask images for each clip; empty: labels by `segmentation`. num_validation, num_test: clips held out
    of a folder without split lists, the last ones by name. max_frames: of the longest clip accepted.
    """

    input: str = ""
    masks: str = ""
    segmentation: str = "motion"
    num_validation: int = 1
    num_test: int = 1
    max_frames: int = 2000
    lossless: bool = False
    log: Callable[[str], None] = lambda line: None


def is_davis(folder: str | pathlib.Path) -> bool:
    return (pathlib.Path(folder) / DAVIS_FRAMES).is_dir()


class VideoFolder(clips.ClipBuilder, skip_registration=True):
    """Clips of a folder (video files, or sub-folders of frames), or of a folder in DAVIS's layout."""

    def _clips(self):
        config = self.builder_config
        folder = pathlib.Path(config.input)
        if not folder.is_dir():
            raise InputError(f"input folder {config.input!r} does not exist")
        if is_davis(folder) and config.masks:
            raise InputError(
                f"--masks ({config.masks!r}) is for a folder of videos; {folder} brings {DAVIS_MASKS}"
            )
        splits = davis_splits(folder) if is_davis(folder) else folder_splits(config)
        return {
            split: {name: functools.partial(self._read, name, *paths) for name, paths in found.items()}
            for split, found in splits.items()
        }

    def _read(self, name, video, masks):
        config = self.builder_config
        config.log(f"reading clip {name}")
        frames = video_io.read(video, limits=Limits(max_frames=config.max_frames))
        labels = masks and segmentation.read_masks(masks, len(frames), frames.shape[1:3])
        return prepare_clip(
            name,
            frames,
            labels=labels,
            method=config.segmentation,
            edge_rule=config.edge_rule,
            fps=video_io.probe(video).fps,
            encoded=_original_bytes(video),
        )


def _original_bytes(video: pathlib.Path) -> list[bytes] | None:
    """The files of a folder of JPEG and PNG frames: encoding a JPEG again would change its pixels."""
    files = video_io.list_images(video) if video.is_dir() else []
    if files and all(f.suffix.lower() in (".jpg", ".jpeg", ".png") for f in files):
        return [f.read_bytes() for f in files]
    return None


def davis_splits(folder: pathlib.Path) -> dict:
    """{split: {clip: (frames, masks or None)}} by DAVIS's ImageSets.

    DAVIS's val list is the test split. The last fifth of its train list is the validation split.
    """
    names = {}
    for split in ("train", "val"):
        found = [folder / "ImageSets" / year / f"{split}.txt" for year in ("", "2017", "2016")]
        lists = [file for file in found if file.is_file()]
        if not lists:
            raise InputError(f"{folder}/ImageSets/{split}.txt does not exist; DAVIS's layout needs it")
        names[split] = [line.split()[0] for line in _lines(lists[0])]
    held_out = max(len(names["train"]) // 5, 1) if len(names["train"]) > 1 else 0
    cut = len(names["train"]) - held_out
    splits = {"train": names["train"][:cut], "validation": names["train"][cut:], "test": names["val"]}
    return {
        split: {name: _davis_clip(folder, name) for name in members}
        for split, members in splits.items()
        if members
    }


def _lines(file: pathlib.Path) -> list[str]:
    text = file.read_bytes().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()]


def _davis_clip(folder, name):
    frames = folder / DAVIS_FRAMES / name
    if not metadata.is_name(name) or not frames.is_dir():
        raise InputError(f"clip {name!r} of {folder}/ImageSets has no folder {frames}")
    masks = folder / DAVIS_MASKS / name
    return frames, masks if masks.is_dir() else None


def folder_splits(config: FolderConfig) -> dict:
    """{split: {clip: (video, masks or None)}} of a folder of videos, by sorted name."""
    videos = video_io.list_videos(config.input)
    if not videos:
        raise InputError(f"{config.input} holds 0 clips; videos or folders of frames are needed")
    held_out = config.num_validation + config.num_test
    if len(videos) <= held_out:
        raise InputError(
            f"{config.input} holds {len(videos)} clips; with num_validation={config.num_validation} and "
            f"num_test={config.num_test} at least {held_out + 1} are needed"
        )
    found = {}
    for video in videos:
        name = video.name if video.is_dir() else video.stem
        masks = pathlib.Path(config.masks) / name if config.masks else None
        if masks is not None and not masks.is_dir():
            raise InputError(f"masks of clip {name!r} are missing: {masks} is not a folder")
        if name in found:
            raise InputError(f"{config.input} holds two clips named {name!r}; names must differ")
        found[name] = (video, masks)
    names, splits = list(found), {}
    cuts = {"test": config.num_test, "validation": config.num_validation, "train": len(names) - held_out}
    for split, count in cuts.items():
        names, members = names[: len(names) - count], names[len(names) - count :]
        splits[split] = {name: found[name] for name in members}
    return {split: members for split, members in reversed(splits.items()) if members}
