"""Muon (Jordan et al. 2024): the update of a convolution, as a matrix of inputs x outputs, is made nearly
orthogonal; of small ones and of other parameters it is Adam's with Nesterov momentum."""

import jax
import jax.numpy as jnp
import optax
import optax.contrib

_LEAST_SIDE = 16  # Of a kernel as a matrix that Muon updates.
_STEPS = 3
_POLYNOMIAL = 3.4445, -4.7750, 2.0315  # Jordan's, of odd powers 1, 3 and 5.


def muon(rate, b1: float, b2: float) -> optax.GradientTransformation:
    """optax's Muon with products of our own, which take less time on a CPU.

    rate: a schedule. b1, b2: of Adam. It learns more from a batch and costs some matrix products an
    update, whatever the batch.
    """
    # Of no steps: the momentum, its Frobenius norm the rate times a factor of its shape.
    scaled = optax.contrib.muon(
        rate, ns_steps=0, adam_b1=b1, adam_b2=b2, muon_weight_dimension_numbers=_matrices
    )

    def update(gradients, opt_state, params=None):
        moves, opt_state = scaled.update(gradients, opt_state, params)
        matrices = _matrices(gradients)
        return jax.tree.map(lambda x, axes: x if axes is None else _orthogonal(x), moves, matrices), opt_state

    return optax.GradientTransformation(scaled.init, update)


def _orthogonal(kernel):
    """The nearly orthogonal matrix along a kernel, times the kernel's Frobenius norm."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    found = nearest_orthogonal(wide)
    found = found if wide is matrix else found.T
    return jnp.linalg.norm(matrix) * found.reshape(kernel.shape)


def nearest_orthogonal(x):
    """About u @ vt of x = u @ diag(s) @ vt, for x (m, n), m <= n: singular values of .6 to 1.2 where s is
    above a thirtieth of the greatest, less where it is not.

    By Newton-Schulz steps, of which the scaling of rows in the first saves one ("almost orthogonal
    layers", Boissin et al. 2025). Where x is not square, all products but two are of (m, m).
    """
    m, n = x.shape
    gram = x @ x.T
    scale = jax.lax.rsqrt(jnp.maximum(jnp.abs(gram).sum(-1), 1e-30))
    x, gram = scale[:, None] * x, scale[:, None] * gram * scale
    a, b, c = _POLYNOMIAL
    factor = None
    for step in range(_STEPS):
        if m == n:
            gram = x @ x.T if step else gram
            x = a * x + (b * gram + c * (gram @ gram)) @ x
            continue
        p = a * jnp.eye(m) + b * gram + c * (gram @ gram)
        factor = p if factor is None else p @ factor
        if step < _STEPS - 1:
            gram = gram @ p @ p
    return x if factor is None else factor @ x


def _matrices(params):
    """Which axes of a kernel are inputs and outputs; None of what Muon leaves to Adam."""

    def axes(path, x):
        if path[-1].key != "kernel" or min(x.size // x.shape[-1], x.shape[-1]) < _LEAST_SIDE:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), (x.ndim - 1,))

    return jax.tree_util.tree_map_with_path(axes, params)
