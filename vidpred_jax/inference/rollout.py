"""Prediction of any horizon: a network fed with its own output, inside one loop."""

import functools

import jax
import jax.numpy as jnp

from vidpred_jax.data import fusion

_AT_ONCE = 8  # Known fusion pictures that are translated at once.


def make_rollout(
    model, horizon: int, *, quantize_labels: int = 0, finish=lambda pictures: pictures
):
    """A function `(params, context, translate=None, needed=None)` to jit.

    model: a network with `shift`, `observe(context)` and `apply`. context: (b, t, h, w, 3) in [-1, 1].
    The function gives (b, horizon, h, w, 3); memory beyond that does not grow with the horizon. With
    `translate(pictures (b, t, h, w, 3), steps_ahead (b, t)) -> frames` it gives (pictures, frames):
    each call's new pictures are translated inside the loop. needed: how many steps are wanted (None:
    all); those of later calls stay 0.

    quantize_labels: 0, or how many labels (background included) new
    pictures are quantized to. finish: applied, element by element, to what is kept, such as
    `fusion.to_uint8`; what is fed back stays as it was.
    """
    shift = model.shift

    def rollout(params, context, translate=None, needed=None):
        predict_clip = functools.partial(model.apply, {"params": params})
        length = context.shape[1]
        # What was observed is remembered, however much is fed back.
        observed = model.observe(context)

        def predict(window, call):
            memory = (
                {} if observed is None else {"observed": observed, "frame_offset": call * shift}
            )
            new = predict_clip(window, **memory)[:, -shift:]
            if quantize_labels:
                new = fusion.quantize(new, quantize_labels)
            window = jnp.concatenate([window[:, shift:], new], 1)
            # Read back from the window, as a slice from its end on is: XLA:CPU would otherwise
            # compute the frames once for the window and once for what is kept.
            new = jax.lax.dynamic_slice_in_dim(window, window.shape[1] + call, shift, axis=1)
            found = (new,)
            if translate is not None:
                steps_ahead = call * shift + jnp.arange(1.0, shift + 1)
                found += (translate(new, jnp.tile(steps_ahead, (len(context), 1))),)
            return window[:, -length:], jax.tree.map(finish, found)

        def feed(call, carry):
            window, kept = carry
            window, found = predict(window, call)
            place = functools.partial(_place, start=call * shift)
            return window, jax.tree.map(place, kept, found)

        shapes = jax.eval_shape(lambda window: predict(window, 0)[1], context)
        kept = tuple(jnp.zeros((x.shape[0], horizon, *x.shape[2:]), x.dtype) for x in shapes)
        calls = -(-(horizon if needed is None else needed) // shift)
        _, kept = jax.lax.fori_loop(0, calls, feed, (context, kept))
        return kept if translate is not None else kept[0]

    return rollout


def translate_pictures(translate, pictures, finish=lambda frames: frames):
    """RGB frames of known fusion pictures (b, t, h, w, 3), uint8 or in [-1, 1], steps 1 to t ahead.

    translate, finish: as of `make_rollout`. A few pictures at a time: memory beyond the output does not
    grow with t.
    """
    b, t = pictures.shape[:2]
    size = min(_AT_ONCE, t)

    def frames_at(start):
        some = jax.lax.dynamic_slice_in_dim(pictures, start, size, axis=1)
        some = fusion.to_float(some) if some.dtype == jnp.uint8 else some
        return finish(translate(some, jnp.tile(start + jnp.arange(1.0, size + 1), (b, 1))))

    def step(call, kept):
        start = jnp.minimum(call * size, t - size)  # The last ones reach back over earlier ones.
        return jax.lax.dynamic_update_slice_in_dim(kept, frames_at(start), start, axis=1)

    shape = jax.eval_shape(frames_at, 0)
    kept = jnp.zeros((b, t, *shape.shape[2:]), shape.dtype)
    return jax.lax.fori_loop(0, -(-t // size), step, kept)


def references(frames, pictures, n: int):
    """The last n observed frames with their fusion pictures: (b, n, h, w, 6); n may be 0."""
    t = frames.shape[1]
    return jnp.concatenate([frames[:, t - n :], pictures[:, t - n :]], -1)


def _place(kept, new, start):
    """`kept` (b, t, ...) with `new` (b, n, ...) from frame `start` on; what goes beyond t is cut."""
    length, n = kept.shape[1], min(new.shape[1], kept.shape[1])
    new, at = new[:, :n], jnp.minimum(start, length - n)
    if length % n:  # Where the last frames would reach beyond the end, those before stay.
        before = jax.lax.dynamic_slice_in_dim(kept, at, n, axis=1)
        over = start - at
        fresh = (jnp.arange(n) >= over).reshape(1, n, *[1] * (new.ndim - 2))
        new = jnp.where(fresh, jnp.roll(new, over, axis=1), before)
    return jax.lax.dynamic_update_slice_in_dim(kept, new, at, axis=1)
