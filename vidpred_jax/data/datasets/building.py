"""Data sets are made shard by shard, by processes of this machine or by Apache Beam's workers.

A finished shard is kept beside the data set until all are: the same command goes on from there. Who made it
changes no byte of a record.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import writer as tfds_writer
from tensorflow_datasets.proto import tf_example_pb2

import vidpred_jax
from vidpred_jax.data import preparation, workers
from vidpred_jax.data.datasets import clips, metadata
from vidpred_jax.data.fusion import EdgeRule
from vidpred_jax.types import Clip, InputError, UserError

_CLIPS, _SHARDS = 16, 1024  # Clips of a shard, and shards of a split beyond which they hold more.

# A function that gives a clip; what is to be told of it goes to its argument. It can be sent to another
# process.
Maker = Callable[[Callable[[str], None]], Clip]


@dataclasses.dataclass
class BuildConfig(tfds.core.BuilderConfig):
    """lossless, jpeg_quality, storage_size: as of `Encoding`. skip_bad: clips that cannot be read are left
    out, else the first one ends it. workers: processes; 0: one a core. log: called with lines to tell.
    """

    edge_rule: EdgeRule = dataclasses.field(default_factory=EdgeRule)
    lossless: bool = True
    jpeg_quality: int = 95
    storage_size: int = 0
    skip_bad: bool = False
    workers: int = 0
    log: Callable[[str], None] = lambda line: None


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How clips become examples. lossless: frames that are not encoded yet are stored as PNG, else as JPEG of
    `jpeg_quality`. storage_size: of the shorter side that larger clips are reduced to; 0: as they are."""

    lossless: bool
    jpeg_quality: int
    storage_size: int

    def __call__(self, clip: Clip) -> dict:
        clip = preparation.reduced(clip, self.storage_size) if self.storage_size else clip
        return clips.encode(clip, None if self.lossless else self.jpeg_quality)


@dataclasses.dataclass
class Shard:
    """Some clips of a split, in order. part: the file that it is written to; beside it lies, under `facts`,
    what is known of its clips. key: changes when what they are made from does."""

    makers: list[Maker]
    part: epath.Path
    encoding: Encoding
    skip_bad: bool
    key: str

    @property
    def facts(self) -> epath.Path:
        return self.part.with_name(f"{self.part.name}.json")

    def read(self) -> dict | None:
        """Its facts, if it is finished and of these very clips."""
        if not (self.facts.exists() and self.part.exists()):
            return None
        found = json.loads(self.facts.read_text())
        whole = self.skip_bad or len(found["clips"]) == len(self.makers)
        return found if whole and found["key"] == self.key else None

    def examples(self, made: Iterator | None = None) -> Iterator[tuple[str, dict]]:
        """(name, example) of each clip; of a finished shard empty ones, to be counted.

        made: of `_make`, for each of its clips; None: they are made here.
        """
        if found := self.read():
            yield from ((entry["name"], {}) for entry in found["clips"])
            return
        make = functools.partial(_make, self.encoding, self.skip_bad)
        entries, told = [], []
        for example, entry, lines in made or map(make, self.makers):
            told += lines
            if example is not None:
                entries.append(entry)
                yield entry["name"], example
                example.clear()  # It is written; TFDS would hold it until its shard is.
        self.facts.write_text(json.dumps({"key": self.key, "clips": entries, "told": told}))


def _key(config: BuildConfig, makers: list[Maker]) -> str:
    settings = {name: x for name, x in vars(config).items() if name not in ("log", "workers", "skip_bad")}
    model = pathlib.Path(str(settings.get("segmentation", "")).removeprefix("onnx:"))
    made_from = [vidpred_jax.__version__, repr(sorted(settings.items(), key=str)), *map(_made_from, makers)]
    made_from += [_state(model)] if model.is_file() else []
    return hashlib.sha256("\n".join(made_from).encode()).hexdigest()


def _made_from(maker) -> str:
    """The arguments of a partial function, and size and time of the files that they name."""
    found = [repr(each) for each in maker.args]
    for path in (each for each in maker.args if isinstance(each, pathlib.Path)):
        found += map(_state, sorted(path.iterdir()) if path.is_dir() else [path])
    return " ".join(found)


def _state(file: pathlib.Path) -> str:
    state = file.stat()
    return f"{file.name} {state.st_size} {state.st_mtime_ns}"


def _make(encoding: Encoding, skip_bad: bool, maker: Maker) -> tuple[dict | None, dict | None, list[str]]:
    """(example, its entry in the metadata, lines to tell); None, None of a clip that is left out."""
    told = []
    try:
        clip = maker(told.append)
    except InputError as error:
        if not skip_bad:
            raise
        return None, None, [*told, f"left out: {error}"]
    example = encoding(clip)
    return example, metadata.entry(example, max(int(clip.labels.max()) + 1, clip.least_labels)), told


class _Writer(tfds_writer.ExampleWriter):
    """Writes a shard as a part, which gets its name when it is whole, and puts it where TFDS wants it."""

    def __init__(self, file_format, parts: epath.Path):
        super().__init__(file_format)
        self._parts = parts

    def write(self, path, examples):
        part = self._parts / epath.Path(path).name
        if not part.exists():
            unfinished = part.with_name(f"unfinished.{os.getpid()}.{part.name}")
            super().write(os.fspath(unfinished), ((key, _ordered(data)) for key, data in examples))
            unfinished.rename(part)
        try:
            os.link(part, path)
        except FileExistsError:
            pass  # Beam may write a shard again.
        except OSError:  # A file system without links.
            part.copy(path)


def _ordered(serialized: bytes) -> bytes:
    """The same example with its fields in order: protobuf's own is another in each process."""
    return tf_example_pb2.Example.FromString(serialized).SerializeToString(deterministic=True)


class ClipBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """A builder whose splits are mappings of clip names to functions that give the clip.

    Example i of a split is clip i of its mapping, and entry i of the metadata.
    """

    VERSION = tfds.core.Version("2.0.0")
    least = 2  # Clips for which it is worth it to start processes, rather than threads.

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=clips.features(),
            description=self.__doc__,
            disable_shuffling=True,
            metadata=metadata.start(self.builder_config.edge_rule),
        )

    def _clips(self) -> dict[str, dict[str, Maker]]:
        """{split: {name: maker}}."""
        raise NotImplementedError

    @property
    def parts(self) -> epath.Path:
        """The folder of finished shards."""
        return self.data_path.parent / "parts"

    def _example_writer(self):
        return _Writer(self.info.file_format, self.parts)

    def _download_and_prepare(self, dl_manager, download_config=None):
        self.parts.mkdir(parents=True, exist_ok=True)
        self._here = download_config is None or download_config.beam_runner is None
        with contextlib.ExitStack() as self._running:
            super()._download_and_prepare(dl_manager, download_config)
        for split, shards in self._shards.items():
            facts = [shard.read() for shard in shards]
            if None in facts:
                lost = shards[facts.index(None)].part
                raise UserError(f"{lost} was not written: its folder must be shared between Beam's workers")
            for line in itertools.chain.from_iterable(each["told"] for each in facts):
                self.builder_config.log(line)
            entries = [entry for each in facts for entry in each["clips"]]
            if not entries:
                total = sum(len(shard.makers) for shard in shards)
                raise InputError(f"all {total} clips of split {split} cannot be read; mend or remove them")
            for entry in entries:
                metadata.add(self.info.metadata, split, entry)

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager
        self._shards = {
            split: self._cut(split, list(makers.values())) for split, makers in self._clips().items()
        }
        shards = [shard for shards in self._shards.values() for shard in shards]
        self._clean(shards)
        waiting = {shard.part: shard for shard in shards if not shard.read()}
        if finished := sum(len(shard.makers) for shard in shards if shard.part not in waiting):
            self.builder_config.log(
                f"{finished} of {sum(len(s.makers) for s in shards)} clips were made before"
            )
        if self._here:
            made = self._running.enter_context(self._made(waiting.values()))
            share = {part: itertools.islice(made, len(shard.makers)) for part, shard in waiting.items()}
        else:
            share = {}  # Each shard makes its own where it is written.
        return {
            split: [functools.partial(shard.examples, share.get(shard.part)) for shard in shards]
            for split, shards in self._shards.items()
        }

    def _cut(self, split, makers) -> list[Shard]:
        config, size = self.builder_config, max(_CLIPS, -(-len(makers) // _SHARDS))
        encoding = Encoding(config.lossless, config.jpeg_quality, config.storage_size)
        template, number = self._get_filename_template(split), -(-len(makers) // size)
        names = [template.sharded_filepath(shard_index=i, num_shards=number).name for i in range(number)]
        parts = [makers[i * size : (i + 1) * size] for i in range(number)]
        return [
            Shard(part, self.parts / name, encoding, config.skip_bad, _key(config, part))
            for name, part in zip(names, parts, strict=True)
        ]

    def _clean(self, shards):
        """Removes what is no finished part of these."""
        known = {path for shard in shards if shard.read() for path in (shard.part, shard.facts)}
        for path in self.parts.iterdir():
            if path not in known:
                path.unlink()

    @contextlib.contextmanager
    def _made(self, shards):
        """What `_make` gives for every clip of the shards, in order, some ahead of the one that is taken."""
        config = self.builder_config
        tasks = [(shard.encoding, shard.skip_bad, maker) for shard in shards for maker in shard.makers]
        count = min(config.workers or os.cpu_count() or 1, len(tasks))
        worth_it = count > 1 and len(tasks) >= self.least
        with workers.pool(count, __name__ if worth_it else None) as pool:
            made = workers.in_order(pool, _make, tasks, ahead=2 * count)
            yield workers.told(made, len(tasks), "clips", config.log)
