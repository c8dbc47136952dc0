"""What is saved comes back, bit for bit; what is damaged or foreign is one clear line."""

import asyncio
import errno
import gc
import shutil
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
from saved import META, damage, make_state, save_steps, template, write_run

from vidpred_jax.checkpoints import integrity, restore, runs, save
from vidpred_jax.types import DamagedWarning, InputError, UserError


def test_round_trip(tmp_path):
    save_steps(tmp_path, 3, 5)
    saver = save.Checkpointer(tmp_path)
    found, meta = saver.restore(make_state(0, 0.0))
    chex.assert_trees_all_equal(found, make_state(5, 5.0))
    assert {**meta, **META} == meta and restore.steps(tmp_path) == [3, 5]
    inference = restore.restore_inference(tmp_path, template(), step=3)
    chex.assert_trees_all_equal(inference["ema"], make_state(3, 3.0)["inference"]["ema"])


def test_newest_two_and_the_best_are_kept(tmp_path):
    quality = {1: 10.0, 2: 30.0, 3: 20.0, 4: 5.0, 5: 6.0}
    save_steps(tmp_path, 1, 2, 3, 4, 5, psnr=quality)
    assert restore.steps(tmp_path) == [2, 4, 5]


def test_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="run .* holds no checkpoint under checkpoints/"):
        restore.read_meta(tmp_path)
    save_steps(tmp_path, 1)
    with pytest.raises(InputError, match=r"holds no checkpoint of step 7, but \[1\]"):
        restore.read_meta(tmp_path, 7)


def test_damaged(tmp_path):
    save_steps(tmp_path, 1)
    for file in (tmp_path / "checkpoints" / "1" / "inference").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:7])
    with pytest.raises(InputError, match="checkpoint .*/1 is damaged or does not fit"):
        restore.restore_inference(tmp_path, template())
    shutil.rmtree(tmp_path / "checkpoints" / "1" / "meta")
    with pytest.raises(InputError, match="checkpoint .*/1 is damaged or does not fit"):
        restore.read_meta(tmp_path)


def test_foreign(tmp_path):
    saver = save.Checkpointer(tmp_path)
    saver.save(make_state(1), {"made_by": "another program"})
    saver.close()
    with pytest.raises(InputError, match="was not made by vidpred_jax: its meta names no stage"):
        restore.read_meta(tmp_path)


def test_other_shapes_do_not_fit(tmp_path):
    save_steps(tmp_path, 1)
    other = {"step": np.zeros((), np.int32), "ema": {"other": np.zeros(4)}}
    other |= {"batch_stats": {}, "proposals": {}}
    with pytest.raises(InputError, match="is damaged or does not fit"):
        restore.restore_inference(tmp_path, other)
    other["ema"] = {"w": np.zeros((2, 4), np.float32), "b": np.zeros(3, np.float32)}
    with pytest.raises(InputError, match=r"ema/w is \(2, 3\), the network needs \(2, 4\)"):
        restore.restore_inference(tmp_path, other)


def test_unwritable(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(UserError, match="cannot write checkpoints in .*/checkpoints"):
        save_steps(tmp_path, 1)


def test_newest_run(tmp_path):
    assert runs.newest("fusion", tmp_path) is None
    write_run(tmp_path / "a", "fusion", 9)
    write_run(tmp_path / "b", "translator", 2)
    write_run(tmp_path / "c", "fusion", 1)
    (tmp_path / "d").mkdir()
    for number, content in enumerate(["[]", "1", "null", "{}", "[" * 9999, "\0"]):
        (tmp_path / f"odd_{number}").mkdir()
        (tmp_path / f"odd_{number}" / "config.json").write_text(content)
    (tmp_path / "a" / "checkpoints" / "²").mkdir()
    (tmp_path / "d" / "config.json").write_text("{broken")
    assert runs.newest("fusion", tmp_path) == str(tmp_path / "c")


@pytest.mark.parametrize("item", ["inference", "training", "meta"])
def test_a_damaged_newest_step_is_set_aside_and_the_one_before_is_used(item, tmp_path):
    save_steps(tmp_path, 3, 5)
    damage(tmp_path / "checkpoints" / "5" / item)
    saver = save.Checkpointer(tmp_path)
    with pytest.warns(DamagedWarning, match="checkpoints/5 is damaged; step 3 is used instead"):
        found, _ = saver.restore(make_state(0, 0.0))
    chex.assert_trees_all_equal(found, make_state(3, 3.0))
    assert restore.steps(tmp_path) == [3]
    assert [f.name for f in (tmp_path / "damaged").iterdir()] == ["5_0"]
    saver.save(make_state(5, 5.0), META)  # Trained again.
    saver.close()
    found, _ = save.Checkpointer(tmp_path).restore(make_state(0, 0.0))
    chex.assert_trees_all_equal(found, make_state(5, 5.0))


def test_inference_uses_the_newest_sound_step(tmp_path):
    save_steps(tmp_path, 3, 5)
    damage(tmp_path / "checkpoints" / "5" / "inference")
    with pytest.warns(DamagedWarning, match="step 3 is used instead"):
        found = restore.restore_inference(tmp_path, template())
    assert int(found["step"]) == 3 and restore.steps(tmp_path) == [3, 5]
    with pytest.raises(InputError, match="checkpoint .*/5 is damaged"):
        restore.restore_inference(tmp_path, template(), step=5)
    damage(tmp_path / "checkpoints" / "3" / "inference")
    with pytest.raises(InputError, match="checkpoint .*/5 is damaged"):
        restore.restore_inference(tmp_path, template())
    with pytest.raises(InputError, match="checkpoint .*/5 is damaged"):
        save_steps(tmp_path / "other", 5)
        damage(tmp_path / "other" / "checkpoints" / "5" / "training")
        save.Checkpointer(tmp_path / "other").restore(make_state(0))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"psnr": "x"}', b'{"psnr": NaN}', b"[" * 9999])
def test_a_damaged_record_of_quality_is_forgotten(content, tmp_path):
    save_steps(tmp_path, 3, 5, psnr={3: 9.0, 5: 8.0})
    (tmp_path / "checkpoints" / "3" / "metrics" / "metrics").write_bytes(content)
    with pytest.warns(DamagedWarning, match="3/metrics/metrics is damaged; the quality of that"):
        saver = save.Checkpointer(tmp_path)
    found, _ = saver.restore(make_state(0, 0.0))
    chex.assert_trees_all_equal(found, make_state(5, 5.0))
    saver.save(make_state(7, 7.0), META, {"psnr": 1.0})
    saver.close()
    assert restore.steps(tmp_path) == [5, 7]


def test_a_read_that_fails_once_condemns_nothing(tmp_path, monkeypatch):
    save_steps(tmp_path, 3, 5)
    saver = save.Checkpointer(tmp_path)
    plain, errors = saver._manager.restore, [ValueError("torn")]

    def fail_once(*args, **kwargs):
        if errors:
            raise errors.pop()
        return plain(*args, **kwargs)

    monkeypatch.setattr(saver._manager, "restore", fail_once)
    found, _ = saver.restore(make_state(0, 0.0))
    chex.assert_trees_all_equal(found, make_state(5, 5.0))
    errors += [OSError(errno.EIO, "Input/output error")]
    with pytest.raises(UserError, match="cannot read checkpoints in .*/5: Input/output error"):
        saver.restore(make_state(0, 0.0))
    assert restore.steps(tmp_path) == [3, 5] and not (tmp_path / "damaged").exists()


def test_a_save_in_the_background_is_finished_after_an_error(tmp_path):
    with pytest.raises(KeyError, match="later"), save.Checkpointer(tmp_path) as saver:
        saver.save(make_state(5, 5.0), META)
        raise KeyError("later")
    assert restore.steps(tmp_path) == [5]


def test_a_full_disk_is_told_first():
    with (
        pytest.raises(UserError, match="cannot write checkpoints in x: No space left on device$"),
        integrity.clear_errors("x", "write"),
    ):
        raise ValueError(f"RESOURCE_EXHAUSTED: {'a' * 999}: No space left on device [28]")


def test_a_network_beyond_any_memory_is_refused(tmp_path):
    huge = {"ema": {"w": jax.ShapeDtypeStruct((2**20, 2**12), np.float32)}, "batch_stats": {}}
    with pytest.raises(InputError, match="has 4,294,967,296 parameters; at most 2,147,483,648"):
        restore.restore_inference(tmp_path, huge)


def test_a_damaged_checkpoint_is_told_without_tracebacks(tmp_path):
    """Reads that still run when the first has failed have nobody to report to."""
    state = make_state(5)
    state["inference"]["ema"] = {f"layer_{i}": np.full((64, 64), i, np.float32) for i in range(40)}
    saver = save.Checkpointer(tmp_path)
    saver.save(state, META)
    saver.close()
    damage(tmp_path / "checkpoints" / "5" / "inference")
    code = f"""
import asyncio, numpy as np
from vidpred_jax.checkpoints import restore
many = {{f"layer_{{i}}": np.zeros((64, 64), np.float32) for i in range(40)}}
plain = asyncio.new_event_loop
for _ in range(5):
    try:
        restore.restore_inference({str(tmp_path)!r}, {{"ema": many, "batch_stats": {{}}}})
    except ValueError as error:
        assert "5 is damaged" in str(error)
        print("told")
assert asyncio.new_event_loop is plain  # What others do with loops is theirs.
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("told\n" * 5, "")


def test_a_save_that_was_broken_off_is_not_seen(tmp_path):
    save_steps(tmp_path, 3)
    shutil.copytree(tmp_path / "checkpoints" / "3", tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp")
    found, _ = save.Checkpointer(tmp_path).restore(make_state(0, 0.0))
    assert int(found["inference"]["step"]) == 3 and restore.steps(tmp_path) == [3]


def test_the_record_of_the_best_outlives_a_restart(tmp_path):
    quality = {1: 10.0, 2: 30.0, 3: 20.0, 4: 5.0, 5: 6.0, 6: 31.0, 7: 1.0, 8: 2.0}
    for step, psnr in quality.items():
        save_steps(tmp_path, step, psnr={step: psnr})
        best = max(range(1, step + 1), key=quality.get)
        assert restore.steps(tmp_path) == sorted({best, max(step - 1, 1), step})


def test_a_read_that_is_not_waited_for_ends_in_silence(monkeypatch):
    """As of Orbax's coroutines where another read failed: collected later, they would print a traceback."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    async def read():
        try:
            await asyncio.get_running_loop().create_future()
        except BaseException as error:
            raise RuntimeError("while reading") from error

    async def read_all():
        await asyncio.gather(read(), fail())

    async def fail():
        raise OSError("damaged")

    with integrity.quiet_loops():
        loop = asyncio.new_event_loop()
    with pytest.raises(OSError, match="damaged"):
        loop.run_until_complete(read_all())
    loop.close()
    del loop
    gc.collect()
    assert not told
