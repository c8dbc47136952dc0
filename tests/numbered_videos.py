"""Videos whose frames carry their numbers, so that order and completeness can be read off them."""

import pathlib
import subprocess

import imageio_ffmpeg
import numpy as np
from PIL import Image

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
X264 = ("-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p")
SIDE = 64


def numbered(count=40, side=SIDE):
    """Frames whose left eighth holds the bits of their number, lowest on top; their quarters differ."""
    frames = np.full((count, side, side, 3), 60, np.uint8)
    frames[:, : side // 2, side // 2 :] = (40, 180, 60)
    block = side // 8
    for n, frame in enumerate(frames):
        for bit in range(8):
            frame[bit * block : (bit + 1) * block, :block] = 255 * (n >> bit & 1)
    return frames


def numbers(frames):
    block = frames.shape[1] // 8
    columns = frames[:, block // 2 :: block, 2 : block - 2].mean((2, 3)) > 127
    return (columns @ (1 << np.arange(8))).tolist()


def ffmpeg(*arguments, data=None):
    command = [FFMPEG, "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, input=data, check=True)


def encode(path, *options, frames=None):
    """A video file of frames, numbered ones if none are given."""
    pathlib.Path(str(path).removeprefix("file:")).parent.mkdir(parents=True, exist_ok=True)
    frames = numbered() if frames is None else frames
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{frames.shape[2]}x{frames.shape[1]}", "-r", "25")
    ffmpeg(*raw, "-i", "-", *(options or X264), path, data=frames.tobytes())
    return path


def save(folder, frames, names="{:05d}.png", **options):
    """A new folder of images."""
    folder.mkdir(parents=True)
    names = [names.format(n) for n in range(len(frames))] if isinstance(names, str) else names
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(folder / name, **options)
    return folder
