"""What `fuzz.py` damages: bytes of files, values in JSON, files of a folder, checkpoints' meta items."""

import json
import os
import pathlib
import random
import shutil

_EXTREMES = [0, -1, 1, 2**31, 2**63, 1e308, float("nan"), "", "../../x", "a" * 5000, None, [], {}]
_EXTREMES += [True, [[[]]], {"a": {"b": 1}}, "\x00", [1] * 1000, -5, 0.5, "np.zeros"]


def damage(data: bytes, rng: random.Random) -> bytes:
    """One to three random changes."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        size = len(data)
        at, length = rng.randrange(size + 1), rng.randint(1, max(size // 4, 1))
        kind = rng.randrange(8)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at : at + length] = bytes(min(length, size - at))
        elif kind == 2:
            data[at : at + length] = rng.randbytes(min(length, size - at))
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            del data[at : at + length]
        elif kind == 5:  # A length or a size that says too much.
            value = rng.choice([0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1]).to_bytes(4, "little")
            data[at : at + 4] = rng.choice([value, value[::-1]])
        elif size:
            for _ in range(rng.randint(1, 32)):
                data[rng.randrange(max(size // rng.choice([1, 20]), 1))] ^= 1 << rng.randrange(8)
    return bytes(data)


def damage_json(value, rng: random.Random):
    """The same value with one entry somewhere in it replaced, removed or renamed."""
    if isinstance(value, dict) and value:
        key = rng.choice([*value])
        if rng.random() < 0.15:
            rest = {k: v for k, v in value.items() if k != key}
            return rest if rng.random() < 0.5 else {**rest, f"{key}_": value[key]}
        return {**value, key: damage_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.5:
        place = rng.randrange(len(value))
        return [*value[:place], damage_json(value[place], rng), *value[place + 1 :]]
    if isinstance(value, (int, float)) and rng.random() < 0.6:  # Near enough to be believed.
        return rng.choice([value + 1, value - 1, value * 2, value // 2, value * 1000, -value])
    return rng.choice(_EXTREMES)


def damage_a_file(folder: pathlib.Path, rng: random.Random) -> str:
    """Damages, removes, empties or doubles one file of a folder; what was done."""
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    if not files:
        return "nothing left"
    file = rng.choice(files)
    kind, name = rng.random(), file.relative_to(folder)
    if kind < 0.08:
        file.unlink()
        return f"{name} removed"
    if kind < 0.12:
        file.unlink()
        file.mkdir()
        return f"{name} is a folder"
    if kind < 0.16:
        os.replace(file, file.with_name(rng.choice(["x", ".png", f"{file.name}.gif", "é\n.jpg"])))
        return f"{name} renamed"
    try:
        value = json.loads(file.read_bytes())
        if rng.random() < 0.7:
            file.write_text(json.dumps(damage_json(value, rng)))
            return f"{name} changed"
    except ValueError:
        pass
    file.write_bytes(damage(file.read_bytes(), rng))
    return f"{name} damaged"


def forge(runs: pathlib.Path, rng: random.Random) -> str:
    """A changed meta item without the digest that would tell, in runs of a single step."""
    for folder in runs.glob("*/checkpoints/1"):
        shutil.rmtree(folder)
    file = rng.choice(sorted(runs.glob("*/checkpoints/2/meta/metadata")))
    meta = json.loads(file.read_text())
    del meta["digests"]
    for _ in range(rng.randint(1, 3)):
        if isinstance(meta, dict):
            meta = damage_json(meta, rng)
    file.write_text(json.dumps(meta))
    return f"{file.relative_to(runs)} forged"
