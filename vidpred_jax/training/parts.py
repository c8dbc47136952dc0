"""What a stage's role brings to an experiment."""

import dataclasses
from collections.abc import Callable

from vidpred_jax.training.state import TrainState


@dataclasses.dataclass
class Parts:
    """step: `(state, batch, *, axis_name)`. predict: `(state, seen elements) -> (n, horizon, ...)`.

    future_frames: how many frames after the context a training window must have. inputs: the fields of
    its batches. needs_future: the future fields that `predict` is shown. freeze: `(state, windows) -> dict`,
    what prediction needs beside arrays, for the checkpoint. beside: further predictors `(state, seen)` that
    validation shows. proposals: that are frozen in the state, by name. needs_validation: whether it cannot be
    trained without validation windows. judge: `(state, whole elements) -> (scores of true frames, of
    predicted ones)` by the discriminator, (n, horizon) each; None without one.
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
