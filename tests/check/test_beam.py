"""Apache Beam's workers make the data set that the processes of one machine make."""

import cv2
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from commands import run

from vidpred_jax.data import video_io

pytest.importorskip("apache_beam", reason="needs the extra beam")
BEAM = ("--runner=DirectRunner", "--beam_options=direct_num_workers=2,direct_running_mode=multi_processing")


def prepare(tmp_path, to, *flags):
    return run("scripts/prepare.py", f"--input={tmp_path / 'in'}", f"--data_dir={tmp_path / to}", *flags)


def test_beam(tmp_path):
    for i in range(20):
        frames = np.random.default_rng(i).integers(0, 256, (4, 4, 6, 3)).astype(np.uint8)
        frames = np.stack([cv2.resize(frame, (48, 32)) for frame in frames])
        for t, frame in enumerate(frames):
            video_io.write_image(tmp_path / "in" / f"c{i}" / f"{t}.png", frame)
    (tmp_path / "in/c3/2.png").write_bytes(b"")
    found = []
    for to, flags in (("here", ()), ("beam", BEAM)):
        done = prepare(tmp_path, to, "--skip_bad", *flags)
        assert done.returncode == 0 and "train: 17 clips" in done.stdout, done.stdout + done.stderr
        assert f"left out: {tmp_path}/in/c3/2.png" in done.stdout
        data = tmp_path / to / "mine/default/2.0.0"
        files = sorted(data.glob("mine-*.array_record*"))
        records = {file.name: ArrayRecordReader(str(file)).read_all() for file in files}
        found.append((records, (data / "metadata.json").read_bytes()))
    assert len(found[0][0]) == 4 and found[0] == found[1]
    done = prepare(tmp_path, "refused", *BEAM)
    assert done.returncode == 2, done.stderr
    assert f"error: {tmp_path}/in/c3/2.png cannot be opened as an image" in done.stderr.splitlines()[-1]
