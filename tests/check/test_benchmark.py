"""What benchmarks/benchmark.py prints, and that its peer computes the same."""

import importlib.util
import json
import pathlib
import sys

import jax
import pytest

from vidpred_jax.models.fusion_predictor import FusionPredictor
from vidpred_jax.models.translator import Translator
from vidpred_jax.types import UserError

SCRIPTS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    """Scripts find each other."""
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def benchmark(scripts):
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPTS / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stage", ["fusion", "translator"])
def test_torch_computes_the_same(stage, scripts):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")
    import torch_peer

    fields, shapes = {"widths": (8, 16), "time_strides": (2,)}, [(2, 16, 16, 16, 3)]
    module, flat = FusionPredictor(**fields), lambda x: x
    if stage == "translator":
        shapes = [(2, 1, 16, 16, 3), (2, 0, 16, 16, 6), (2, 1)]
        module, flat = Translator((8, 16), 0.0), lambda x: x[:, 0]
    inputs = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    variables = jax.jit(module.init)(jax.random.key(9), *inputs)
    peer = torch_peer.build(stage, fields, jax.device_get(variables["params"])).eval()
    found = torch_peer.to_array(peer(torch_peer.to_tensor(flat(inputs[0]))))
    expected = flat(jax.numpy.tanh(jax.jit(module.apply)(variables, *inputs)))
    assert abs(expected - found).max() < 1e-4


def test_report(benchmark, tmp_path, data_dir):
    from commands import run_many

    script = ("benchmarks/benchmark.py", f"--output={tmp_path}", f"--data_dir={data_dir}")
    small = ("--sizes=16", "--batch_size=1", "--repeats=1", "--horizon=2", "--widths=4,4")
    small = (*small, "--generator_widths=4,4", "--preset=smoke")
    both = (*script, *small, "--cases=stage_1_step", "--forms=fast,native")
    both = (*both, f"--output={tmp_path}/both")
    done, wrong, turns = run_many(tmp_path, [(*script, *small), (*script, "--cases=all"), both])
    assert done.returncode == turns.returncode == 0, done.stderr + turns.stderr
    assert wrong.returncode == 2 and "--cases ('all') must be some of stage_1_step" in wrong.stderr
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert [x["case"] for x in report["cases"]] == list(benchmark.CASES)
    for found in report["cases"]:
        assert found["milliseconds"] > 0 and found["convolutions"] == "fast"
    rollout = report["cases"][2]["mib_of_horizons"]
    assert rollout["32"]["output"] > 10 * rollout["2"]["output"]
    train = report["cases"][3]
    rate = train["batches_per_second"] * train["milliseconds"] / 1e3
    assert train["input_times_step_rate"] == pytest.approx(rate, abs=0.1)
    fast, native = json.loads((tmp_path / "both" / "benchmark.json").read_text())["cases"]
    assert (fast["convolutions"], native["convolutions"]) == ("fast", "native")
    assert fast["native_milliseconds"] == native["milliseconds"]
    for one, other, name in ((fast, native, "native"), (native, fast, "fast")):
        ratio = other["milliseconds"] / one["milliseconds"]
        assert one[f"times_{name}"] == pytest.approx(ratio, abs=0.02)


def test_calls_take_turns(benchmark):
    called = []
    calls = {name: lambda name=name: called.append(name) for name in ("fast", "native", "torch")}
    seconds = benchmark._time(calls, 2)
    assert called == 4 * ["fast", "native", "torch"]  # Two of them to warm up.
    assert [len(each) for each in seconds.values()] == [2, 2, 2]


def test_a_case_that_fails_does_not_end_the_others(benchmark, monkeypatch, tmp_path):
    def measure(case, size, precision, peer):
        if size == 64:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nand so on")
        return [{"case": case, "size": size, "precision": precision}]

    monkeypatch.setattr(benchmark, "_measure", measure)
    flags = ("--cases=rollout", "--sizes=64,128", f"--output={tmp_path}")
    benchmark.flags.FLAGS(["benchmark", *flags])
    with pytest.raises(UserError, match="1 of 2 cases failed, as benchmark.json tells"):
        benchmark.main(None)
    failed, measured = json.loads((tmp_path / "benchmark.json").read_text())["cases"]
    assert failed["error"] == "RuntimeError: RESOURCE_EXHAUSTED: Out of memory"
    assert (failed["size"], measured["size"]) == (64, 128) and "error" not in measured


def test_ablation_of_stage_3(trained, data_dir, tmp_path):
    from commands import succeed

    runs = [f"--{stage}={trained / stage}" for stage in ("fusion", "translator")]
    fields = {"num_steps": 4, "log_every": 2, "data.data_dir": data_dir}
    succeed(
        *("benchmarks/ablate.py", *runs, "--config=configs/accompanying.py:smoke"),
        *(f"--config.{k}={v}" for k, v in fields.items()),
        *("--seeds=3", "--pool=4", "--clips=2", "--metrics=psnr", f"--output={tmp_path / 'a'}"),
    )
    report = json.loads((tmp_path / "a" / "ablation.json").read_text())
    assert set(report["predictors"]["refiner"]["by_seed"]) == {"3"}
    sizes = [report["predictors"][n]["parameters"] for n in ("accompanying", "refiner")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2)
