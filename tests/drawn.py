"""Variables of a network for tests that do not ask how they begin: no compilation of its `init`."""

import jax
import numpy as np


def variables(module, *inputs, seed=1):
    """Of the shapes that `module.init` would give: scales and variances near 1, kernels as wide as their
    inputs ask for, the rest small."""
    rng = np.random.default_rng(seed)

    def draw(path, x):
        noise = rng.standard_normal(x.shape).astype(x.dtype)
        name = path[-1].key
        if name in ("scale", "var"):
            return 1 + 0.1 * np.clip(noise, -3, 3)
        return noise / np.sqrt(x.size / x.shape[-1]).astype(x.dtype) if name == "kernel" else 0.1 * noise

    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return jax.tree.map(jax.numpy.asarray, jax.tree_util.tree_map_with_path(draw, shapes))
