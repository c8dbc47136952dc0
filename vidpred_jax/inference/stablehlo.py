"""A predictor as one file that JAX alone runs: StableHLO, by `jax.export`."""

import functools
import io

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

    batch: b; None: any, predicted one after the other. The file is an .npz without pickles: `module`, the
    bytes of a `jax.export.Exported`, and `weights_0000` on, its first arguments. After them it takes uint8
    frames (b, context, h, w, 3), h and w of `Predictor.size`, and, where the prediction reads maps, uint8
    planes (b, context, h, w, 2): edges (0 to 255) and labels, as of `pipeline.to_batch_element`. It gives
    uint8 (b, horizon, h, w, 3). Raises UserError without flatbuffers.
    """
    system = predictor.system
    weights, structure = jax.tree.flatten(jax.tree.map(np.asarray, system.variables))
    predict = make_predict(system, horizon, fields=("frames",))
    (b,) = jax_export.symbolic_shape("b")

    def shaped(b):
        clips = [jax.ShapeDtypeStruct((b, system.context, *system.size, c), np.uint8) for c in (3, 2)]
        return [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in weights], *clips

    def together(weights, frames, planes=None):
        planes = np.zeros((*frames.shape[:-1], 2), np.uint8) if planes is None else planes
        return predict(structure.unflatten(weights), {"frames": frames, "planes": planes})["frames"]

    def one_by_one(weights, *given):
        return jax.lax.map(lambda clip: together(weights, *(x[None] for x in clip))[0], given)

    with jax.enable_x64(False):
        export = functools.partial(jax_export.export, platforms=platforms)
        reads_maps = len(weights) + 1 in export(jax.jit(together))(*shaped(1)).module_kept_var_idx
        exported = export(jax.jit(together if batch else one_by_one))(*shaped(batch or b)[: 2 + reads_maps])
    try:
        module = np.frombuffer(exported.serialize(), np.uint8)
    except ImportError as error:
        raise UserError("StableHLO files need: pip install 'vidpred_jax[export]'") from error
    file = io.BytesIO()
    np.savez(file, module=module, **{f"weights_{i:04d}": x for i, x in enumerate(weights)})
    return file.getvalue(), ["frames", "planes"][: 1 + reads_maps]
