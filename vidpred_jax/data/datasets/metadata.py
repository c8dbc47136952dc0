"""`metadata.json`: what is known of a data set's clips without reading them.

{"num_labels": 4, "edge_rule": {"canny": [300.0, 350.0]}, "splits": {"train": {"name": [...], "fps": [...],
"num_frames": [...], "height": [...], "width": [...], "digest": [...]}}}, the lists in the order of the
split's examples; digest: of a clip's encoded frames, labels and edges. {"drawn": {"train": 64}} names splits
that hold what clips of a side are drawn from.
"""

import dataclasses
import hashlib
import json
import pathlib

import tensorflow_datasets as tfds

from vidpred_jax.data.fusion import EdgeRule
from vidpred_jax.types import MAX_FPS, MAX_SIDE, MIN_SIDE, InputError, Limits, reason

COLUMNS = ("name", "num_frames", "height", "width", "fps")
_ALL = (*COLUMNS, "digest")
_MAX_BYTES = 1 << 28  # Some millions of clips.


@dataclasses.dataclass(frozen=True)
class Metadata:
    """num_labels: background included. splits: {split: {column: list}}, columns as in the file.
    drawn: {split: side} of those whose clips are drawn.
    """

    num_labels: int
    edge_rule: EdgeRule
    splits: dict[str, dict[str, list]]
    drawn: dict[str, int] = dataclasses.field(default_factory=dict)


def start(edge_rule: EdgeRule) -> tfds.core.MetadataDict:
    """The metadata of a data set without clips; TFDS writes them once it has written the shards."""
    return tfds.core.MetadataDict(num_labels=1, edge_rule=edge_rule.to_json(), splits={})


def entry(example: dict, num_labels: int) -> dict:
    """What `add` needs of an example of `clips.encode` whose labels are all below num_labels."""
    digest = hashlib.sha256()
    for stream in ("frames", "labels", "edges"):
        for data in example[stream]:
            digest.update(data)
    found = {column: example[column] for column in COLUMNS}
    return {**found, "digest": digest.hexdigest()[:16], "num_labels": num_labels}


def add(metadata: tfds.core.MetadataDict, split: str, entry: dict) -> None:
    """Appends an `entry`."""
    columns = metadata["splits"].setdefault(split, {column: [] for column in _ALL})
    for column in _ALL:
        columns[column].append(entry[column])
    metadata["num_labels"] = max(metadata["num_labels"], entry["num_labels"])


def read(builder) -> Metadata:
    """The metadata of a prepared data set, which may be a stranger's. Raises InputError."""
    file = pathlib.Path(builder.data_path) / "metadata.json"
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes")
        return _check(json.loads(file.read_text()), counts)
    except Exception as error:  # Of many kinds, for damaged files.
        raise InputError(f"{file} is damaged: {reason(error)}") from error


def _check(found: dict, counts: dict[str, int]) -> Metadata:
    num_labels, splits = found["num_labels"], found["splits"]
    if type(num_labels) is not int or not 1 <= num_labels <= 256:
        raise ValueError(f"num_labels ({str(num_labels)[:100]}) must be 1 to 256")
    if splits.keys() != counts.keys():
        raise ValueError(f"its splits are {', '.join(splits)}, not {', '.join(counts)}")
    for split, columns in splits.items():
        if columns.keys() != set(_ALL):
            raise ValueError(f"split {split} holds {', '.join(columns)}, not {', '.join(_ALL)}")
        if any(type(x) is not list or len(x) != counts[split] for x in columns.values()):
            raise ValueError(f"columns of split {split} must be lists of {counts[split]}")
        for i, values in enumerate(zip(*(columns[name] for name in COLUMNS), strict=True)):
            if not is_entry(*values):
                raise ValueError(f"clip {i} of split {split} is {str(values)[:100]}")
    drawn = found.get("drawn", {})
    for split, side in drawn.items():
        pictures = [splits[split][column] for column in ("height", "width")]
        if type(side) is not int or not MIN_SIDE <= side <= MAX_SIDE or len(pictures[0]) != 1:
            raise ValueError(f"drawn split {split} of side {side} is not one clip of pictures")
        if pictures[0] != pictures[1] or pictures[0][0] >= side:
            raise ValueError(f"drawn split {split} of side {side} holds no smaller squares")
    return Metadata(num_labels, EdgeRule.from_json(found["edge_rule"]), splits, drawn)


def is_entry(name, num_frames, height, width, fps) -> bool:
    """Whether values can be those of a clip."""
    return (
        is_name(name)
        and all(type(x) is int and x >= 1 for x in (num_frames, height, width))
        and num_frames < 1 << 31
        and height * width <= Limits().max_pixels
        and type(fps) in (int, float)
        and 0 < fps <= MAX_FPS
    )


def is_name(text) -> bool:
    """Whether it may name a clip, a data set or a file: a single part of a path."""
    if not isinstance(text, str) or text != pathlib.PurePath(text).name or text in ("", ".."):
        return False
    return "\0" not in text and len(text.encode(errors="replace")) <= 255
