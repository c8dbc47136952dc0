"""Predicts what follows the end of every video in a folder: an .mp4 for each.

python examples/predict_folder.py videos/ next/
python examples/predict_folder.py videos/ next/ --load=runs/mine --horizon=48
"""

import argparse
import pathlib

import vidpred_jax
from vidpred_jax.data import video_io


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("videos", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--load", default="real", help="weights' name, a run, or a folder of both stages")
    parser.add_argument("--horizon", type=int, default=32)
    asked = parser.parse_args()
    if not asked.videos.is_dir() or asked.output.resolve() == asked.videos.resolve():
        parser.error("give a folder of videos, and another to write to")
    predictor = vidpred_jax.load(asked.load)
    for path in sorted(filter(video_io.is_video_file, asked.videos.iterdir())):
        try:
            prediction = predictor.predict(path, horizon=asked.horizon)
        except ValueError as error:  # Of a video that cannot be read: the others go on.
            print(f"left out: {error}")
            continue
        prediction.save(asked.output / f"{path.name}.mp4")
        print(f"wrote {asked.output / f'{path.name}.mp4'}", flush=True)


if __name__ == "__main__":
    main()
