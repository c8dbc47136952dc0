"""Files written whole or not at all, and what an earlier call wrote."""

import contextlib
import json
import os
import pathlib
import re
import secrets
import stat

from vidpred_jax.types import UserError


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


def check_writable(folder: str | os.PathLike) -> None:
    """Raises UserError at once if files could not be written there, before hours of work."""
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
    try:
        before = json.loads(listed.read_text())
    except (OSError, ValueError):
        before = []
    for name in before if isinstance(before, list) else []:
        plain = isinstance(name, str) and re.fullmatch(
            r"(strips/)?[^/\\\0]+\.(png|json|csv|html|webm|gif|npz)", name
        )
        if plain and name not in names and (folder / name).is_file():
            (folder / name).unlink()
    write_text(listed, json.dumps(names, indent=1) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)
