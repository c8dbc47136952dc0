"""Proposals fitted, and networks trained over them: found, carried, resumed and refused."""

import dataclasses
import shutil

import chex
import jax
import numpy as np
import pytest
from smoke import get_config, restored
from test_networks_count import check_silence, predict, without

from vidpred_jax import stages, train
from vidpred_jax.checkpoints import restore
from vidpred_jax.checkpoints import runs as runs_of
from vidpred_jax.data import fusion, pipeline
from vidpred_jax.evaluation import ablations
from vidpred_jax.inference import loading, networks
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.inference.system import System
from vidpred_jax.training import earlier
from vidpred_jax.types import InputError

OVER = {"proposals": ["scene"], "optimizer__schedule": "constant", "evaluation__clips": 0}


def run(config, folder, **fields):
    lines = []
    train.train({**config, **fields}, folder, log=lines.append)
    return lines


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data_dir):
    """A folder with the proposal `scene`, and stages 1 and 2 over it, two steps each."""
    folder, over = tmp_path_factory.mktemp("over"), {**OVER, "num_steps": 2}
    run(get_config("proposal", data_dir, num_steps=2), folder / "scene")
    run(get_config("fusion", data_dir, **over), folder / "fusion")
    run(get_config("translator", data_dir, predicted_fraction=0.5, **over), folder / "translator")
    return folder


def test_networks_carry_the_numbers_of_their_proposals(runs, clip, tmp_path):
    scene = restored_inference(runs / "scene")["ema"]
    for stage in ("fusion", "translator"):
        meta = restore.read_meta(runs / stage)
        config, facts = meta["proposals"]["scene"]
        assert config["network"] == "scene" and facts["num_labels"] == 4
        assert meta["config"]["proposal_runs"] == [str(runs / "scene")]
        chex.assert_trees_all_equal(restored_inference(runs / stage)["proposals"]["scene"], scene)
    assert meta["config"]["fusion_run"] == str(runs / "fusion")
    # So they predict where the proposal's own run is gone.
    for stage in ("fusion", "translator"):
        shutil.copytree(runs / stage, tmp_path / stage)
    element = pipeline.to_batch_element(clip, (32, 32))
    seen = [{field: x[:16] for field, x in element.items()}]
    pair = loading.load(tmp_path / "fusion", tmp_path / "translator")
    pictures, frames = pair.predict_batch(seen, 9)
    assert frames.shape == pictures.shape == (1, 9, 32, 32, 3)
    # After two steps they add little to what the proposal alone predicts, but something.
    alone = loading.load(runs / "scene").predict_batch(seen, 9)
    difference = np.abs(frames - alone[1].astype(int))
    assert 0 < difference.mean() < 12


def test_later_stages_without_proposals_of_their_own_stand_behind_them(runs, tmp_path, data_dir):
    """Stage 2 alone behind a stage 1 over `scene`; stage 3 behind a pair over it. Both predict."""
    behind = {"fusion_run": str(runs / "fusion"), "predicted_fraction": 1.0, "num_steps": 1}
    config = get_config("translator", data_dir, evaluation__clips=0, **behind)
    run(config, tmp_path / "translator")
    pair = loading.load(runs / "fusion", tmp_path / "translator")
    assert set(pair.system.proposals) == {"scene"} and not pair.system.translate.proposals
    behind |= {"translator_run": str(runs / "translator"), "reference_steps": 1}
    run(get_config("accompanying", data_dir, evaluation__clips=1, **behind), tmp_path / "third")
    whole = loading.load(runs / "fusion", runs / "translator", tmp_path / "third")
    assert whole.system.sharpen is not None and set(whole.system.proposals) == {"scene"}


def restored_inference(folder):
    return restore.read_whole(restore.step_folder(folder, None), restore.read_meta(folder))


def test_silent_networks_over_a_proposal_give_the_proposal(runs):
    pair = loading.load(*(runs / stage for stage in ("fusion", "translator")))
    check_silence(pair)
    frames = predict(pair)[1]
    assert (frames != predict(without(pair, "fusion", "translator"))[1]).any()


@pytest.mark.parametrize("stage", ["proposal", "translator"])
def test_resume_over_proposals_equals_unbroken_bit_for_bit(stage, runs, tmp_path, data_dir):
    names = {"proposal_runs": [str(runs / "scene")], "fusion_run": str(runs / "fusion")}
    extra = {**OVER, **names, "predicted_fraction": 0.5}
    if stage != "translator":
        extra = {k: v for k, v in extra.items() if k not in ("fusion_run", "predicted_fraction")}
    if stage == "proposal":
        extra = {k: v for k, v in extra.items() if not k.startswith("proposal")}
    whole = get_config(stage, data_dir, num_steps=3, **extra)
    run(whole, tmp_path / "whole")
    run(whole, tmp_path / "broken", num_steps=1)
    assert any("at step 1" in line for line in run(whole, tmp_path / "broken"))
    (first, one), (second, other) = (restored(whole, tmp_path / x) for x in ("whole", "broken"))
    chex.assert_trees_all_equal(first, second)
    assert one["data_state"] == other["data_state"] and one["digests"] == other["digests"]


def test_a_blend_trains_and_predicts_at_any_size(tmp_path, data_dir, clip):
    config = get_config("proposal", data_dir, "smoke_blend", num_steps=1, evaluation__clips=0)
    assert any("proposal: 148 parameters" in line for line in run(config, tmp_path / "blend"))
    predictor = loading.load(tmp_path / "blend", size=(64, 64))
    found = predictor.predict(clip.frames[:16], clip.labels[:16], 3)
    assert found.frames.shape == found.fusion.shape == (3, 64, 64, 3)


@pytest.fixture(scope="module")
def clear(tmp_path_factory, data_dir):
    """Stage 2 over a clear `flow_blend`, without stage 1."""
    folder = tmp_path_factory.mktemp("clear")
    run(get_config("proposal", data_dir, "smoke_blend", num_steps=1, evaluation__clips=0), folder / "blend")
    over = {**OVER, "proposals": ["flow_blend"], "proposal_clarity": 1.0, "proposal_dropout": 0.0}
    over |= {"fusion_run": "none", "predicted_fraction": 1.0, "num_steps": 2, "evaluation__clips": 1}
    lines = run(get_config("translator", data_dir, **over), folder / "translator")
    assert any("validation at step 2" in line and " dB" in line for line in lines)
    return folder


def test_stage_2_over_a_proposal_alone_mixes_its_frames_with_the_mean(clear, clip):
    ours, blend = (loading.load(clear / name) for name in ("translator", "blend"))
    assert ours.clarity == 1 and runs_of.newest_pair(clear) == (str(clear / "translator"),)
    assert restore.read_meta(clear / "translator")["proposals"]["flow_blend"][0]["model"]["clarity"] == 1
    element = pipeline.to_batch_element(clip, (32, 32))
    seen = [{field: x[:16] for field, x in element.items()}]
    at = lambda predictor, clarity: predictor.at_clarity(clarity).predict_batch(seen, 9, exact=True)[1]
    one, mean, sharp = at(ours, 1.0), at(blend, 0.0), at(blend, 1.0)
    np.testing.assert_array_equal(at(ours, 0.0), mean)
    np.testing.assert_allclose(at(ours, 0.25), 0.75 * mean + 0.25 * one, atol=2e-3)
    assert 0 < np.abs(one - sharp).mean() < 12 < np.abs(mean - sharp).max()
    rows = ablations.variants("ours", ours, 9, ablate=True, other=lambda element: element)
    assert {"ours, no networks", "ours, true fusion", "ours, shuffled fusion"} < set(rows)
    np.testing.assert_array_equal(
        rows["ours, no networks"].predict(seen)["frames"][0], fusion.quantize(sharp[0])
    )


def test_runs_over_one_proposal_at_two_clarities_are_refused(clear):
    network = networks.load(clear / "translator")
    mean = {name: proposal.at_clarity(0.0) for name, proposal in network.proposals.items()}
    first = dataclasses.replace(network, stage=stages.get("fusion"), proposals=mean)
    with pytest.raises(InputError, match="add to different proposals 'flow_blend'"):
        System.of(first, network)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"proposals": ["flow_blend"]}, "proposals .flow_blend.: no run of flow_blend fitted on"),
        (
            {"proposals": ["scene"], "proposal_runs": ["a", "b"]},
            r"proposal_runs \(a, b\) must name a run for each of proposals \(scene\)",
        ),
        ({"proposals": "scene"}, r"proposals \('scene'\) must be a list of at most 32 names"),
        ({"proposals": ["scene"], "model__outputs": 16}, "equal to model.shift"),
        ({"proposals": ["scene"], "context": 10}, "observes 16 frames, not 10"),
        ({"proposal_dropout": 1.5}, r"proposal_dropout \(1.5\) must be 0 to 1"),
    ],
)
def test_refusals(fields, message, runs, data_dir):
    config = get_config("fusion", data_dir, **fields)
    with pytest.raises(InputError, match=message):
        run(config, runs / "new")
    assert not (runs / "new" / "config.json").exists()


def test_a_run_of_another_proposal_or_stage_is_refused(runs, data_dir):
    for name, folder, message in (
        ("flow_blend", "scene", "holds scene, not flow_blend"),
        ("scene", "fusion", "holds a fusion run; a proposal run is needed"),
    ):
        fields = {"proposals": [name], "proposal_runs": [str(runs / folder)]}
        with pytest.raises(InputError, match=message):
            run(get_config("fusion", data_dir, **fields), runs / "new")


def test_a_proposal_that_knows_fewer_labels_than_the_data_is_refused(runs, data_dir):
    config = get_config("fusion", data_dir, proposals=["scene"], proposal_runs=[str(runs / "scene")])
    assert set(earlier.load_proposals(config, 4)) == {"scene"}
    with pytest.raises(InputError, match="scene' tells 4 labels apart, background included, the data have 9"):
        earlier.load_proposals(config, 9)


def test_stage_2_without_stage_1_needs_proposals(runs, data_dir):
    with pytest.raises(
        InputError, match=r"fusion_run \('none'\): without stage 1 maps are those of proposals"
    ):
        run(get_config("translator", data_dir, fusion_run="none", predicted_fraction=1.0), runs / "new")


def test_a_pair_over_different_proposals_is_refused(runs):
    first, second = (networks.load(runs / stage) for stage in ("fusion", "translator"))
    scene = second.proposals["scene"]
    other = dataclasses.replace(scene, params=jax.tree.map(lambda x: x + 1, scene.params))
    second = dataclasses.replace(second, proposals={"scene": other})
    with pytest.raises(InputError, match="add to different proposals 'scene'; train one behind"):
        Predictor(first, second)
