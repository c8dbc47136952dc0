"""What was saved is what is read: digests of checkpoints, and what is wrong with one in one line."""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import warnings

import jax
import numpy as np

from vidpred_jax.types import DamagedWarning, InputError, UserError


def digest(tree) -> str:
    """SHA-256 of a pytree of arrays: names, types, shapes and values."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def digest_json(meta: dict) -> str:
    """The same of the meta item, without its digests."""
    rest = {key: value for key, value in meta.items() if key != "digests"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check_digest(meta, item: str, found: str) -> None:
    """Raises ValueError where `item` is not what was saved; older versions saved no digests."""
    expected = meta.get("digests", {}).get(item, found)
    if expected != found:
        raise ValueError(f"{item} is not what was saved (its SHA-256 differs)")


def warn_damaged(folder, used) -> None:
    warnings.warn(
        f"checkpoint {folder} is damaged; step {used} is used instead", DamagedWarning, stacklevel=3
    )


# Of the machine, not of the file. TensorStore tells them only in words.
_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_MACHINE += (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


def _machine_fault(error) -> str:
    """Disk full and its like, in words; '' for what may be the file's own fault."""
    if isinstance(error, MemoryError):
        return "out of memory"
    number, text = getattr(error, "errno", None), str(error)
    found = [os.strerror(n) for n in _MACHINE if n == number or os.strerror(n) in text]
    return found[0] if found else ""


def check_shapes(found, expected) -> None:
    """Raises ValueError, naming the first array of `found` whose shape is not the expected one."""
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, needed), array in zip(paths, jax.tree.leaves(found), strict=True):
        if array.shape != needed.shape:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"{name} is {array.shape}, the network needs {needed.shape}")


class _Loop(asyncio.SelectorEventLoop):
    """Silent once closed: Orbax closes its loop at the first read or write that fails; of the others
    TensorStore tells the loop, and would print a traceback for each.
    """

    def call_soon_threadsafe(self, callback, *args, context=None):
        try:
            return super().call_soon_threadsafe(callback, *args, context=context)
        except RuntimeError:
            if not self.is_closed():
                raise

    def call_exception_handler(self, context):
        """Of tasks that nobody waited for: the first error is raised and told."""

    def close(self):
        """Ends what has not ended, as `asyncio.run` does: Orbax's coroutines print a traceback if they are
        collected before."""
        if not self.is_closed() and (left := asyncio.all_tasks(self)):
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        super().close()


@contextlib.contextmanager
def quiet_loops():
    """Event loops that are made within the block, as Orbax does for each call, are silent once closed."""
    plain = asyncio.new_event_loop
    if plain is _Loop:
        yield
        return
    asyncio.new_event_loop = _Loop
    try:
        yield
    finally:
        asyncio.new_event_loop = plain


@contextlib.contextmanager
def clear_errors(folder, verb):
    """Orbax raises many kinds of errors; a user needs one line with the folder in it.

    Raises InputError where what is read is at fault, UserError where the machine is.
    """
    try:
        with quiet_loops():
            yield
    except (InputError, UserError):
        raise
    except Exception as error:
        reason = _machine_fault(error) or " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if verb == "write" or _machine_fault(error):
            raise UserError(f"cannot {verb} checkpoints in {folder}: {reason}") from error
        raise InputError(
            f"checkpoint {folder} is damaged or does not fit (those of earlier versions may not): {reason}"
        ) from error
