"""The commands as a user types them: files, tables, exit codes and one-line errors."""

import json

import numpy as np
import pytest
from commands import TRAIN, run, run_many, succeed
from PIL import Image

from vidpred_jax import video_io


@pytest.fixture(scope="module")
def video(tmp_path_factory, clip):
    """48 frames as a video file, with masks beside it."""
    folder = tmp_path_factory.mktemp("video")
    video_io.write_video(folder / "clip.avi", clip.frames)
    (folder / "masks").mkdir()
    for t, mask in enumerate(clip.labels):
        Image.fromarray(mask).save(folder / "masks" / f"{t:05d}.png")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data_dir):
    """Every stage trained by its command."""
    folder = tmp_path_factory.mktemp("cli") / "runs"
    data = f"--config.data.data_dir={data_dir}"
    for stage in ("fusion", "translator", "accompanying"):
        extra = ["--config.predicted_fraction=0.5"] if stage != "fusion" else []
        out = succeed(
            *TRAIN,
            f"--config=configs/{stage}.py:smoke",
            f"--workdir={folder / stage}",
            data,
            *extra,
        )
        assert f"{stage} step 4/4" in out and "validation at step 4: ours" in out
    return folder


def named(runs):
    return f"--fusion={runs / 'fusion'}", f"--translator={runs / 'translator'}"


def assert_files(folder, size, horizon):
    for name in ("prediction", "fusion"):
        for suffix in (".webm", ".gif"):
            frames = video_io.read(folder / f"{name}{suffix}")
            assert len(frames) == horizon and frames.shape[1] == size[0]
    assert video_io.read_image(folder / "strip.png").std() > 0


def test_rollout_of_a_data_set(runs, data_dir, tmp_path):
    flags = (f"--data_dir={data_dir}", "--data_config=tiny", f"--output={tmp_path}")
    out = succeed("scripts/rollout.py", *named(runs), *flags)
    assert "4 windows of sprites test at 32 x 32" in out and "copy_last" in out
    assert_files(tmp_path, (32, 128), 32)
    report = json.loads((tmp_path / "metrics.json").read_text())
    names = {"ours", "copy_last", "mean_context", "blur", "flow", "flow_blur"}
    assert set(report["predictors"]) == names and report["windows"] == 4
    for found in report["predictors"].values():
        for metric in ("psnr", "ssim"):
            assert len(found[metric]["per_step"]) == 32
            assert found[metric]["mean"] == pytest.approx(
                np.mean(found[metric]["per_step"]), abs=1e-3
            )


def test_rollout_of_a_video(runs, video, tmp_path):
    masks = (f"--video={video / 'clip.avi'}", f"--masks={video / 'masks'}", "--start=4")
    succeed(
        "scripts/rollout.py", *named(runs), *masks, "--horizon=20", f"--output={tmp_path / 'a'}"
    )
    assert_files(tmp_path / "a", (32, 32), 20)
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["steps"] == 20
    # Sixteen frames and no masks: nothing to compare with, and still a prediction.
    video_io.write_video(tmp_path / "short.mp4", video_io.read(video / "clip.avi", 0, 16))
    out = succeed(
        "scripts/rollout.py",
        *named(runs),
        f"--video={tmp_path / 'short.mp4'}",
        f"--output={tmp_path / 'b'}",
    )
    assert_files(tmp_path / "b", (32, 32), 32)
    assert "truth is unknown" in out and not (tmp_path / "b" / "metrics.json").exists()
    # Frames of a size of their own, where stage 2 looks at frames alone.
    size = ("--weights=real", "--size=32x48", "--horizon=2", f"--output={tmp_path / 'c'}")
    succeed("scripts/rollout.py", f"--video={video / 'clip.avi'}", *size)
    assert video_io.read(tmp_path / "c" / "prediction.webm").shape == (2, 32, 48, 3)
    assert video_io.read(tmp_path / "c" / "fusion.webm").shape == (2, 128, 128, 3)
    report = json.loads((tmp_path / "c" / "metrics.json").read_text())
    assert (report["height"], report["width"], report["steps"]) == (32, 48, 2)


def test_evaluation_of_runs_baselines_and_another_system(runs, data_dir, tmp_path):
    data = (f"--data_dir={data_dir}", "--data_config=tiny")
    windows, theirs, output = (tmp_path / name for name in ("windows", "theirs", "out"))
    out = succeed(
        "scripts/evaluate.py", *data, "--runs=none", "--resolution=32", f"--export={windows}"
    )
    assert "wrote 4 windows" in out
    theirs.mkdir()
    for path in windows.iterdir():  # A system that knows the truth, but for the sign of its noise.
        truth = np.load(path)["truth"]
        assert truth.shape == (32, 32, 32, 3) and len(np.load(path)["context"]) == 16
        np.savez(theirs / path.name, frames=(truth + np.where(truth < 128, 25.5, -25.5)) / 255)
    pair = f"--runs=ours={runs / 'fusion'},{runs / 'translator'}"
    out = succeed(
        "scripts/evaluate.py",
        *data,
        pair,
        f"--predictions=theirs={theirs}",
        f"--output={output}",
        "--snap_labels=4",
        "--batch_size=3",
        "--bounds=bound_shift",
        "--metrics=psnr,ssim,fusion_psnr,edge_f1,miou",
    )
    assert "4 windows of 4 clips at 32 x 32" in out and "wrote" in out
    summary = json.loads((output / "summary.json").read_text())
    stages = {"ours", "ours, snapped", "ours, true fusion"}
    naive = {"copy_last", "mean_context", "blur", "flow", "flow_blur"}
    assert set(summary["predictors"]) == {*stages, "theirs", *naive, "bound_shift"}
    bound, still = (summary["predictors"][x]["psnr"]["mean"] for x in ("bound_shift", "copy_last"))
    assert bound > still + 0.5
    assert summary["predictors"]["theirs"]["psnr"]["mean"] == pytest.approx(20, abs=0.2)
    assert set(summary["predictors"]["ours"]) == {"psnr", "ssim", "fusion_psnr", "edge_f1", "miou"}
    assert set(summary["predictors"]["ours, true fusion"]) == {"psnr", "ssim"}
    assert "miou" in summary["predictors"]["copy_last"]
    assert (output / "index.html").exists() and (output / "blame.png").exists()
    # Ours is the same predictor that the rollout measures.
    rolled = tmp_path / "rolled"
    succeed("scripts/rollout.py", *named(runs), *data, f"--output={rolled}")
    report = json.loads((rolled / "metrics.json").read_text())
    for metric in ("psnr", "ssim"):
        values = (r["predictors"]["ours"][metric]["per_step"] for r in (report, summary))
        np.testing.assert_allclose(*values, atol=2e-4)
    # Fewer observed frames, as the protocols of moving digits have them.
    succeed(
        *("scripts/evaluate.py", *data, pair, f"--output={output}", "--context=10", "--horizon=10"),
        "--metrics=mse_openstl,ssim",
    )
    summary = json.loads((output / "summary.json").read_text())
    assert (
        summary["steps"] == 10 and "10 frames seen (mirrored in time to 16" in summary["protocol"]
    )
    assert {"ours", "ours, true fusion"} <= set(summary["predictors"])


def test_sharpened_rollout_evaluation_and_ablation(runs, data_dir, tmp_path):
    data = (f"--data_dir={data_dir}", "--data_config=tiny")
    out = succeed(
        *("scripts/rollout.py", *named(runs), f"--accompanying={runs / 'accompanying'}", *data),
        f"--output={tmp_path / 'rollout'}",
    )
    assert "stage 3 from" in out
    all_stages = ",".join(str(runs / s) for s in ("fusion", "translator", "accompanying"))
    succeed(
        *("scripts/evaluate.py", *data, f"--runs=ours={all_stages}", "--sharpen=unsharp_mask"),
        *("--metrics=psnr,gradient_ratio", "--baselines=copy_last", f"--output={tmp_path / 'out'}"),
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    found = summary["predictors"]
    names = {"ours", "ours, without accompanying", "ours, unsharp_mask", "ours, true fusion"}
    assert set(found) == {*names, "copy_last", "truth"}
    assert found["truth"]["gradient_ratio"]["mean"] == 1
    ratio = lambda name: found[name]["gradient_ratio"]["mean"]
    assert ratio("ours, unsharp_mask") > ratio("ours, without accompanying")
    rolled = json.loads((tmp_path / "rollout" / "metrics.json").read_text())
    values = (x["ours"]["psnr"]["per_step"] for x in (rolled["predictors"], found))
    np.testing.assert_allclose(*values, atol=2e-4)
    fields = {"num_steps": 4, "log_every": 2, "data.data_dir": data_dir}
    out = succeed(
        *("scripts/ablate.py", *named(runs), "--config=configs/accompanying.py:smoke"),
        *(f"--config.{k}={v}" for k, v in fields.items()),
        *("--seeds=3", "--pool=4", "--clips=2", "--metrics=psnr", f"--output={tmp_path / 'a'}"),
    )
    report = json.loads((tmp_path / "a" / "ablation.json").read_text())
    assert set(report["predictors"]["refiner"]["by_seed"]) == {"3"}
    sizes = [report["predictors"][n]["parameters"] for n in ("accompanying", "refiner")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2)


def test_own_data_from_folder_to_training(video, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.avi").write_bytes((video / "clip.avi").read_bytes())
    out = succeed(
        "scripts/prepare.py", f"--input={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}"
    )
    assert "train: 1 clips" in out and "--config.data.name=mine" in out
    fields = {
        "data.name": "mine",
        "data.config": "",
        "data.data_dir": tmp_path / "data",
        "batch_size": 1,
    }
    flags = [f"--config.{k}={v}" for k, v in fields.items()]
    out = succeed(
        *TRAIN, "--config=configs/fusion.py:smoke", f"--workdir={tmp_path / 'run'}", *flags
    )
    assert "done at step 4" in out
    again = run(
        "scripts/prepare.py", f"--input={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}"
    )
    assert again.returncode == 2 and "data set 'mine' is already in" in again.stderr


def test_mistakes_are_one_line_and_an_exit_code(runs, video, data_dir, tmp_path):
    rollout, prepare = ("scripts/rollout.py", *named(runs)), ("scripts/prepare.py",)
    output = f"--output={tmp_path / 'out'}"
    evaluate = ("scripts/evaluate.py", f"--data_dir={data_dir}", "--data_config=tiny", output)
    pair = f"--runs=ours={runs / 'fusion'},{runs / 'translator'}"
    clip_file = f"--video={video / 'clip.avi'}"
    broken, short, few = tmp_path / "broken.avi", tmp_path / "short.avi", tmp_path / "few"
    frames = video_io.read(video / "clip.avi")
    broken.write_bytes((video / "clip.avi").read_bytes()[:3000])
    video_io.write_video(short, frames[:15])
    few.mkdir()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(few / "0.png")
    sizes, small = tmp_path / "sizes", tmp_path / "small"
    small.mkdir()
    for t in range(16):
        video_io.write_image(sizes / f"{t}.png", frames[t, : 64 - t])
    for t in range(48):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(small / f"{t}.png")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty").mkdir()
    smoke = "--config=configs/fusion.py:smoke"
    cases = [
        ((*rollout, "--video=none.mp4", output), 2, "none.mp4 does not exist"),
        ((*rollout, f"--video={broken}", output), 2, "truncated"),
        ((*rollout, f"--video={short}", output), 2, "has 15 frames from frame 0 on; at least 16"),
        ((*rollout, f"--video={tmp_path / 'empty'}", output), 2, "holds 0 frames"),
        ((*rollout, f"--video={sizes}", output), 2, "every frame of the folder must be 64 x 64"),
        ((*rollout, clip_file, f"--masks={few}", output), 2, "holds 1 masks; the video has 48"),
        ((*rollout, clip_file, f"--masks={small}", output), 2, "is 8 x 8; masks must be 64 x 64"),
        (
            (*rollout, clip_file, "--segmentation=magic", output),
            2,
            "segmentation 'magic' is not one",
        ),
        ((*rollout, clip_file, f"--output={tmp_path / 'file' / 'x'}"), 1, "cannot write"),
        ((*rollout, clip_file, "--horizon=0", output), 2, "--horizon=0"),
        ((*rollout, clip_file, "--horizont=3", output), 2, "Unknown command line flag 'horizont'"),
        ((*rollout, "--data=moon", output), 2, "data set 'moon' is not in"),
        (("scripts/rollout.py", f"--fusion={tmp_path}", output), 2, "holds no checkpoint"),
        ((*TRAIN, "--config=configs/fusion.py:huge"), 2, "preset 'huge' is not one of smoke, cpu"),
        ((*TRAIN, "--config=configs/none.py"), 2, "none.py"),
        ((*TRAIN,), 2, "--config must have a value"),
        ((*TRAIN, smoke, "--config.num_steps=many"), 2, "num_steps"),
        ((*TRAIN, smoke, "--config.nothing=1"), 2, "--config has no field 'nothing'"),
        ((*TRAIN, smoke, f"--workdir={tmp_path / 'w'}", "--config.data.name=moon"), 2, "'moon'"),
        (
            (*prepare, "--input=nowhere", f"--data_dir={tmp_path / 'd'}"),
            2,
            "input folder 'nowhere' does not exist",
        ),
        ((*evaluate, "--runs=a="), 2, "--runs=a= must be NAME=FUSION_RUN,TRANSLATOR_RUN"),
        ((*evaluate, "--runs=a=b"), 2, "run 'b' holds no checkpoint"),
        (
            (*evaluate, "--runs=none", "--resolution=axb"),
            2,
            "--resolution=axb must be HEIGHTxWIDTH",
        ),
        ((*evaluate, pair, "--resolution=64"), 2, "run 'ours' predicts 32 x 32, less than 64 x 64"),
        ((*evaluate, f"{pair}@64"), 2, "looks at fusion pictures and predicts at 32 x 32 alone"),
        (
            (*evaluate, "--runs=none", "--baselines=flow@6"),
            2,
            "the size after @ (6) must be HEIGHT",
        ),
        ((*rollout, "--size=big", output), 2, "--size=big must be HEIGHTxWIDTH or SIDE, 11 or"),
        ((*evaluate, pair, "--context=8"), 2, "--context=8: runs need 9 to 16"),
        (
            (*evaluate, pair, "--accompanying=newest"),
            2,
            "--accompanying=newest goes with the newest",
        ),
        ((*evaluate, pair, "--sharpen=magic"), 2, "--sharpen: 'magic' is not one of unsharp_mask"),
        (
            ("scripts/rollout.py", *named(runs), f"--accompanying={runs / 'fusion'}", output),
            2,
            "holds a fusion run; an accompanying run is needed",
        ),
        (("scripts/ablate.py", "--variants=best"), 2, "--variants: 'best' is not one of accomp"),
        ((*evaluate, "--runs=none", "--metrics=magic"), 2, "--metrics: 'magic' is not one of psnr"),
        (
            (*evaluate, "--runs=none", "--metrics=ms_ssim_running", "--resolution=64"),
            2,
            "ms_ssim_running needs frames of 176 x 176 or more, not 64 x 64",
        ),
        (
            (*evaluate, "--runs=none", "--baselines=best"),
            2,
            "--baselines: 'best' is not one of copy_last",
        ),
        (
            (*evaluate, "--runs=none", "--bounds=best"),
            2,
            "--bounds: 'best' is not one of bound_naive",
        ),
        ((*evaluate, "--runs=none", "--fvd=best"), 2, "--fvd: 'best' is not one of copy_last"),
        (
            (*evaluate, "--runs=none", "--fvd=all", "--horizon=8"),
            2,
            "a horizon of 9 or more, not 8 and 8",
        ),
        (
            (*evaluate, "--runs=none", "--metrics=miou"),
            2,
            "--metrics: miou of fusion pictures need a run",
        ),
        (
            (*evaluate, "--runs=none", "--predictions=truth=x"),
            2,
            "called 'truth' is there already",
        ),
        ((*evaluate, pair, pair), 2, "a predictor called 'ours' is there already"),
        ((*evaluate, "--runs=none", "--split=dev"), 2, "has no split 'dev', but test"),
        ((*evaluate, "--runs=none", "--horizon=40"), 2, "no clip of sprites test has 56 frames"),
        (
            (*evaluate, "--runs=none", f"--predictions=a={tmp_path / 'empty'}"),
            2,
            "has no prediction of clip 'test_",
        ),
        (
            (*evaluate, "--runs=none", "--reference=no.csv"),
            2,
            "--reference ('no.csv') cannot be read",
        ),
        ((*prepare,), 2, "give one of --input=FOLDER"),
        ((*prepare, f"--input={few}", f"--data_dir={tmp_path / 'file'}"), 1, "cannot write"),
    ]
    (tmp_path / "said").mkdir()
    results = run_many(tmp_path / "said", [args for args, _, _ in cases])
    for (args, code, text), done in zip(cases, results, strict=True):
        assert done.returncode == code, (args, done.stderr)
        assert text in done.stderr and "Traceback" not in done.stderr, (args, done.stderr)
        assert done.stderr.count("error: ") == 1 and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "w" / "config.json").exists()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
