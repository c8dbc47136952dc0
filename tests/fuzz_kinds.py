"""What `fuzz.py` gives to whom: sound inputs of every kind, damaged, and what of ours reads them.

A reader is a command's arguments or a function. It reads `box/in` and writes to `box/out`.
"""

import json
import multiprocessing
import os
import pathlib
import random
import runpy
import shutil
import sys

import fuzz_damage
import jax
import numpy as np
from commands import ROOT, TRAIN
from numbered_videos import X264, encode
from PIL import Image

import vidpred_jax
from vidpred_jax.cli import common
from vidpred_jax.data import masks, pipeline, video_io
from vidpred_jax.data.datasets import folders, registry, synthesis
from vidpred_jax.training import experiment
from vidpred_jax.types import Limits

STAGES = ("fusion", "translator", "accompanying")


def prepare(box):
    # Processes would take seconds to start, each time.
    args = ["scripts/prepare.py", f"--input={box / 'in'}", f"--data_dir={box / 'out'}", "--workers=1"]
    masks = box / "in_masks"
    return [*args, f"--masks={masks}"] if masks.exists() else args


def read(box):
    """What is there of clips, as a command would, and a window from far on in each."""
    for video, _ in folders.find_clips(box / "in").values():
        frames = video_io.read(video, limits=Limits(max_frames=200, max_bytes=1 << 30, max_seconds=8))
        assert frames.dtype == np.uint8 and frames.shape[-1] == 3
        if video.is_file() and len(frames) > 110:
            assert video_io.read(video, 105, 5).shape == frames[105:110].shape


def read_masks(box):
    for folder in sorted(f for f in (box / "in_masks").iterdir() if f.is_dir()):
        labels = masks.read_masks(folder, 20, (48, 48), frames=box / "in" / folder.name)
        assert labels.shape == (20, 48, 48) and labels.dtype == np.uint8


def evaluate(box):
    return [
        *("scripts/evaluate.py", "--data_config=tiny", f"--data_dir={box / 'data'}", "--runs=none"),
        *("--metrics=psnr", "--baselines=copy_last", "--resolution=32", "--horizon=8"),
        *(f"--predictions=theirs={box / 'in'}", f"--output={box / 'out'}"),
    ]


def load(box):
    vidpred_jax.load(*(box / "in" / stage for stage in STAGES))


def resume(box):
    return _training("fusion", box / "in" / "fusion", box / "data")


def configure(box):
    config = json.loads((box / "in" / "config.json").read_text())
    # What is named as the data folder is written to: a relative name stays within the box.
    (box / "out" / "a" / "b" / "c").mkdir(parents=True)
    os.chdir(box / "out" / "a" / "b" / "c")
    jax.eval_shape(lambda: experiment.make(config, log=lambda line: None).state)


def open_data(box):
    source = registry.open_split("mine", "train", data_dir=box / "in")
    batches = pipeline.train_batches(
        source, batch_size=1, num_frames=20, height=32, width=32, seed=0, log=lambda line: None
    )
    next(batches)


_CONTAINERS = {
    ".mkv": X264,
    ".ts": X264,
    ".m4v": (*X264, "-movflags", "faststart"),
    ".mpg": ("-c:v", "mpeg2video", "-q:v", "4", "-flags", "+ilme+ildct"),
    ".mov": ("-c:v", "prores_ks"),
    ".flv": X264,
    ".ogv": ("-c:v", "libtheora", "-q:v", "8"),
    ".apng": ("-f", "apng"),
    ".wmv": ("-c:v", "wmv2", "-b:v", "2M"),
}
# What reads each kind, and the kind's share of the inputs.
KINDS = {
    "video": (prepare, 5),
    "frames": (prepare, 3),
    "masks": (prepare, 3),
    "files": (read, 12),
    "mask files": (read_masks, 6),
    "npz": (evaluate, 3),
    "config": (configure, 3),
    "checkpoint": (load, 4),
    "resumed": (resume, 2),
    "data": (open_data, 2),
}
_TRAINED = {"checkpoint": STAGES, "resumed": STAGES[:1]}


def make_sound(folder: pathlib.Path, kinds: list[str]) -> None:
    """A sound input of each of the kinds under `folder`."""
    clip = synthesis.sprite_clip(np.random.default_rng(0), "clip", 20, 48)
    for suffix in (".avi", ".mp4", ".webm", ".gif"):
        for name in "abc":
            video_io.write_video(folder / f"video{suffix}" / f"{name}{suffix}", clip.frames)
    for suffix, options in _CONTAINERS.items():
        long = np.concatenate([clip.frames, clip.frames[::-1]] * 3)
        encode(f"file:{folder}/video{suffix}/long{suffix}", *options, frames=long)
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tif"):
        for name in "abc":
            for t, frame in enumerate(clip.frames):
                path = folder / f"frames{suffix}" / name / f"{t:02d}{suffix}"
                video_io.write_image(path, frame)
                if suffix == ".png":
                    mask = folder / "masks.png" / name / f"{t:02d}.png"
                    mask.parent.mkdir(parents=True, exist_ok=True)
                    picture = Image.fromarray(clip.labels[t])
                    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
                    picture.save(mask)
    builder = registry.open_builder("sprites", data_dir=folder / "data", config="tiny", log=print)
    mine = registry.video_folder("mine", folder / "data.in", input=str(folder / "video.avi"))
    registry.prepare(mine)
    source = builder.as_data_source(split="test")
    (folder / "npz.in").mkdir()
    frames = np.zeros((8, 32, 32, 3), np.uint8)
    for number, example in enumerate(source):
        name = example["name"].decode()
        save = np.savez_compressed if number % 2 else np.savez
        for start in (0, 24):
            path = folder / "npz.in" / f"{name}_{start:05d}.npz"
            save(path, frames=frames / 255 if number % 3 else frames)
    for stage in max((_TRAINED.get(kind, ()) for kind in kinds), key=len):
        args = _training(stage, folder / "runs" / stage, folder / "data")
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=command, args=(args,))
        process.start()
        process.join()
        assert process.exitcode == 0, args


def _training(stage, workdir, data_dir) -> list[str]:
    """The arguments of two steps of training."""
    fields = {"num_steps": 2, "save_every": 1, "data.data_dir": data_dir, "evaluation.every": 2}
    if stage != "fusion":
        fields |= {"predicted_fraction": 0.5}
    if stage == "accompanying":
        fields |= {"reference_steps": 1}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    return [*TRAIN, f"--config=configs/{stage}.py:smoke", f"--workdir={workdir}", *flags]


def fill(box: pathlib.Path, kind: str, sound: pathlib.Path, rng: random.Random, harm: bool) -> str:
    """A box with an input, damaged if it is to be harmed; what was damaged."""
    harmed = fuzz_damage.damage_a_file if harm else lambda folder, rng: "nothing"
    (box / "out").mkdir(parents=True)
    if kind in ("npz", "resumed"):
        shutil.copytree(sound / "data", box / "data")
    if kind in ("masks", "mask files"):
        shutil.copytree(sound / "frames.png", box / "in")
        shutil.copytree(sound / "masks.png", box / "in_masks")
        return harmed(box / "in_masks", rng)
    if kind == "config":
        (box / "in").mkdir()
        shutil.copytree(sound / "data", box / "out" / "data")
        stage = rng.choice(["fusion", "translator", "simvp"])
        config = common.load_config(ROOT / "configs" / f"{stage}.py", "smoke")
        if stage == "translator":
            config["predicted_fraction"] = 0.0
        config["data"]["data_dir"] = str(box / "out" / "data")
        for _ in range(rng.randint(1, 2) * harm):
            config = fuzz_damage.damage_json(config, rng)
            if not isinstance(config, dict):
                break
        (box / "in" / "config.json").write_text(json.dumps(config))
        return "config.json changed"
    folders = {
        "video": sorted(folder for folder in sound.glob("video.*") if folder.suffix not in _CONTAINERS),
        "files": sorted([*sound.glob("video.*"), *sound.glob("frames.*")]),
        "frames": sorted(sound.glob("frames.*")),
        "npz": [sound / "npz.in"],
        "data": [sound / "data.in"],
        "checkpoint": [sound / "runs"],
    }
    if kind == "resumed":
        shutil.copytree(sound / "runs" / "fusion", box / "in" / "fusion")
    else:
        shutil.copytree(rng.choice(folders[kind]), box / "in")
    if kind in ("checkpoint", "resumed") and harm and rng.random() < 0.5:
        return fuzz_damage.forge(box / "in", rng)
    what = [harmed(box / "in", rng) for _ in range(rng.choice([1, 1, 1, 2, 5]))]
    return "; ".join(what)


def command(args: list[str]) -> None:
    """A command of the package, in this process."""
    os.chdir(ROOT)
    if args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = args
        sys.path.insert(0, str(ROOT))
        runpy.run_path(args[0], run_name="__main__")
