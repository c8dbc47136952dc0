"""Test-time adaptation: what a clip's own frames teach, and that nothing else is seen or changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax import adaptation, evaluated_runs, fusion, losses, steps
from vidpred_jax.models.translator import Generator
from vidpred_jax.types import InputError

_LOSS = dict(l1=1.0, ssim=0.5, adversarial=0.1, gan="bce")


def _clip(side=16):
    """A colour that brightens from frame to frame, and its fusion pictures."""
    shade = np.arange(16, dtype=np.uint8)[:, None, None, None] * 8 + 40
    frames = np.broadcast_to(shade, (16, side, side, 3)).copy()
    frames[..., 0] = 200
    pictures = np.zeros_like(frames)
    pictures[:, : side // 2] = 255
    return frames, pictures


def _generator():
    model = Generator(widths=(8, 8), norm="group", reference_frames=2)
    inputs = jnp.zeros((1, 1, 16, 16, 3)), jnp.zeros((1, 2, 16, 16, 6)), jnp.ones((1, 1))
    return model, model.init(jax.random.key(0), *inputs)["params"]


def test_adapting_lowers_the_error_on_frames_after_those_it_saw():
    model, params = _generator()
    frames, pictures = _clip()
    adapt = jax.jit(adaptation.make_adapt(model, _LOSS, 150))
    adapted = adapt(params, {}, frames[:16], pictures[:16])
    floats = [fusion.to_float(jnp.asarray(x))[None] for x in (frames, pictures)]
    references = steps.references(*(x[:, :12] for x in floats), 2)

    def error(params):
        ahead = jnp.arange(1.0, 5.0)[None]
        pred = model.apply({"params": params}, floats[1][:, 12:], references, ahead)
        return float(losses.l1(pred, floats[0][:, 12:])[0])

    assert error(adapted) < 0.7 * error(params)
    again = adapt(params, {}, frames[:16], pictures[:16])
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), adapted, again))


def test_what_is_drawn_is_a_context_of_the_clip_and_frames_after_it():
    # Frame i is i everywhere but in its corner: turned clips show where the corner went.
    numbers = jnp.broadcast_to(jnp.arange(16.0)[:, None, None, None], (16, 4, 4, 3))
    clip = jnp.stack([numbers, numbers + 100]).at[:, :, 0, 0].set(-1)
    draw = jax.jit(lambda key: adaptation._draw(key, clip, 16))
    counts, corners, backward = set(), set(), set()
    for seed in range(60):
        references, pictures, ahead, target = draw(jax.random.key(seed))
        order = np.asarray(references[0, :, 1, 1, 0])
        sign = int(np.sign(order[-1] - order[-2]))
        newest = int(order[-1])
        count = newest + 1 if sign > 0 else 16 - newest
        plain = np.arange(16) if sign > 0 else np.arange(16)[::-1]
        # The mirrored start is that of the evaluation.
        element = {"frames": plain[:count].reshape(-1, 1, 1, 1)}
        (filled,) = evaluated_runs.fill_context([element], count)
        assert order.tolist() == filled["frames"].ravel().tolist()
        assert (references[..., 3:] - references[..., :3])[0, :, 1, 1].tolist() == [
            [100.0] * 3
        ] * 16
        assert sorted(set(np.asarray(ahead[0]))) == sorted(np.asarray(ahead[0]))
        assert np.array_equal(target[0, :, 1, 1, 0], newest + sign * ahead[0])
        assert np.array_equal(pictures[0, :, 1, 1, 0], target[0, :, 1, 1, 0] + 100)
        assert 1 <= ahead.min() and count + ahead.max() <= 16
        counts.add(count)
        backward.add(sign)
        corners.add(tuple(np.argwhere(np.asarray(target[0, 0, :, :, 0]) == -1)[0].tolist()))
    assert counts == set(range(9, 14)) and backward == {1, -1}
    assert corners == {(0, 0), (0, 3), (3, 0), (3, 3)}


def test_a_run_without_a_loss_of_pixels_is_refused():
    model, _ = _generator()
    with pytest.raises(InputError, match="adaptation needs a loss of l1, psnr or ssim"):
        adaptation.make_adapt(model, dict(l1=0.0, adversarial=1.0), 3)
