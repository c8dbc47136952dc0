"""Runs and data sets in object stores: copied here where they are read, and back as they grow.

An address is one that `etils.epath` knows, such as gs://BUCKET/FOLDER or s3://BUCKET/FOLDER. In the store a
folder has an index of its files, which is written last: a reader sees what was there when it was.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import threading
from collections.abc import Iterator

import filelock
from etils import epath

from vidpred_jax.types import UserError

_INDEX, _EVERY = ".index.json", 5.0  # Seconds between copies of what is new.
_ADDRESS = re.compile(r"(gs|s3|az)://[^/]+/.+")


def is_address(folder: str | os.PathLike) -> bool:
    return bool(_ADDRESS.fullmatch(os.fspath(folder)))


def local(folder: str | os.PathLike) -> str:
    """Where a folder is here, made equal to what the store holds; a local folder itself."""
    if not is_address(folder):
        return os.fspath(folder)
    here, there = _cached(folder), epath.Path(folder)
    here.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(here.with_name(f".{here.name}.lock")), _clear_errors("read", folder):
        index = json.loads((there / _INDEX).read_text()) if (there / _INDEX).exists() else {}
        had = _found(here) if here.exists() else {}
        for name in set(had) - set(index):
            (here / name).unlink()
        for name in index:
            if had.get(name) != index[name]:
                _copy(there / name, here / name)
                os.utime(here / name, ns=(index[name][1],) * 2)
        for path in sorted(here.rglob("*"), reverse=True):  # What a checkpoint that is gone leaves.
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    return os.fspath(here)


@contextlib.contextmanager
def mirrored(folder: str | os.PathLike, writes: bool = True) -> Iterator[pathlib.Path]:
    """The folder here, as of `local`; what is written into it is copied to the store every few seconds, and
    at the end. writes: whether by this process. Raises UserError where the last copy fails."""
    here = pathlib.Path(local(folder))
    if not (is_address(folder) and writes):
        yield here
        return
    there, stop = epath.Path(folder), threading.Event()

    def keep_up():
        while not stop.wait(_EVERY):
            with contextlib.suppress(Exception):  # It is tried again, and told at the end.
                _push(here, there)

    thread = threading.Thread(target=keep_up, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        stop.set()
        thread.join()
        with _clear_errors("write", folder):
            _push(here, there)


def _cached(folder) -> pathlib.Path:
    root = os.environ.get("VIDPRED_STORES", "~/.cache/vidpred_jax/stores")
    return pathlib.Path(root).expanduser() / os.fspath(folder).replace("://", "/").rstrip("/")


def _found(here: pathlib.Path) -> dict[str, list[int]]:
    """{file: [size, time of change in ns]} of what is finished in a folder."""
    found = {}
    for path in here.rglob("*"):
        name = path.relative_to(here).as_posix()
        if not re.search(r"(^|/)\.(lock|writing)|orbax-checkpoint-tmp|(^|/)(incomplete|unfinished)\.", name):
            with contextlib.suppress(FileNotFoundError):  # Moved or removed just now.
                state = path.stat()
                if path.is_file():
                    found[name] = [state.st_size, state.st_mtime_ns]
    return found


def _push(here, there) -> None:
    known = json.loads((there / _INDEX).read_text()) if (there / _INDEX).exists() else {}
    found = _found(here)
    if found == known:
        return
    for name in found:
        if known.get(name) != found[name]:
            _copy(here / name, there / name)
    (there / _INDEX).write_text(json.dumps(found))
    for name in set(known) - set(found):
        (there / name).unlink(missing_ok=True)


def _copy(source, target) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 1 << 22)


@contextlib.contextmanager
def _clear_errors(verb, folder):
    try:
        yield
    except Exception as error:  # Of many kinds, those of a store's own library.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"cannot {verb} {folder}: {reason}") from error
