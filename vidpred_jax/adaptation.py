"""Test-time adaptation: a translator trained on for a moment on the observed frames of a clip itself.

Ours; after test-time training (Sun et al. 2020). What is yet to come is not looked at: an earlier part
of the 16 observed frames plays the context, frames after it the future. It teaches the next few
frames; of the far ones so short a clip tells nothing.
"""

import jax
import jax.numpy as jnp
import optax

from vidpred_jax import fusion, losses, steps
from vidpred_jax.types import CONTEXT, InputError

LEAST_SEEN = (
    CONTEXT // 2 + 1
)  # Frames that play the context, at least; at most so many that `_TARGETS` remain.
_TARGETS = 3
_RATE = 4e-4  # At first; it falls as a cosine.


def make_adapt(model, loss: dict, num_steps: int):
    """A function `(params, others, frames, pictures) -> params` to jit, for one clip.

    model: a network as `translator.Generator`. loss: `loss` of its run's config; of it l1, psnr and
    ssim count. others: the variables besides its parameters. frames, pictures: uint8 (16, h, w, 3).
    Each step sees another part of them, backwards or mirrored by chance. Raises InputError if the loss has
    none of its parts.
    """
    weights = {name: loss.get(name, 0.0) for name in ("l1", "psnr", "ssim")}
    if not any(weights.values()):
        raise InputError(f"adaptation needs a loss of l1, psnr or ssim; the run's are {loss}")
    rate = optax.cosine_decay_schedule(_RATE, num_steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))

    def loss_fn(params, others, references, pictures, ahead, target):
        pred = model.apply({"params": params, **others}, pictures, references, ahead)
        parts = {
            "l1": losses.l1(pred, target),
            "psnr": -losses.psnr(pred, target) / 10,
            "ssim": losses.ssim_loss(pred, target),
        }
        return sum(weights[name] * part.mean() for name, part in parts.items() if weights[name])

    def adapt(params, others, frames, pictures):
        clip = fusion.to_float(jnp.stack([frames, pictures]))

        def step(carry, key):
            params, opt_state = carry
            grads = jax.grad(loss_fn)(params, others, *_draw(key, clip, model.reference_frames))
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        keys = jax.random.split(jax.random.key(0), num_steps)
        return jax.lax.scan(step, (params, tx.init(params)), keys)[0][0]

    return adapt


def _draw(key, clip, num_references):
    """(references, pictures, ahead, target frames) of a random part of clip (2, 16, h, w, 3)."""
    count_key, target_key, *keys = jax.random.split(key, 6)
    turns = [lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: x[:, :, :, ::-1]]
    if clip.shape[2] == clip.shape[3]:
        turns.append(lambda x: x.swapaxes(2, 3))
    for turn, turn_key in zip(turns, keys, strict=False):
        clip = jnp.where(jax.random.bernoulli(turn_key), turn(clip), clip)
    count = jax.random.randint(count_key, (), LEAST_SEEN, CONTEXT - _TARGETS + 1)
    # Missing frames are the beginning backwards, as of `evaluated_runs.fill_context`.
    context = clip[:, jnp.abs(jnp.arange(CONTEXT) - (CONTEXT - count))]
    possible = jnp.arange(1, CONTEXT - LEAST_SEEN + 1)
    chance = (possible <= CONTEXT - count).astype(jnp.float32)
    ahead = jax.random.choice(target_key, possible, (_TARGETS,), False, chance / chance.sum())
    frames, pictures = clip[:, count - 1 + ahead]
    references = steps.references(*context[:, None], num_references)
    return references, pictures[None], ahead[None].astype(jnp.float32), frames[None]
