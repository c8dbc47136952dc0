"""A prediction as files: videos, a strip and a page; as pictures, if asked for."""

import concurrent.futures
import dataclasses
import pathlib

import cv2
import numpy as np

from vidpred_jax.data import strip, video_io, writing
from vidpred_jax.evaluation import page, report


@dataclasses.dataclass(frozen=True)
class Clip:
    """uint8 (t, h, w, 3) each. truth: as far as it is known; fusion: the predicted maps, None of none."""

    title: str
    context: np.ndarray
    truth: np.ndarray
    frames: np.ndarray
    fusion: np.ndarray | None = None

    def resized(self, height: int, width: int) -> "Clip":
        """All at another size."""
        found = {name: getattr(self, name) for name in ("context", "truth", "frames", "fusion")}
        found = {name: _resize(x, height, width) for name, x in found.items() if x is not None}
        return dataclasses.replace(self, **found)


def names(clips: list[Clip], *, gif: bool = False, save_frames: bool = False) -> list[str]:
    """The files that `write` writes, relative to its folder."""
    found = ["prediction.mp4", "strip.png", "index.html"]
    found += ["comparison.mp4"] if all(len(clip.truth) for clip in clips) else []
    found += ["prediction.gif"] if gif else []
    for i, clip in enumerate(clips) if save_frames else ():
        fields = ("frames", "fusion") if clip.fusion is not None else ("frames",)
        found += [_png(field, i, t) for field in fields for t in range(1, len(clip.frames) + 1)]
    return found


def write(
    folder: pathlib.Path,
    clips: list[Clip],
    *,
    fps: float,
    headline: str,
    found: dict,
    naive: tuple[str, ...],
    about: dict,
    others: tuple[str, ...] = (),
    gif: bool = False,
    save_frames: bool = False,
) -> None:
    """Writes all of `names` into a folder; of several clips side by side.

    fps: of the videos. headline: what was done, in a sentence. found: of `summary.summarize`; {} where the
    truth is unknown. naive: those of its predictors that are drawn grey. about: facts for the page. others:
    files that the caller will write beside them.
    """
    files = names(clips, gif=gif, save_frames=save_frames)
    writing.renew(folder, [*files, *others])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # Encoders are processes: charts cost no time.
        charts = pool.submit(report.draw_all, found, naive, (), [])
        told = _videos_and_strip(folder, files, clips, fps)
        figures = charts.result()
    title = f"{pathlib.Path(about['data']).name}: what comes next"
    writing.write_text(folder / "index.html", page.prediction(title, headline, told, found, figures, about))


def _videos_and_strip(folder, files, clips, fps) -> list[dict]:
    """Writes all but the page; the clips as the page plays them."""
    shown = [_even(clip) for clip in clips]
    side_by_side = lambda videos: np.concatenate(videos, 2)
    context = side_by_side([strip.framed(clip.context) for clip in shown])
    predicted = side_by_side([clip.frames for clip in shown])
    video = np.concatenate([context, predicted])
    video_io.write_video(folder / "prediction.mp4", video, fps)
    if "prediction.gif" in files:
        video_io.write_video(folder / "prediction.gif", video, fps)
    if "comparison.mp4" in files:
        known = min(len(clip.truth) for clip in shown)
        pairs = [np.concatenate([clip.truth[:known], clip.frames[:known]], 2) for clip in shown]
        twice = [np.concatenate([strip.framed(clip.context)] * 2, 2) for clip in shown]
        both = np.concatenate([side_by_side(twice), side_by_side(pairs)])
        video_io.write_video(folder / "comparison.mp4", both, fps)
    for field in ("frames", "fusion"):
        for i, clip in enumerate(clips):
            for t, picture in enumerate(getattr(clip, field) if _png(field, i, 1) in files else (), 1):
                video_io.write_image(folder / _png(field, i, t), picture)
    video_io.write_image(folder / "strip.png", strip.draw(_rows(clips)))
    return [page.clip(clip.title, _videos(clip), fps, fps) for clip in clips]


def _png(field, clip, step) -> str:
    return f"{field}/{clip}_{step:05d}.png"


def _rows(clips):
    rows = []
    for clip in clips:
        if len(clip.truth) >= len(clip.frames):
            rows.append(("truth", clip.truth))
        rows.append(("predicted", clip.frames))
        if clip.fusion is not None:
            rows.append(("fusion", clip.fusion))
    return rows


def _videos(clip):
    """As a page shows them, the context first and then the prediction."""
    known = len(clip.truth)
    words = page.measured(clip.frames[:known], clip.truth) if known else ""
    videos = [("observed", "", clip.context), ("predicted", words, clip.frames)]
    videos += [("truth", "", clip.truth)] if known else []
    return videos + ([("predicted maps", "", clip.fusion)] if clip.fusion is not None else [])


def _even(clip):
    """As H.264 needs it, small frames enlarged by blocks."""
    large = {f: strip.even(strip.enlarge(getattr(clip, f))) for f in ("context", "truth", "frames")}
    return dataclasses.replace(clip, **large)


def _resize(frames, height, width):
    found = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in frames]
    return np.reshape(found, (len(found), height, width, 3)).astype(np.uint8)
