"""Validation while a run trains: on which windows, and what is shown of them."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from smoke import get_config

from vidpred_jax.config import parse
from vidpred_jax.data import fusion, pipeline
from vidpred_jax.data.datasets import clips, registry
from vidpred_jax.models import build
from vidpred_jax.models.maps import Planes
from vidpred_jax.training import experiment, validation


@pytest.mark.parametrize(("stride", "starts"), [(0, [0]), (8, [0, 8, 16])])
def test_clips_are_counted_not_windows(stride, starts, data_dir):
    """All windows of the first clips: of 48 frames, three of 32 begin every 8."""
    config = get_config(
        "fusion", data_dir, evaluation__clips=2, evaluation__horizon=16, evaluation__stride=stride
    )
    lines = []
    found = validation.windows(config, lines.append)
    builder = registry.open_builder("sprites", data_dir=data_dir, config="tiny", log=lines.append)
    names = [clips.name(example) for example in list(clips.Source(builder, "validation"))[:2]]
    assert [(clip, start) for clip, start, _ in found] == [(n, s) for n in names for s in starts]
    assert lines[-1] == f"validation: {len(found)} windows of 32 frames, of 2 clips"
    assert all(element["frames"].shape == (32, 32, 32, 3) for _, _, element in found)


def test_short_clips_are_not_counted():
    """Of clips of 48, 40 and 48 frames the first two that are long enough are the first and third."""
    lengths = np.array([48, 40, 48, 48])

    class Source(list):
        names, num_frames = ["a", "b", "c", "d"], lengths

    made, source = [], Source(range(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "decode", lambda example, indices: (example, indices))
        patch.setattr(
            pipeline,
            "to_batch_element",
            lambda clip, *size: made.append(clip[0]) or {"frames": np.asarray(clip[1])},
        )
        size = {"wanted": [(8, 8)]}
        found = list(pipeline.evaluation_windows(source, num_frames=48, clips=2, **size))
    assert [clip for clip, _, _ in found] == ["a", "c"] and made == [0, 2]


def test_validation_shows_what_it_predicts_of_the_first_windows():
    """Of seventeen, which are predicted in two batches."""
    picture = np.zeros((18, 16, 16, 3), np.uint8)
    windows = [(f"clip {i}", 0, {"frames": picture, "fusion": picture + i}) for i in range(17)]
    # Brighter than the newest picture seen, each by its own share.
    predict = lambda state, seen: np.stack([2 * x["fusion"][-2:] for x in seen])
    made = types.SimpleNamespace(
        field="fusion", predict=predict, beside={}, needs_future=(), config={"context": 16}
    )
    summary, shown = validation.validate(made, {}, windows)
    assert [(x == 2 * i).all() for i, x in enumerate(shown)] == 3 * [True]
    assert summary["ours"]["psnr"]["mean"] < summary["copy_last"]["psnr"]["mean"]
    assert validation.validate(made, {}, []) == ({}, [])


def test_area_under_the_curve_by_hand():
    """Of six pairs four are in order and one is equal; all the other way round: none."""
    found = validation.area_under_curve(np.float32([[3, 1]]), np.float32([0, 1, 2]))
    assert found == pytest.approx((3 + 1.5) / 6)
    assert validation.area_under_curve(np.zeros(2), np.ones(3)) == 0


def test_the_discriminator_is_asked_about_all_windows():
    """Seventeen, in two batches; true frames score higher in all but one."""
    windows = [("clip", 0, {"frames": i}) for i in range(17)]
    score = lambda elements: np.float32([[float(e["frames"] != 3)] for e in elements])
    judge = lambda state, elements: (score(elements), 0.5 + 0 * score(elements))
    made = types.SimpleNamespace(judge=judge)
    assert validation.discriminate(made, {}, windows) == pytest.approx(16 / 17)
    assert validation.discriminate(made, {}, []) is None
    assert validation.discriminate(types.SimpleNamespace(judge=None), {}, windows) is None


def test_what_the_discriminator_is_shown(data_dir):
    """True frames, and those predicted of the true maps, beside these maps; its own means over patches."""
    config = get_config("translator", data_dir, evaluation__horizon=4)
    made = experiment.make(config)
    elements = [element for _, _, element in made.validation()]
    found = made.judge(made.state, elements)
    coming = slice(16, 20)
    seen = [{f: x if f in made.needs_future else x[:16] for f, x in e.items()} for e in elements]
    predicted = made.predict(made.state, seen)
    true = np.stack([e["frames"][coming] for e in elements])
    planes = jnp.asarray([e["planes"][coming] for e in elements])
    maps = Planes(made.facts["num_labels"]).encode(planes)
    discriminator = build.make_discriminator(build.network_fields(parse(config), "discriminator"))
    variables = {"params": made.state.params["d"], "batch_stats": made.state.batch_stats["d"]}
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    for scores, frames in zip(found, (true, predicted), strict=True):
        shown = flat(jnp.asarray(fusion.to_float(frames)))
        logits = discriminator.apply(variables, flat(maps), shown, False)[0][-1]
        expected = logits.mean((1, 2)).reshape(scores.shape)
        np.testing.assert_allclose(scores, expected, atol=2e-3)  # Predicted ones are rounded to 8 bits.
    assert np.abs(found[0] - found[1]).max() > 0.01 and found[0].shape == (len(elements), 4)
