"""SIGTERM and SIGINT ask for a stop: the step that runs is finished and saved first."""

import os
import signal
import threading

import jax
from jax.experimental import multihost_utils


class Interruption:
    """Within the block a first signal asks for a stop, a second ends the process at once.

    Several processes stop at the same step, whichever of them was asked: JAX watches SIGTERM there,
    and SIGINT is passed on as one.
    """

    def __init__(self):
        self._asked, self._before = None, {}
        self._together = jax.process_count() > 1

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python's rule for handlers.
            for number in (signal.SIGINT, *(signal.SIGTERM,) * (not self._together)):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, _):
        if self._asked is not None:
            os._exit(128 + number)
        self._asked = signal.Signals(number).name
        if self._together:
            os.kill(os.getpid(), signal.SIGTERM)

    def asked(self, step: int) -> str | None:
        """The signal that asked for a stop, or None; called by all processes, once a step."""
        if self._together and multihost_utils.reached_preemption_sync_point(step):
            return "SIGTERM"
        return None if self._together else self._asked
