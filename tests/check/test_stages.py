"""A stage that the package does not know, and other numbers of observed frames, by the commands."""

import json

import numpy as np
import pytest
from commands import TRAIN, succeed


def test_a_fifth_stage_trains_resumes_rolls_out_and_is_evaluated(data_dir, tmp_path):
    """`toy_stage.py` registers it; nothing in the package changes."""
    toy, run = "tests/toy_stage.py", tmp_path / "toy"
    fields = {"data.data_dir": data_dir, "optimizer.schedule": "constant"}
    fields = [f"--config.{name}={value}" for name, value in fields.items()]
    train = (toy, *TRAIN, f"--config={toy}", f"--workdir={run}", *fields)
    succeed(*train, "--config.num_steps=3")
    out = succeed(*train)
    assert "at step 3" in out and "toy step 6/6" in out and "validation at step 6: ours" in out
    data = (f"--data_dir={data_dir}", "--data_config=tiny", "--horizon=4")
    out = succeed(toy, "scripts/rollout.py", f"--runs={run}", *data, f"--output={tmp_path / 'r'}")
    assert f"predicting with toy {run}" in out
    succeed(
        *(toy, "scripts/evaluate.py", f"--runs=ours={run}", *data, "--stride=48", "--metrics=psnr"),
        f"--output={tmp_path / 'e'}",
    )
    rolled = json.loads((tmp_path / "r" / "metrics.json").read_text())["predictors"]
    found = json.loads((tmp_path / "e" / "summary.json").read_text())["predictors"]
    assert set(found) == {"ours", "copy_last", "mean_context", "blur", "flow", "flow_blur"}
    values = [x["ours"]["psnr"]["per_step"] for x in (rolled, found)]
    np.testing.assert_allclose(*values, atol=2e-4)
    assert values[0][0] != found["copy_last"]["psnr"]["per_step"][0]


@pytest.mark.parametrize(("context", "horizon"), [(10, 10), (5, 32)])
def test_other_contexts(context, horizon, tmp_path, data_dir):
    """Both stages on drawn digits: trained, resumed, rolled out, evaluated."""
    fields = {
        **{"context": context, "evaluation.horizon": horizon, "optimizer.schedule": "constant"},
        **{"data.name": "moving_digits", "data.config": "tiny", "data.data_dir": data_dir},
    }
    fields = [f"--config.{name}={value}" for name, value in fields.items()]
    for stage in ("fusion", "translator"):
        command = (*TRAIN, f"--config=configs/{stage}.py:smoke", f"--workdir={tmp_path / stage}")
        more = [f"--config.data.future_frames={min(horizon, 32)}"] if stage == "translator" else []
        succeed(*command, *fields, *more, "--config.num_steps=2")
        out = succeed(*command, *fields, *more)
        assert "at step 2" in out and f"{stage} step 4/4" in out
    data = ("--data=moving_digits", "--data_config=tiny", f"--data_dir={data_dir}", f"--horizon={horizon}")
    runs = [str(tmp_path / stage) for stage in ("fusion", "translator")]
    succeed("scripts/rollout.py", f"--runs={','.join(runs)}", *data, f"--output={tmp_path / 'r'}")
    pair = f"--runs=ours={','.join(runs)}"
    succeed("scripts/evaluate.py", pair, *data, "--stride=48", "--metrics=psnr", f"--output={tmp_path / 'e'}")
    rolled = json.loads((tmp_path / "r" / "metrics.json").read_text())["predictors"]["ours"]
    summary = json.loads((tmp_path / "e" / "summary.json").read_text())
    assert f"{context} frames observed, {horizon} predicted" in summary["protocol"]
    values = [x["psnr"]["per_step"] for x in (rolled, summary["predictors"]["ours"])]
    assert len(values[0]) == horizon
    np.testing.assert_allclose(*values, atol=2e-4)
