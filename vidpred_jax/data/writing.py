"""Files written whole or not at all, and what an earlier call wrote."""

import contextlib
import json
import os
import pathlib
import re
import secrets
import stat
from collections.abc import Iterable

from vidpred_jax.types import InputError, UserError


@contextlib.contextmanager
def atomic(path: str | os.PathLike):
    """Gives a temporary path with the same suffix, which is moved to `path` if the block succeeds.

    A link stays one, and the file that it names is replaced; a file keeps its mode. Raises UserError (exit
    code 1) when the folder cannot be written or the disk is full.
    """
    path = pathlib.Path(path)
    temporary = None
    try:
        target = path.resolve() if path.is_symlink() else path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".writing-{secrets.token_hex(8)}{path.suffix}")
        # Its mode is what the umask leaves of this one.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        if not temporary.stat().st_size:
            raise OSError("nothing was written; the disk may be full")
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or ' '.join(str(error).split())}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(folder: str | os.PathLike, names: Iterable[str] = ()) -> None:
    """Raises UserError at once if files could not be written there, before hours of work.

    names: of files that will be; InputError for one that stands there and that no earlier call wrote.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; a folder to write to is needed")
    if foreign := [name for name in names if (folder / name).exists() and name not in _written(folder)]:
        raise InputError(f"{folder / foreign[0]} was not written by this command; name another folder")
    probe_file = pathlib.Path(folder, f".writing-{secrets.token_hex(8)}.check")
    with atomic(probe_file) as temporary:
        temporary.write_text("x")
    probe_file.unlink(missing_ok=True)


def renew(folder: str | os.PathLike, names: list[str]) -> None:
    """Files are about to be written into a folder: what an earlier call wrote beside them is deleted.

    names: of the files, relative to the folder; they are kept in `.written.json` there, and no file that is
    not named in it is touched.
    """
    folder, listed = pathlib.Path(folder), pathlib.Path(folder, ".written.json")
    for name in _written(folder):
        plain = re.fullmatch(
            r"(strips/|frames/|fusion/)?[^/\\\0]+\.(png|json|csv|html|webm|mp4|gif|npz)", name
        )
        if plain and name not in names and (folder / name).is_file():
            (folder / name).unlink()
    write_text(listed, json.dumps(names, indent=1) + "\n")


def _written(folder) -> list[str]:
    """What the last call wrote into a folder, by the list it left there."""
    try:
        found = json.loads(pathlib.Path(folder, ".written.json").read_text())
    except (OSError, ValueError):
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def write_text(path: str | os.PathLike, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)
