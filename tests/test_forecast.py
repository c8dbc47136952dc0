"""Confidence and the merging of forecasts, by hand; windows; and how many numbers proposals learn."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.proposals.fitted import PROPOSALS
from vidpred_jax.proposals.forecast import Forecast, Window, confidence, merge


def test_confidence_by_hand():
    error, copied = jnp.array([0.0, 2.0, 1.0, 0.0]), jnp.array([0.0, 2.0, 3.0, 1.0])
    found = confidence(error, copied)
    # 1e-4 is added to each error.
    np.testing.assert_allclose(found, [0.5, 0.5, 3.0001 / 4.0002, 1.0001 / 1.0002], rtol=1e-6)
    np.testing.assert_allclose(confidence(copied, error), 1 - found, atol=1e-6)
    gradients = jax.grad(lambda *errors: confidence(*errors).sum(), (0, 1))(error, copied)
    assert not any(gradient.any() for gradient in gradients)


def constant(frame, edge, label, *trust):
    """A forecast of one step and one row of pixels, alike but for their confidence."""
    shape = (1, 1, 1, len(trust))
    return Forecast(
        frames=jnp.full((*shape, 3), frame),
        edges=jnp.full(shape, edge),
        labels=jnp.full(shape, label, jnp.int32),
        confidence=jnp.array(trust).reshape(shape),
    )


def test_one_forecast_is_given_back_as_it_is():
    only = constant(0.3, 0.1, 2, 0.7, 1.0)
    assert merge([only]) is only


def test_two_forecasts_are_merged_by_their_odds():
    """0.75 and 0.5: odds of 3 to 1; 1 and 0.5: of very many; alike: the mean and the first's label."""
    first = constant(0.8, 1.0, 3, 0.75, 0.5, 0.5, 0.6)
    found = merge([first, constant(-0.4, 0.0, 1, 0.5, 0.75, 1.0, 0.6)])
    share = np.array([0.75, 0.25, 0.0, 0.5])
    np.testing.assert_allclose(found.edges[0, 0, 0], share, atol=2e-4)
    for channel in range(3):
        expected = 0.8 * share - 0.4 * (1 - share)
        np.testing.assert_allclose(found.frames[0, 0, 0, :, channel], expected, atol=3e-4)
    assert found.labels[0, 0, 0].tolist() == [3, 1, 1, 3] and found.labels.dtype == jnp.int32
    np.testing.assert_allclose(found.confidence[0, 0, 0], [0.75, 0.75, 1.0, 0.6])


def test_three_forecasts_are_merged_as_one_sum():
    """Odds of 4, 1 and 1/4."""
    parts = [constant(*part) for part in ((1.0, 1.0, 1, 0.8), (0.0, 0.0, 2, 0.5), (0.0, 1.0, 3, 0.2))]
    found = merge(parts)
    assert float(found.frames[0, 0, 0, 0, 0]) == pytest.approx(4 / 5.25, abs=2e-4)
    assert float(found.edges[0, 0, 0, 0]) == pytest.approx(4.25 / 5.25, abs=2e-4)
    assert found.labels.item() == 1 and found.confidence.item() == pytest.approx(0.8)


def numbered(frames, size=2):
    """A window whose frames, edges and labels hold the number of their frame."""
    number = jnp.broadcast_to(jnp.arange(frames)[None, :, None, None], (1, frames, size, size))
    return Window(jnp.repeat(number[..., None] * 0.1, 3, -1), number * 0.01, number)


def test_windows_are_cut_at_either_end():
    window = numbered(6)
    for cut, last in ((window.until(4), 3), (window.until(-1), 4)):
        assert cut.labels[0, :, 0, 0].tolist() == list(range(last + 1))
        chex.assert_trees_all_close(cut, numbered(last + 1))


def test_proposals_learn_few_numbers():
    """Whatever the size of frames: fitted once, they work for clips of any kind."""
    window, counts = numbered(16, 32), {}
    for name, kind in PROPOSALS.items():
        params = jax.eval_shape(kind().init, jax.random.key(0), window, jnp.ones((1, 2)))
        counts[name] = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert (counts["scene"], counts["flow_blend"]) == (14, 148)
    assert sum(counts.values()) <= 250
