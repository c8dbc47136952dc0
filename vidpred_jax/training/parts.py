"""What a stage's role brings to an experiment."""

import dataclasses
from collections.abc import Callable

from vidpred_jax.training.state import TrainState


@dataclasses.dataclass
class Parts:
    """state, step, predict, needs_future, freeze, beside, judge: as of `experiment.Experiment`.

    future_frames: how many frames after the context a training window must have. inputs: the fields of
    its batches. proposals: that are frozen in the state, by name. needs_validation: whether it cannot be
    trained without validation windows.
    """

    state: TrainState
    step: Callable
    predict: Callable
    future_frames: int
    inputs: tuple[str, ...]
    needs_future: tuple[str, ...] = ()
    freeze: Callable = lambda current, windows: {}
    beside: dict = dataclasses.field(default_factory=dict)
    proposals: dict = dataclasses.field(default_factory=dict)
    needs_validation: bool = False
    judge: Callable | None = None
