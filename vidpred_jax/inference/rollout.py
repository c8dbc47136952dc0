"""Prediction of any horizon: the stage-1 network fed with its own output, inside one loop."""

import functools

import jax
import jax.numpy as jnp

from vidpred_jax.data import fusion


def make_rollout(
    model,
    horizon: int,
    *,
    quantize_labels: int = 0,
    translate=None,
    finish=lambda pictures: pictures,
):
    """A function `(params, context) -> pictures` to jit.

    model: a UNet3d. context: (b, 16, h, w, 3) fusion pictures in [-1, 1]. pictures: (b, horizon,
    h, w, 3). Memory beyond the output does not grow with the horizon.

    With `translate(variables, pictures (b, t, h, w, 3), references, ahead (b, t)) -> frames`, a
    Generator's `apply`, the function is `(params, context, variables, references) -> (pictures,
    frames)`: each call's new pictures are translated inside the scan. references: (b, n, h, w, 6).

    quantize_labels: 0, or how many labels (background included) new frames are snapped to.

    finish: what is done to pictures and frames before they are kept, element by element, such as
    `fusion.to_uint8`; what the network sees of its own output stays as it was.

    The function's `needed` (an integer, None: all) is how many steps are wanted: those of later calls
    stay 0.
    """
    shift = model.shift

    def rollout(params, context, *translation, needed=None):
        apply = functools.partial(model.apply, {"params": params})

        # However much is fed back, what was observed is remembered.
        observed = model.observe(context)

        def predict(window, call):
            memory = (
                {} if observed is None else {"observed": observed, "frame_offset": call * shift}
            )
            new = apply(window, **memory)[:, -shift:]
            if quantize_labels:
                new = fusion.quantize(new, quantize_labels)
            window = jnp.concatenate([window[:, shift:], new], 1)
            # Read back from the window, as a slice from its end on is: XLA:CPU would otherwise
            # compute the frames once for the window and once for what is kept.
            new = jax.lax.dynamic_slice_in_dim(window, window.shape[1] + call, shift, axis=1)
            found = (new,)
            if translate is not None:
                variables, references = translation
                ahead = jnp.tile(call * shift + jnp.arange(1.0, shift + 1), (len(context), 1))
                found += (translate(variables, new, references, ahead),)
            return window, jax.tree.map(finish, found)

        def feed(call, carry):
            window, kept = carry
            window, found = predict(window, call)
            place = functools.partial(_place, start=call * shift)
            return window, jax.tree.map(place, kept, found)

        kept = (_empty((len(context), horizon, *context.shape[2:]), finish),)
        if translate is not None:  # Frames are of the size of the frames that were observed.
            kept += (_empty((len(context), horizon, *translation[1].shape[2:4], 3), finish),)
        calls = -(-(horizon if needed is None else needed) // shift)
        _, kept = jax.lax.fori_loop(0, calls, feed, (context, kept))
        return kept if translate is not None else kept[0]

    return rollout


def translate_pictures(translate, variables, pictures, references, finish=lambda frames: frames):
    """RGB frames of known fusion pictures (b, t, h, w, 3), uint8 or in [-1, 1], the steps 1 to t
    after the references; `finish` as of `make_rollout`.

    One step at a time: memory beyond the output does not grow with t.
    """

    def step(kept, i):
        ahead = jnp.full((len(pictures), 1), i + 1.0)
        picture = jax.lax.dynamic_slice_in_dim(pictures, i, 1, axis=1)
        if picture.dtype == jnp.uint8:
            picture = fusion.to_float(picture)
        return _place(kept, finish(translate(variables, picture, references, ahead)), i), None

    kept = _empty((*pictures.shape[:2], *references.shape[2:4], 3), finish)
    return jax.lax.scan(step, kept, jnp.arange(pictures.shape[1]))[0]


def references(frames, pictures, n: int):
    """The last n observed frames with their fusion pictures: (b, n, h, w, 6); n may be 0."""
    t = frames.shape[1]
    return jnp.concatenate([frames[:, t - n :], pictures[:, t - n :]], -1)


def _empty(shape, finish):
    """Where finished pictures are kept."""
    return jnp.zeros(shape, jax.eval_shape(finish, jax.ShapeDtypeStruct((), jnp.float32)).dtype)


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
