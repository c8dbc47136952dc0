"""Runs and data sets in an object store: a fake one, in this process."""

import json
import os
import pathlib
import sys
import time

import pytest

from vidpred_jax import stores
from vidpred_jax.types import UserError

FAKE = pathlib.Path(__file__).parent / "fake_store"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Its folder."""
    monkeypatch.setenv("VIDPRED_FAKE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("VIDPRED_STORES", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(FAKE)
    sys.modules.pop("sitecustomize", None)
    __import__("sitecustomize")
    return tmp_path / "store"


def test_addresses():
    assert stores.is_address("gs://bucket/runs/a") and stores.is_address("s3://bucket/data")
    assert not any(
        map(
            stores.is_address,
            ("gs://b/../x", "gs://b//x", "hdfs://a/b", "gs://bucket", "runs/gs:", "https://a/b", "/gs://a/b"),
        )
    )
    assert stores.local("runs/a") == "runs/a"


def test_what_is_finished_goes_to_the_store_and_back(store, monkeypatch):
    monkeypatch.setattr(stores, "_EVERY", 0.02)
    address = "gs://bucket/runs/a"
    there = store / "bucket/runs/a"
    with stores.mirrored(address) as here:
        (here / "checkpoints" / "4").mkdir(parents=True)
        (here / "checkpoints" / "4" / "data").write_bytes(b"4")
        (here / "checkpoints" / "8.orbax-checkpoint-tmp-1").mkdir()
        (here / "checkpoints" / "8.orbax-checkpoint-tmp-1" / "data").write_bytes(b"half")
        (here / ".lock").touch()
        deadline = time.monotonic() + 20
        while not (there / ".index.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        index = json.loads((there / ".index.json").read_text())
        assert list(index) == ["checkpoints/4/data"] and (there / "checkpoints/4/data").read_bytes() == b"4"
        (here / "checkpoints" / "8.orbax-checkpoint-tmp-1").rename(here / "checkpoints" / "8")
        (here / "checkpoints" / "4" / "data").unlink()
        (here / "metrics.jsonl").write_text("{}\n")
    assert not (there / "checkpoints/4/data").exists()
    monkeypatch.setenv("VIDPRED_STORES", str(store.parent / "elsewhere"))
    again = pathlib.Path(stores.local(address))
    assert (again / "checkpoints/8/data").read_bytes() == b"half" and not (again / "checkpoints/4").exists()
    assert sorted(os.listdir(again)) == [".index.json", "checkpoints", "metrics.jsonl"]
    (again / "metrics.jsonl").write_text("{}\n{}\n")  # Written here, and not copied yet.
    (again / "new").touch()
    with stores.mirrored("gs://bucket/runs/b") as other:
        (other / "x").touch()
    assert stores.local(address) == str(again) and (again / "metrics.jsonl").read_text() == "{}\n{}\n"
    with (
        stores.mirrored(address) as here,
        pytest.raises(UserError, match="another process .* writes to gs://"),
    ):
        (here / "half").touch()
        assert stores.local(address) == str(here) and (here / "half").exists()
        with stores.mirrored(address):
            pass
    assert (there / "new").exists() and (there / "metrics.jsonl").read_text() == "{}\n{}\n"
    monkeypatch.setenv("VIDPRED_STORES", str(store.parent / "cache"))
    first = pathlib.Path(stores.local(address))
    assert (first / "new").exists() and pathlib.Path(stores.local("gs://bucket/runs/b"), "x").exists()
    assert (first / "new").exists()  # Another folder beside it changes nothing.
    assert not os.path.exists(stores.local("gs://bucket/none"))


def test_a_store_that_cannot_be_written_or_read(store):
    with (
        pytest.raises(UserError, match="^cannot write gs://bucket/a: .*Error: "),
        stores.mirrored("gs://bucket/a") as here,
    ):
        (here / "x").touch()
        (store / "bucket").mkdir(parents=True)
        (store / "bucket/a").touch()
    (store / "bucket/c").mkdir()
    (store / "bucket/c/.index.json").write_text('{"../../x": [1, 1]}')
    with pytest.raises(UserError, match=r"^cannot read gs://bucket/c: ValueError: its index names '../../x'"):
        stores.local("gs://bucket/c")
    (store / "bucket/b").mkdir()
    (store / "bucket/b/.index.json").write_text('{"gone": [1, 1]}')
    with pytest.raises(UserError, match="^cannot read gs://bucket/b: FileNotFoundError: "):
        stores.local("gs://bucket/b")
