"""A predictor as one file that JAX alone runs: StableHLO, by `jax.export`."""

import jax
import numpy as np
from jax import export as jax_export

from vidpred_jax.data import fusion
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.inference.system import make_predict
from vidpred_jax.types import HORIZON, UserError

PLATFORMS = "cpu", "cuda", "tpu"


def export(
    predictor: Predictor, horizon: int = HORIZON, platforms: tuple[str, ...] = PLATFORMS
) -> tuple[bytes, list[str]]:
    """(the file, what it takes) of `frames -> the horizon frames after them`, for any number b of clips.

    The file takes uint8 frames (b, context, h, w, 3), h and w of `Predictor.size`, and, where the prediction
    reads maps, uint8 planes (b, context, h, w, 2): edges (0 or 255) and labels, as of
    `pipeline.to_batch_element`. It gives uint8 (b, horizon, h, w, 3). Weights are inside. Raises UserError
    without flatbuffers.
    """
    system, variables = predictor.system, jax.tree.map(np.asarray, predictor.system.variables)
    predict = make_predict(system, horizon, finish=fusion.to_uint8, fields=("frames",))
    (b,) = jax_export.symbolic_shape("b")

    def shaped(channels):
        return jax.ShapeDtypeStruct((b, system.context, *system.size, channels), np.uint8)

    def of_both(frames, planes):
        return predict(variables, {"frames": frames, "planes": planes})["frames"]

    def of_frames(frames):
        return of_both(frames, jax.numpy.zeros((*frames.shape[:-1], 2), np.uint8))

    with jax.enable_x64(False):
        exported = jax_export.export(jax.jit(of_both), platforms=platforms)(shaped(3), shaped(2))
        takes = [("frames", "planes")[i] for i in exported.module_kept_var_idx]
        if takes == ["frames"]:
            exported = jax_export.export(jax.jit(of_frames), platforms=platforms)(shaped(3))
    try:
        return bytes(exported.serialize()), takes
    except ImportError as error:
        raise UserError("StableHLO files need: pip install 'vidpred_jax[export]'") from error
