"""Damaged and hostile inputs: each must end soon, in success or in one clear line.

python tests/fuzz.py --inputs=2000 [--seed=0] [--kinds=video,npz] [--output=results/fuzz.json]

Every input is a sound file or folder with random damage, given to the command or function that
reads it, in a process of its own. A failure of ours: a traceback or a line that only names a Python
error, a crash, more than 10 s or 2 GiB, a file half-written, or one touched outside the output.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback

from absl import logging
from commands import PRELOADED, ROOT
from fuzz_kinds import KINDS, command, fill, make_sound

from vidpred_jax import processes
from vidpred_jax.cli import common
from vidpred_jax.types import UserError

SECONDS, BYTES = 10, 2 << 30
# Printed by C libraries, past Python; beside our line, not instead of it.
_DECODERS = (
    "libpng ",
    "Corrupt JPEG",
    "Premature end of JPEG",
    "Invalid SOS",
    "Unsupported marker",
    "Warning: unknown JFIF",
    "Inconsistent progression",
    "tempfile.tif: ",
    "LZWDecode: ",
    "TIFF",
)


def attempt(kind, number: int, seed: int, sound, folder: pathlib.Path, harm: bool = True) -> dict:
    """One input: {kind, number, what, seconds, exit, line, fault ('' for none)}."""
    rng = random.Random(f"{seed} {kind} {number}")
    box = folder / f"{kind}_{number}"
    what = fill(box, kind, sound, rng, harm)
    before = _listing(box)
    context = multiprocessing.get_context("forkserver")
    outside = _outside()
    process = context.Process(target=_attempt, args=(kind, str(box)))
    start = time.monotonic()
    process.start()
    process.join(SECONDS)
    seconds = time.monotonic() - start
    hung = process.is_alive()
    if hung:
        process.kill()
        process.join()
    said, peak = _read(box / "err"), int(_read(box / "peak") or 0)
    errors = [x for x in said.splitlines() if not x.startswith(("warning: ", *_DECODERS))]
    code, fault = process.exitcode, ""
    if code == 255:  # The fork server's word for a child that it has lost sight of.
        code = int(_read(box / "code") or 255)
    if hung:
        fault = f"more than {SECONDS} s"
    elif code not in (0, 1, 2):
        fault = f"exit code {code}"
    elif "Traceback" in said or "--debug shows where" in said:
        fault = "not a clear line"
    elif code and (len(errors) != 1 or not errors[0].startswith("error: ")):
        fault = "not one line"
    elif peak > BYTES:
        fault = f"{peak >> 20} MiB"
    else:
        fault = _touched(kind, before, _listing(box), code)
    if not fault and _outside() != outside:
        fault = f"touched {sorted(_outside() ^ outside)}"
    found = {"kind": kind, "number": number, "what": what, "exit": code, "fault": fault}
    found |= {"seconds": round(seconds, 2), "peak_mib": peak >> 20, "line": _ends(said.strip())}
    if not fault:
        shutil.rmtree(box)
    return found


def _ends(text: str) -> str:
    return text if len(text) < 800 else f"{text[:500]} ... {text[-300:]}"


def _touched(kind, before, after, code) -> str:
    ours = ("out/", "err", "said", "peak", "code", "tmp/", *(("in/fusion/",) if kind == "resumed" else ()))
    for path in before.keys() | after.keys():
        if not path.startswith(ours) and before.get(path) != after.get(path):
            return f"touched {path}"
    left = [p for p in after if p.startswith("tmp/") or ".writing-" in p or "incomplete" in p]
    if left:
        return f"left {left[0]}"
    if kind == "config":  # A data set may be made, whole, before another field is refused.
        return ""
    # The same command goes on behind shards that are finished.
    finished = lambda path: "/parts/" in path and "unfinished" not in path
    written = [p for p in after if p.startswith("out/") and not finished(p)]
    return f"left {written[0]}" if code and written else ""


def _outside() -> set[str]:
    """The working folder of the commands: where a relative path would lead."""
    return {path.name for path in ROOT.iterdir()}


def _listing(box) -> dict:
    return {
        str(f.relative_to(box)): (f.stat().st_size, f.stat().st_mtime_ns)
        for f in box.rglob("*")
        if f.is_file()
    }


def _read(path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _attempt(kind, box):
    """In the process of the attempt."""
    box = pathlib.Path(box)
    for number, name in ((1, "said"), (2, "err")):
        os.dup2(os.open(box / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
    (box / "tmp").mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(box / "tmp")
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))  # The machine's protection.
    os.chdir(ROOT)
    common.keep_errors_to_a_line()
    processes.end = sys.exit  # Its peak is written after it.
    logging.set_verbosity(logging.FATAL)
    reader = KINDS[kind][0]
    try:
        found = reader(box)
        if isinstance(found, list):
            command(found)
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        (box / "code").write_text(str(error.exit_code))
        sys.exit(error.exit_code)
    except SystemExit as stop:
        (box / "code").write_text(str(stop.code or 0))
        raise
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        (box / "peak").write_text(str(peak))


def run(inputs: int, seed: int, kinds: list[str], folder: pathlib.Path, log, first: int = 0):
    """What became of each input."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "fuzz_kinds"])
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    sound = folder / "sound"
    make_sound(sound, kinds)
    for kind in kinds:  # What is not damaged is accepted.
        for number in range(3):
            one = attempt(kind, -1 - number, seed, sound, folder, harm=False)
            assert one["exit"] == 0 and not one["fault"], one
    total = sum(KINDS[kind][1] for kind in kinds)
    jobs = []
    for kind in kinds:
        count = -(-inputs * KINDS[kind][1] // total)
        jobs += [(kind, first + number) for number in range(count)]
    random.Random(seed).shuffle(jobs)
    found = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        tries = pool.map(lambda job: attempt(*job, seed, sound, folder), jobs)
        for number, one in enumerate(tries, 1):
            found.append(one)
            if one["fault"]:
                log(f"{one['kind']} {one['number']}: {one['fault']}: {one['what']}: {one['line']}")
            if number % 100 == 0:
                log(f"{number} of {len(jobs)} inputs, {sum(bool(x['fault']) for x in found)} faults")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input of a kind")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kinds = options.kinds.split(",")
        log = lambda line: print(line, flush=True)
        found = run(options.inputs, options.seed, kinds, pathlib.Path(folder), log, options.first)
    faults = [x for x in found if x["fault"]]
    report = {
        "command": " ".join(["python", *sys.argv]),
        "inputs": len(found),
        "faults": faults,
        "by_kind": {
            kind: {
                "inputs": sum(x["kind"] == kind for x in found),
                "accepted": sum(x["kind"] == kind and x["exit"] == 0 for x in found),
                "refused": sum(x["kind"] == kind and x["exit"] in (1, 2) for x in found),
                "most_seconds": max(x["seconds"] for x in found if x["kind"] == kind),
                "most_mib": max(x["peak_mib"] for x in found if x["kind"] == kind),
            }
            for kind in kinds
        },
        "seconds": round(time.monotonic() - start),
    }
    print(json.dumps({k: v for k, v in report.items() if k != "faults"}, indent=1))
    if options.output:
        pathlib.Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
