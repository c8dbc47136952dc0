"""A run of stage `direct` as a predictor: observed RGB frames in, future RGB frames out, no stages."""

import os

import jax
import numpy as np

from vidpred_jax.checkpoints import restore
from vidpred_jax.config import parse
from vidpred_jax.data import fusion
from vidpred_jax.inference import networks, rollout
from vidpred_jax.models import build
from vidpred_jax.types import CONTEXT, HORIZON, InputError


class DirectPredictor:
    """`predict_batch()` for prepared clips, as `predictor.Predictor` has it.

    Attributes: runs (the one run folder), config, height and width of what it predicts, frame_size.
    """

    def __init__(self, run: str | os.PathLike):
        run = os.fspath(run)
        meta = restore.read_meta(run)
        if meta["stage"] != "direct":
            raise InputError(f"{run!r} holds a {meta['stage']} run; a direct run is needed")
        self.runs, self.config = [run], parse(meta["config"])
        self.height, self.width = (self.config["data"][side] for side in ("height", "width"))
        self.frame_size = self.height, self.width
        self._network, self._variables = networks.load_generator(run)
        self._rolls = {}

    def predict_batch(self, elements: list[dict], horizon: int = HORIZON):
        """(None, frames uint8 (n, horizon, h, w, 3)) of clips whose `frames` are uint8 (16, h, w, 3)."""
        if horizon not in self._rolls:
            roll = rollout.make_rollout(self._network, horizon, finish=fusion.to_uint8)
            self._rolls[horizon] = jax.jit(roll)
        frames = np.stack([e["frames"][:CONTEXT] for e in elements])
        with build.numerics(self.config):
            found = self._rolls[horizon](self._variables["params"], fusion.to_float(frames))
        return None, np.asarray(found)
