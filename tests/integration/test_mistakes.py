"""What a user gets wrong is told in one line, with an exit code; and own videos, from folder to training."""

import numpy as np
from commands import TRAIN, named, run, run_many, succeed
from PIL import Image

from vidpred_jax.data import video_io


def test_own_data_from_folder_to_training(video, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.avi").write_bytes((video / "clip.avi").read_bytes())
    out = succeed("scripts/prepare.py", f"--input={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}")
    assert "train: 1 clips" in out and "--config.data.name=mine" in out
    fields = {"data.name": "mine", "data.config": "", "data.data_dir": tmp_path / "data", "batch_size": 1}
    flags = [f"--config.{k}={v}" for k, v in fields.items()]
    command = (*TRAIN, "--config=configs/fusion.py:smoke", f"--workdir={tmp_path / 'run'}", *flags)
    done = run(*command, JAX_NUM_CPU_DEVICES="1")  # As on a user's CPU; other tests have four.
    assert done.returncode == 0 and "on 1 x cpu" in done.stdout, done.stderr
    assert "done at step 4" in done.stdout
    again = run("scripts/prepare.py", f"--input={tmp_path / 'in'}", f"--data_dir={tmp_path / 'data'}")
    assert again.returncode == 2 and "data set 'mine' is already in" in again.stderr


def test_mistakes_are_one_line_and_an_exit_code(trained, video, data_dir, tmp_path):
    rollout, prepare = ("scripts/rollout.py", named(trained)), ("scripts/prepare.py",)
    output = f"--output={tmp_path / 'out'}"
    evaluate = ("scripts/evaluate.py", f"--data_dir={data_dir}", "--data_config=tiny", output)
    pair = f"--runs=ours={trained / 'fusion'},{trained / 'translator'}"
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
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "summary.json").write_text("mine")
    (tmp_path / "empty").mkdir()
    smoke = "--config=configs/fusion.py:smoke"
    cases = [
        ((*rollout, "--video=none.mp4", output), 2, "none.mp4 does not exist"),
        ((*rollout, f"--video={broken}", output), 2, "truncated"),
        ((*rollout, f"--video={short}", output), 2, "has 15 frames from frame 0 on; at least 16"),
        (
            (*rollout, f"--video={short}", "--frame_step=2", output),
            2,
            "has 15 frames from frame 0 on; at least 31",
        ),
        ((*rollout, f"--video={tmp_path / 'empty'}", output), 2, "holds 0 frames"),
        ((*rollout, f"--video={sizes}", output), 2, "every frame of the folder must be 64 x 64"),
        ((*rollout, clip_file, f"--masks={few}", output), 2, "holds 1 masks; the video has 48"),
        ((*rollout, clip_file, f"--masks={small}", output), 2, "is 8 x 8; masks must be 64 x 64"),
        ((*rollout, clip_file, "--segmentation=magic", output), 2, "segmentation 'magic' is not one"),
        ((*rollout, clip_file, f"--output={tmp_path / 'file' / 'x'}"), 1, "cannot write"),
        ((*rollout, clip_file, "--horizon=0", output), 2, "--horizon=0"),
        ((*rollout, clip_file, "--horizont=3", output), 2, "Unknown command line flag 'horizont'"),
        ((*rollout, "--data=moon", output), 2, "data set 'moon' is not in"),
        (("scripts/rollout.py", f"--runs={tmp_path}", output), 2, "holds no checkpoint"),
        ((*TRAIN, "--config=configs/fusion.py:huge"), 2, "preset 'huge' is not one of smoke, cpu"),
        ((*TRAIN, "--config=configs/none.py"), 2, "none.py"),
        ((*TRAIN,), 2, "--config must have a value"),
        ((*TRAIN, smoke, "--config.num_steps=many"), 2, "num_steps"),
        ((*TRAIN, smoke, "--config.nothing=1"), 2, "--config has no field 'nothing'"),
        ((*TRAIN, smoke, "--config.self_fed=2"), 2, "no field 'self_fed': use max_unroll"),
        ((*TRAIN, smoke, f"--workdir={tmp_path / 'w'}", "--config.data.name=moon"), 2, "'moon'"),
        (
            (*prepare, "--input=nowhere", f"--data_dir={tmp_path / 'd'}"),
            2,
            "input folder 'nowhere' does not exist",
        ),
        ((*evaluate, "--runs=a="), 2, "--runs=a= must be NAME=RUN[,RUN ...]"),
        ((*evaluate, "--runs=a=b"), 2, "b is no run folder, nor one of the weights"),
        ((*evaluate, "--runs=none", "--resolution=axb"), 2, "--resolution=axb must be HEIGHTxWIDTH"),
        ((*evaluate, pair, "--resolution=64"), 2, "run 'ours' predicts 32 x 32, less than 64 x 64"),
        ((*evaluate, f"{pair}@70"), 2, "translator@70' holds no checkpoint"),
        ((*evaluate, "--runs=none", "--baselines=flow@64"), 2, "--baselines: 'flow@64' is not one of copy"),
        ((*rollout, "--size=big", output), 2, "--size=big must be HEIGHTxWIDTH or SIDE, in"),
        (
            (*evaluate, "--weights=moon"),
            2,
            "weights ('moon') must be one of moving_mnist, real, sprites, sprites_",
        ),
        ((*rollout, "--weights=real", output), 2, "--weights are instead of --runs"),
        (
            (*rollout, "--fusion=a", output),
            2,
            "--fusion was removed: use --runs=RUN,RUN (evaluate.py: NAME=RUN,RUN)",
        ),
        ((*evaluate, pair, "--context=8"), 2, "--context=8, runs observe 'ours' 16 frames; they must be"),
        ((*evaluate, pair, "--sharpen=magic"), 2, "--sharpen: 'magic' is not one of unsharp_mask"),
        (("benchmarks/ablate.py", "--seeds=x"), 2, "--seeds=x must be numbers, 0 or more"),
        ((*evaluate, "--runs=none", "--metrics=magic"), 2, "--metrics: 'magic' is not one of psnr"),
        (
            (*evaluate, "--runs=none", "--metrics=ms_ssim_running", "--resolution=64"),
            2,
            "ms_ssim_running needs frames of 176 x 176 or more, not 64 x 64",
        ),
        ((*evaluate, "--runs=none", "--baselines=best"), 2, "--baselines: 'best' is not one of copy_last"),
        ((*evaluate, "--runs=none", "--fvd=best"), 2, "--fvd: 'best' is not one of copy_last"),
        ((*evaluate, "--runs=none", "--fvd=all", "--horizon=8"), 2, "a horizon of 9 or more, not 8 and 8"),
        ((*evaluate, "--runs=none", "--metrics=miou"), 2, "--metrics: miou of fusion pictures need a run"),
        ((*evaluate, "--runs=none", "--predictions=truth=x"), 2, "called 'truth' is there already"),
        ((*evaluate, pair, pair), 2, "a predictor called 'ours' is there already"),
        ((*evaluate[:-1], f"--output={tmp_path / 'own'}"), 2, "own/summary.json was not written by this"),
        ((*evaluate, "--runs=none", "--split=dev"), 2, "has no split 'dev', but test"),
        ((*evaluate, "--runs=none", "--horizon=40"), 2, "no clip of sprites test has 56 frames"),
        (
            (*evaluate, "--runs=none", f"--predictions=a={tmp_path / 'empty'}"),
            2,
            "has no prediction of clip 'test_",
        ),
        ((*evaluate, "--runs=none", "--reference=no.csv"), 2, "--reference ('no.csv') cannot be read"),
        ((*prepare,), 2, "give one of --input=FOLDER"),
        (
            ("scripts/export.py", f"--runs={trained / 'fusion'}", f"--output={tmp_path / 'new'}"),
            2,
            "--runs need --card and --evaluation: weights are not saved without a card",
        ),
        (
            ("scripts/export.py", f"--output={tmp_path / 'new'}"),
            2,
            "give one of --run=RUN and --runs=RUN,RUN",
        ),
        ((*rollout, "--quantize_labels=4", output), 2, "--quantize_labels was removed: maps are"),
        ((*prepare, f"--input={few}", f"--data_dir={tmp_path / 'file'}"), 2, "is a file; a folder to write"),
    ]
    (tmp_path / "said").mkdir()
    results = run_many(tmp_path / "said", [args for args, _, _ in cases])
    for (args, code, text), done in zip(cases, results, strict=True):
        assert done.returncode == code, (args, done.stderr)
        assert text in done.stderr and "Traceback" not in done.stderr, (args, done.stderr)
        assert done.stderr.count("error: ") == 1 and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "w" / "config.json").exists()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_help_names_a_command_and_its_own_flags():
    for command, flag in ((("scripts/rollout.py",), "--video:"), (TRAIN, "--workdir:")):
        out = succeed(*command, "--help")
        assert "python " in out.splitlines()[2] and flag in out and "--compilation_cache:" in out
        assert "--alsologtostderr" not in out
