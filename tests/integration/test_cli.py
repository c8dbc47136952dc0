"""The commands as a user types them: files, tables, exit codes and one-line errors."""

import json

import numpy as np
import pytest
from commands import named, succeed
from numbered_videos import X264, encode
from PIL import Image

from vidpred_jax.data import video_io


def assert_files(folder, size, horizon):
    """Videos of the observed frames, in blue, and of those predicted; H.264 keeps colours nearly."""
    frames = video_io.read(folder / "prediction.mp4").astype(int)
    assert len(frames) == 16 + horizon and frames.shape[1:3] == size
    blue = lambda frame: np.abs(frame[:, 0] - (74, 127, 193)).mean() < 15
    assert blue(frames[0]) and blue(frames[15]) and not blue(frames[16])
    assert np.asarray(Image.open(folder / "strip.png")).std() > 0
    assert "predicted by" in (folder / "index.html").read_text()
    comparison = folder / "comparison.mp4"
    if comparison.exists():
        assert video_io.read(comparison).shape[2] == 2 * size[1]
    return comparison.exists()


def test_rollout_of_a_data_set(trained, data_dir, tmp_path):
    flags = (f"--data_dir={data_dir}", "--data_config=tiny", f"--output={tmp_path}")
    out = succeed("scripts/rollout.py", named(trained), *flags)
    assert "4 windows of sprites test at 32 x 32" in out and "copy_last" in out
    assert assert_files(tmp_path, (128, 512), 32)
    report = json.loads((tmp_path / "metrics.json").read_text())
    names = {"ours", "copy_last", "mean_context", "blur", "flow", "flow_blur"}
    assert set(report["predictors"]) == names and report["windows"] == 4
    for found in report["predictors"].values():
        for metric in ("psnr", "ssim"):
            assert len(found[metric]["per_step"]) == 32
            assert found[metric]["mean"] == pytest.approx(np.mean(found[metric]["per_step"]), abs=1e-3)


def test_rollout_of_a_video(trained, video, tmp_path):
    masks = (f"--video={video / 'clip.avi'}", f"--masks={video / 'masks'}", "--start=4")
    flags = ("--horizon=20", "--gif", "--save_frames", f"--output={tmp_path / 'a'}")
    succeed("scripts/rollout.py", named(trained), *masks, *flags)
    assert assert_files(tmp_path / "a", (128, 128), 20)
    assert len(video_io.read(tmp_path / "a" / "prediction.gif")) == 36
    for field in ("frames", "fusion"):
        assert video_io.read(tmp_path / "a" / field).shape == (20, 32, 32, 3)
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["steps"] == 20
    # Sixteen frames and no masks: nothing to compare with, and still a prediction.
    video_io.write_video(tmp_path / "short.mp4", video_io.read(video / "clip.avi", 0, 16))
    out = succeed(
        "scripts/rollout.py",
        named(trained),
        f"--video={tmp_path / 'short.mp4'}",
        f"--output={tmp_path / 'b'}",
    )
    assert not assert_files(tmp_path / "b", (128, 128), 32)
    assert "truth is unknown" in out and not (tmp_path / "b" / "metrics.json").exists()
    # Frames of a size of their own, by proposals alone; an interlaced file and masks of soft edges.
    size = ("--weights=real", "--size=32x48", "--horizon=2", f"--output={tmp_path / 'c'}")
    encode(tmp_path / "1:30.ts", *X264, "-x264-params", "interlaced=1")
    (tmp_path / "soft").mkdir()
    for t in range(40):
        mask = np.zeros((64, 64), np.uint8)
        mask[16:40, 20 : 30 + t % 8] = 255
        Image.fromarray(mask).resize((66, 66)).resize((64, 64)).save(tmp_path / "soft" / f"{t:03d}.png")
    masks = f"--masks={tmp_path / 'soft'}"
    out = succeed("scripts/rollout.py", f"--video={tmp_path / '1:30.ts'}", masks, *size)
    assert "soft: masks of grey values up to 255 are read as one object" in out
    assert video_io.read(tmp_path / "c" / "prediction.mp4").shape == (18, 128, 192, 3)
    report = json.loads((tmp_path / "c" / "metrics.json").read_text())
    assert (report["height"], report["width"], report["steps"], report["clarity"]) == (32, 48, 2, 1)
    assert ", clarity 1" in out
    # As wide as the video where no size is asked for, and at another clarity.
    wide = np.random.default_rng(0).integers(0, 256, (6, 12, 3)).astype(np.uint8)
    wide = np.stack([np.roll(np.kron(wide, np.ones((8, 8, 1), np.uint8)), t, 1) for t in range(16)])
    wide[:9] = 255 - wide[:9]
    video_io.write_video(tmp_path / "wide.mp4", wide, fps=30.0)
    flags = ("--weights=real", "--horizon=2", "--clarity=0.5", f"--output={tmp_path / 'd'}")
    out = succeed("scripts/rollout.py", f"--video={tmp_path / 'wide.mp4'}", *flags)
    assert ", clarity 0.5" in out and "a scene cut before frame 9: of the observed frames those from" in out
    assert video_io.read(tmp_path / "d" / "prediction.mp4").shape == (18, 128, 256, 3)
    rates = [video_io.probe(path).fps for path in (tmp_path / "1:30.ts", tmp_path / "c" / "prediction.mp4")]
    assert rates[0] == pytest.approx(rates[1], rel=0.01)


def test_rollout_past_the_end_and_of_every_second_frame(tmp_path):
    """What is observed is told; the video has the source's aspect and the seconds are its own."""
    base = np.random.default_rng(0).integers(0, 256, (9, 16, 3)).astype(np.uint8)
    frames = np.stack([np.roll(np.kron(base, np.ones((10, 10, 1), np.uint8)), t, 1) for t in range(40)])
    video_io.write_video(tmp_path / "v.mp4", frames, fps=60.0)
    flags = ("--weights=real", f"--video={tmp_path / 'v.mp4'}", "--horizon=3", "--frame_step=2")
    out = succeed("scripts/rollout.py", *flags, "--after", f"--output={tmp_path / 'a'}")
    assert "v, frames 9 to 39, observed; the 3 after them, 0.10 s, predicted by weights real" in out
    assert "truth is unknown" in out and not (tmp_path / "a" / "comparison.mp4").exists()
    info = video_io.probe(tmp_path / "a" / "prediction.mp4")
    assert (info.height, info.width, info.fps) == (128, 228, 30)
    out = succeed("scripts/rollout.py", *flags, "--start=1", f"--output={tmp_path / 'a'}")
    assert "v, frames 1 to 31, observed" in out
    assert len(video_io.read(tmp_path / "a" / "comparison.mp4")) == 16 + 3


def test_evaluation_of_runs_baselines_and_another_system(trained, data_dir, tmp_path):
    data = (f"--data_dir={data_dir}", "--data_config=tiny")
    windows, theirs, output = (tmp_path / name for name in ("windows", "theirs", "out"))
    out = succeed(
        "scripts/evaluate.py", *data, "--runs=none", "--resolution=32", f"--write_windows={windows}"
    )
    assert "wrote 4 windows" in out
    theirs.mkdir()
    for path in windows.glob("*.npz"):  # A system that knows the truth, but for the sign of its noise.
        truth = np.load(path)["truth"]
        assert truth.shape == (32, 32, 32, 3) and len(np.load(path)["context"]) == 16
        np.savez(theirs / path.name, frames=(truth + np.where(truth < 128, 25.5, -25.5)) / 255)
    pair = f"--runs=ours={trained / 'fusion'},{trained / 'translator'}"
    out = succeed(
        "scripts/evaluate.py",
        *data,
        pair,
        f"--predictions=theirs={theirs}",
        f"--output={output}",
        "--ablate",
        "--batch_size=3",
        "--metrics=psnr,ssim,fusion_psnr,edge_f1,miou",
    )
    assert "4 windows of 4 clips at 32 x 32" in out and "wrote" in out
    summary = json.loads((output / "summary.json").read_text())
    rows = ("no networks", "no stage 1", "no stage 2", "true", "shuffled", "frozen")
    stages = {f"ours, {x} fusion" if " " not in x else f"ours, {x}" for x in rows} | {"ours"}
    naive = {"copy_last", "mean_context", "blur", "flow", "flow_blur"}
    assert set(summary["predictors"]) == {*stages, "theirs", *naive}
    assert summary["predictors"]["theirs"]["psnr"]["mean"] == pytest.approx(20, abs=0.2)
    assert set(summary["predictors"]["ours"]) == {"psnr", "ssim", "fusion_psnr", "edge_f1", "miou"}
    assert set(summary["predictors"]["ours, true fusion"]) == {"psnr", "ssim"}
    assert "miou" in summary["predictors"]["copy_last"]
    assert (output / "index.html").exists() and (output / "ablation.png").exists()
    # Ours is the same predictor that the rollout measures.
    rolled = tmp_path / "rolled"
    succeed("scripts/rollout.py", named(trained), *data, f"--output={rolled}")
    report = json.loads((rolled / "metrics.json").read_text())
    for metric in ("psnr", "ssim"):
        values = (r["predictors"]["ours"][metric]["per_step"] for r in (report, summary))
        np.testing.assert_allclose(*values, atol=2e-4)


def test_sharpened_rollout_and_evaluation(trained, data_dir, tmp_path):
    data = (f"--data_dir={data_dir}", "--data_config=tiny")
    out = succeed(
        *("scripts/rollout.py", named(trained, "accompanying"), *data, f"--output={tmp_path / 'rollout'}")
    )
    assert f"accompanying {trained / 'accompanying'} (as named)" in out
    all_stages = ",".join(str(trained / s) for s in ("fusion", "translator", "accompanying"))
    succeed(
        *("scripts/evaluate.py", *data, f"--runs=ours={all_stages}", "--sharpen=unsharp_mask", "--ablate"),
        *("--metrics=psnr,gradient_ratio", "--baselines=copy_last", f"--output={tmp_path / 'out'}"),
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    found = summary["predictors"]
    names = {"ours", "ours, no stage 3", "ours, unsharp_mask", "ours, true fusion"}
    assert {*names, "copy_last", "truth"} <= set(found)
    assert found["truth"]["gradient_ratio"]["mean"] == 1
    ratio = lambda name: found[name]["gradient_ratio"]["mean"]
    assert ratio("ours, unsharp_mask") > ratio("ours, no stage 3")
    rolled = json.loads((tmp_path / "rollout" / "metrics.json").read_text())
    values = (x["ours"]["psnr"]["per_step"] for x in (rolled["predictors"], found))
    np.testing.assert_allclose(*values, atol=2e-4)
