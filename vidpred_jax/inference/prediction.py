"""A prediction, which saves and shows itself."""

import dataclasses
import functools
import os
from collections.abc import Callable

import numpy as np

from vidpred_jax.data import strip, video_io


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """uint8 (horizon, h, w, 3) each, RGB; (b, horizon, h, w, 3) of a batch.

    frames: predicted. observed: the frames that they follow, `context` instead of `horizon`, at the same
    size. fps: of the video, 24 of a folder of frames; None where an array was given. predict_fusion: gives
    `fusion`.
    """

    frames: np.ndarray
    observed: np.ndarray
    fps: float | None = None
    predict_fusion: Callable[[], np.ndarray | None] = lambda: None

    @functools.cached_property
    def fusion(self) -> np.ndarray | None:
        """The predicted fusion pictures, computed when they are first asked for; None where frames are
        predicted without them."""
        return self.predict_fusion()

    def __getstate__(self) -> dict:
        """To be sent to another process, without what predicts."""
        return {**self.__dict__, "fusion": self.fusion, "predict_fusion": None}

    def video(self) -> np.ndarray:
        """The observed frames in a blue border, then the predicted ones; uint8 (t, h, w, 3), of even sides,
        the clips of a batch side by side."""
        clips = zip(*map(self._batch, (self.observed, self.frames)), strict=True)
        shown = [np.concatenate([strip.framed(strip.enlarge(a)), strip.enlarge(b)]) for a, b in clips]
        return strip.even(np.concatenate(shown, 2))

    def save(self, path: str | os.PathLike) -> None:
        """Writes `video` as .mp4, .webm, .gif or .avi, at 12 frames a second where `fps` is None. Raises
        InputError for another suffix."""
        video_io.write_video(path, self.video(), self.fps or 12.0)

    def strip(self, steps: tuple[int, ...] = strip.DEFAULT_STEPS) -> np.ndarray:
        """A picture, uint8 (h, w, 3): a row for each clip and field, at steps from 1 on."""
        fields = {"predicted": self.frames, "fusion": self.fusion}
        fields = {name: self._batch(videos) for name, videos in fields.items() if videos is not None}
        rows = [(name, x[i]) for i in range(len(fields["predicted"])) for name, x in fields.items()]
        return strip.draw(rows, tuple(step for step in steps if step > 0))

    def _batch(self, videos):
        return videos if videos.ndim == 5 else videos[None]

    def _repr_html_(self) -> str:
        """In a notebook it plays."""
        uri = video_io.to_uri(self.video(), self.fps or 12.0)
        return f'<video autoplay loop controls muted src="{uri}"></video>'
