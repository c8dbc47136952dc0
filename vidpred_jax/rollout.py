"""Prediction of any horizon: the stage-1 network fed with its own output, inside one `lax.scan`."""

import functools

import jax
import jax.numpy as jnp

from vidpred_jax import fusion


def advance(apply, window, shift: int, snap_labels: int = 0):
    """One call of the network: (the window moved on by `shift` frames, the new frames).

    snap_labels: 0, or how many labels (background included) new frames are snapped to.
    """
    new = apply(window)[:, -shift:]
    if snap_labels:
        new = fusion.snap(new, snap_labels)
    return jnp.concatenate([window[:, shift:], new], 1), new


def make_rollout(model, horizon: int, *, snap_labels: int = 0, translate=None):
    """A function `(params, context) -> pictures` to jit.

    model: a UNet3d. context: (b, 16, h, w, 3) fusion pictures in [-1, 1]. pictures: (b, horizon,
    h, w, 3). Memory beyond the output does not grow with the horizon.

    With `translate(variables, pictures (b, t, h, w, 3), references, ahead (b, t)) -> frames`, a
    Generator's `apply`, the function is `(params, context, variables, references) -> (pictures,
    frames)`: each call's new pictures are translated inside the scan. references: (b, n, h, w, 6).
    """
    shift = model.shift
    calls = -(-horizon // shift)

    def join(x):  # (calls, b, shift, ...) -> (b, horizon, ...)
        x = jnp.moveaxis(x, 0, 1)
        return x.reshape(x.shape[0], calls * shift, *x.shape[3:])[:, :horizon]

    def rollout(params, context):
        apply = functools.partial(model.apply, {"params": params})
        feed = lambda window, _: advance(apply, window, shift, snap_labels)
        return join(jax.lax.scan(feed, context, None, length=calls)[1])

    def rollout_and_translate(params, context, translator_variables, references):
        apply = functools.partial(model.apply, {"params": params})

        def feed(window, call):
            window, new = advance(apply, window, shift, snap_labels)
            ahead = jnp.tile(call * shift + jnp.arange(1.0, shift + 1), (len(context), 1))
            return window, (new, translate(translator_variables, new, references, ahead))

        pictures, frames = jax.lax.scan(feed, context, jnp.arange(calls))[1]
        return join(pictures), join(frames)

    return rollout if translate is None else rollout_and_translate


def translate_pictures(translate, variables, pictures, references):
    """RGB frames of known fusion pictures (b, t, h, w, 3), the steps 1 to t after the references.

    One step at a time: memory beyond the output does not grow with t.
    """

    def step(i):
        ahead = jnp.full((len(pictures), 1), i + 1.0)
        picture = jax.lax.dynamic_slice_in_dim(pictures, i, 1, axis=1)
        return translate(variables, picture, references, ahead)[:, 0]

    return jnp.moveaxis(jax.lax.map(step, jnp.arange(pictures.shape[1])), 0, 1)
