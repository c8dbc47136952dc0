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
import urllib.parse
from collections.abc import Iterator

import filelock
from etils import epath

from vidpred_jax.types import UserError

_INDEX, _EVERY = ".index.json", 5.0  # Seconds between copies of what is new.
_ADDRESS = re.compile(r"(gs|s3|az)://[^/]+(/[^/]+)+")
_UNFINISHED = re.compile(r"(^|/)\.(lock|writing|index)|orbax-checkpoint-tmp|(^|/)(incomplete|unfinished)\.")


def is_address(folder: str | os.PathLike) -> bool:
    text = os.fspath(folder)
    return bool(_ADDRESS.fullmatch(text)) and not {".", ".."} & set(text.split("/"))


def cached(folder: str) -> pathlib.Path:
    """Where an address is on this machine: the folders of one parent stand side by side."""
    root = pathlib.Path(os.environ.get("VIDPRED_STORES", "~/.cache/vidpred_jax/stores")).expanduser()
    parent, _, name = os.fspath(folder).rpartition("/")
    return root / urllib.parse.quote(parent, safe="") / name


def local(folder: str | os.PathLike) -> str:
    """Where a folder is here, brought up to what the store holds; a local folder itself.

    What this machine wrote and has not copied yet stays. While `mirrored` has it, it is as it is. Raises
    UserError.
    """
    if not is_address(folder):
        return os.fspath(folder)
    here = cached(folder)
    with contextlib.suppress(filelock.Timeout), _locked(here, "writer", 0):
        _fetch(here, folder)
    return os.fspath(here)


@contextlib.contextmanager
def mirrored(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """The folder here, as of `local`; what is written into it is copied to the store every few seconds, and
    at the end. Raises UserError where the last copy fails, or while another process writes to it."""
    if not is_address(folder):
        yield pathlib.Path(folder)
        return
    here, there, stop = cached(folder), epath.Path(folder), threading.Event()

    def keep_up():
        while not stop.wait(_EVERY):
            with contextlib.suppress(Exception):  # It is tried again, and told at the end.
                _push(here, there)

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(here, "writer", 0))
        except filelock.Timeout:
            raise UserError(f"another process of this machine writes to {folder}") from None
        _fetch(here, folder)
        here.mkdir(exist_ok=True)
        thread = threading.Thread(target=keep_up, daemon=True)
        thread.start()
        try:
            yield here
        except BaseException:  # It says more than that it could not be copied.
            stop.set()
            thread.join()
            with contextlib.suppress(Exception):
                _push(here, there)
            raise
        stop.set()
        thread.join()
        with _clear_errors("write", folder):
            _push(here, there)


@contextlib.contextmanager
def _locked(here, name, timeout):
    here.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(here.with_name(f".{here.name}.{name}"), timeout=timeout):
        yield


def _index(folder) -> dict[str, list[int]]:
    """{file: [size, time of change in ns]} of a folder as it was copied last. Raises ValueError."""
    found = json.loads((folder / _INDEX).read_text()) if (folder / _INDEX).exists() else {}
    for name in found:
        if name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
            raise ValueError(f"its index names {name!r}")
    return found


def _fetch(here, folder) -> None:
    with _locked(here, "reader", -1), _clear_errors("read", folder):
        there = epath.Path(folder)
        known, theirs, ours = _index(here), _index(there), _found(here)
        if theirs == known:
            return
        for name in set(known) - set(theirs):
            (here / name).unlink(missing_ok=True)
        for name, state in theirs.items():
            if ours.get(name) != state and (name not in ours or known.get(name) != state):
                _copy(there / name, here / name)
                os.utime(here / name, ns=(state[1],) * 2)
        for path in sorted(here.rglob("*"), reverse=True):  # What a checkpoint that is gone leaves.
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        (here / _INDEX).write_text(json.dumps(theirs))


def _found(here: pathlib.Path) -> dict[str, list[int]]:
    """What is finished in a folder, as of `_index`."""
    found = {}
    for path in here.rglob("*"):
        name = path.relative_to(here).as_posix()
        if not _UNFINISHED.search(name):
            with contextlib.suppress(FileNotFoundError):  # Moved or removed just now.
                state = path.stat()
                if path.is_file():
                    found[name] = [state.st_size, state.st_mtime_ns]
    return found


def _push(here, there) -> None:
    known, found = _index(there), _found(here)
    if found == known:
        return
    for name in found:
        if known.get(name) != found[name]:
            _copy(here / name, there / name)
    for folder in (there, here):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _INDEX).write_text(json.dumps(found))
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
