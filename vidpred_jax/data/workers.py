"""Many pieces of work at once, in threads or processes, their results in order."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import cv2

from vidpred_jax.types import UserError

_TOLD_EVERY = 5.0  # Seconds.


@contextlib.contextmanager
def pool(count: int, module: str | None) -> Iterator[concurrent.futures.Executor]:
    """`count` workers, in which OpenCV starts no threads of its own: processes that have imported a module,
    or threads where there is none.

    Processes end with this one, and do not hear Ctrl-C. Raises UserError where one is killed.
    """
    if module is None:
        opencv_threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            with concurrent.futures.ThreadPoolExecutor(max(count, 1)) as threads:
                yield threads
        finally:
            cv2.setNumThreads(opencv_threads)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    found = concurrent.futures.ProcessPoolExecutor(count, context, _begin)
    try:
        yield found
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            "a worker process has ended, as where memory is short; the same command goes on, with fewer "
            "--workers"
        ) from error
    finally:  # What they are at is finished first: a process that is killed may hold a lock.
        found.shutdown(cancel_futures=True)


def _begin():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def in_order(pool, function: Callable, tasks: Iterable[Sequence], ahead: int) -> Iterator:
    """function(*task) of each task, at most `ahead` of them before the one that is taken."""
    waiting = collections.deque()
    for task in tasks:
        waiting.append(pool.submit(function, *task))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def told(items: Iterable, total: int, called: str, log: Callable[[str], None]) -> Iterator:
    """The same items; how many of the total there have been is told every few seconds."""
    start = last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last > _TOLD_EVERY:
            log(f"{count} of {total} {called}, {(now - start) / count * (total - count) / 60:.1f} min left")
            last = now
