"""The optimizers that a config may name."""

import chex
import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from vidpred_jax.config import Optimizer
from vidpred_jax.training import muon, state


def test_optimizer_schedule():
    tx = state.make_optimizer(Optimizer(learning_rate=1.0, warmup_steps=2, b1=0.0), num_steps=4)
    params, sizes = jnp.zeros(1), []
    opt_state = tx.init(params)
    for _ in range(4):
        update, opt_state = tx.update(jnp.ones(1), opt_state, params)
        sizes.append(round(-float(update[0]), 3))
    assert sizes == [0.0, 0.5, 1.0, 0.5]


def test_muon_moves_a_kernel_by_a_nearly_orthogonal_matrix_and_the_rest_as_nadam_does():
    draw = lambda i, *shape: jax.random.normal(jax.random.key(i), shape)
    params = {
        "conv": {"kernel": draw(0, 3, 3, 4, 20), "bias": draw(1, 20)},
        "paint": {"kernel": draw(2, 1, 1, 20, 3)},
    }
    gradients = jax.tree.map(lambda x: x * jnp.linspace(0.5, 5, x.shape[-1]), params)
    options = Optimizer(kind="muon", learning_rate=0.1, schedule="constant", b1=0.9)
    tx = state.make_optimizer(options, num_steps=3)
    moves, _ = tx.update(gradients, tx.init(params), params)
    kernel, gradient = (x["conv"].pop("kernel").reshape(36, 20) for x in (moves, gradients))
    sizes = jnp.linalg.svd(kernel, compute_uv=False) / 0.1
    assert float(sizes.min()) > 0.6 and float(sizes.max()) < 1.3
    # Along the gradient: the nearest orthogonal matrix is u @ vt of its decomposition.
    u, _, vt = jnp.linalg.svd(-gradient, full_matrices=False)
    assert float((u * (kernel @ vt.T)).sum(0).min()) > 0.06
    params["conv"].pop("kernel")
    adam = optax.nadam(0.1, b1=0.9)
    chex.assert_trees_all_close(moves, adam.update(gradients, adam.init(params), params)[0], rtol=1e-5)


def test_muon_equals_optax_s_with_rows_scaled_first():
    draw = lambda i, *shape: {"kernel": jax.random.normal(jax.random.key(i), shape)}
    # Wide, long, square, one left to Adam.
    params = {"a": draw(0, 1, 20, 50), "b": draw(1, 3, 3, 4, 20), "c": draw(2, 24, 24), "d": draw(3, 8, 40)}
    inputs = {"a": (0, 1), "b": (0, 1, 2), "c": (0,)}
    numbers = {
        name: {"kernel": MuonDimensionNumbers(inputs[name], (len(inputs[name]),)) if name in inputs else None}
        for name in params
    }
    theirs = optax.contrib.muon(0.1, ns_steps=3, preconditioning="aol", muon_weight_dimension_numbers=numbers)
    ours = muon.muon(0.1, 0.9, 0.999)
    ours_state, theirs_state = ours.init(params), theirs.init(params)
    our_update, their_update = jax.jit(ours.update), jax.jit(theirs.update)
    for step in range(3):
        gradients = jax.tree.map(lambda x, step=step: jnp.cos(step + x), params)
        ours_moves, ours_state = our_update(gradients, ours_state, params)
        theirs_moves, theirs_state = their_update(gradients, theirs_state, params)
        chex.assert_trees_all_close(ours_moves, theirs_moves, atol=2e-5)
