"""A predictor as one file that JAX alone runs: StableHLO, by `jax.export`."""

import functools

import jax
import numpy as np
from jax import export as jax_export

from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.inference.system import make_predict
from vidpred_jax.types import HORIZON, UserError

PLATFORMS = "cpu", "cuda", "tpu"


def export(
    predictor: Predictor, horizon: int = HORIZON, batch: int | None = None, platforms=PLATFORMS
) -> tuple[bytes, list[str]]:
    """(the file, what it takes) of `frames -> the horizon frames after them`, for a batch of b clips.

    batch: b; None: any, predicted one after the other. Compiled otherwise than in the package, one value in
    some hundred thousand, next to a half, may be rounded otherwise.

    The file takes uint8 frames (b, context, h, w, 3), h and w of `Predictor.size`, and, where the prediction
    reads maps, uint8 planes (b, context, h, w, 2): edges (0 to 255) and labels, as of
    `pipeline.to_batch_element`. It gives uint8 (b, horizon, h, w, 3). Weights are inside. Raises UserError
    without flatbuffers.
    """
    system, variables = predictor.system, jax.tree.map(np.asarray, predictor.system.variables)
    predict = make_predict(system, horizon, fields=("frames",))
    (b,) = jax_export.symbolic_shape("b")

    def shaped(b):
        return [jax.ShapeDtypeStruct((b, system.context, *system.size, c), np.uint8) for c in (3, 2)]

    def of_clips(frames, planes):
        held = jax.lax.optimization_barrier(variables)  # Folded as constants, they round otherwise.
        return predict(held, {"frames": frames, "planes": planes})["frames"]

    def together(frames, planes=None):
        return of_clips(frames, np.zeros((*frames.shape[:-1], 2), np.uint8) if planes is None else planes)

    def one_by_one(*given):
        return jax.lax.map(lambda clip: together(*(x[None] for x in clip))[0], given)

    with jax.enable_x64(False):
        export = functools.partial(jax_export.export, platforms=platforms)
        reads_maps = len(export(jax.jit(of_clips))(*shaped(1)).module_kept_var_idx) == 2
        taken = shaped(batch or b)[: 1 + reads_maps]
        exported = export(jax.jit(together if batch else one_by_one))(*taken)
    try:
        return bytes(exported.serialize()), ["frames", "planes"][: 1 + reads_maps]
    except ImportError as error:
        raise UserError("StableHLO files need: pip install 'vidpred_jax[export]'") from error
