"""The gates of `flow_blend`: how much each candidate is worth, by its step and its backtests."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.ops import exact_einsum
from vidpred_jax.proposals.backtest import NUM_LAGS
from vidpred_jax.proposals.candidates import NUM_CANDIDATES

_NEAR = 2.0  # Initial gate logit of the candidate moved along the first flow, one step ahead.
# Under Adam, the weights of backtests and the part of the prior that decays as 1 / steps_ahead learn
# this many times faster. The rest of the prior, many numbers for few data, stays close to zero.
_LR_MULTIPLIER = 10.0
_TRUST = -1.0  # Its softplus is the initial weight of each kind of backtest error.


class Gates(nn.Module):
    """Logits of all candidates: a prior by the step, minus the weighted errors of backtests.

    148 learned numbers. Steps count up to the horizon that they are fitted on.
    """

    @nn.compact
    def __call__(
        self, steps_ahead: Float[Array, "b t"], errors: dict[str, Float[Array, "b l k _ _"]]
    ) -> Float[Array, "b t k h w"]:
        """errors: as of `backtest.Observations`."""
        step = steps_ahead[..., None]
        features = jnp.concatenate([jnp.ones_like(step), step / 16 - 1, jnp.log(step) / 2], -1)

        def linear(n, scale, name):
            inputs = jnp.concatenate([scale * features, _LR_MULTIPLIER / step], -1)
            zeros = nn.initializers.zeros
            return nn.Dense(n, use_bias=False, kernel_init=zeros, name=name)(inputs)

        gates = linear(NUM_CANDIDATES, 1.0, "prior")
        gates += _NEAR / step * jax.nn.one_hot(0, NUM_CANDIDATES)
        gates = gates[..., None, None]
        for name, error in sorted(errors.items()):
            weight = jax.nn.softplus(linear(NUM_LAGS, _LR_MULTIPLIER, f"weight_{name}") + _TRUST)
            gates -= exact_einsum("btl,blkhw->btkhw", weight, error)
        return gates
