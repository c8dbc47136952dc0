"""The house: which room imports which, and how large its files are."""

import ast
import json
import pathlib
import statistics
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "vidpred_jax"
# From the ground up: a room imports what stands before it; rooms of one line do not know each other.
FLOORS = (
    ("",),  # The files beside the rooms.
    ("data",),
    ("metrics",),
    ("models", "proposals"),
    ("checkpoints",),
    ("inference",),
    ("training",),
    ("evaluation",),
    ("cli",),
    ("train",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    """`vidpred_jax.data.fusion` -> `data`; of the files beside the rooms ''."""
    name = module.split(".")[1] if "." in module else ""
    return name if name in FLOOR else ""


def imports_of(path: pathlib.Path) -> set[str]:
    """The modules of the package that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return {name for name in found if name.startswith("vidpred_jax.")}


def test_imports_run_along_the_arrow():
    against = []
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        room = room_of(".".join(parts))
        if parts == ("vidpred_jax", "__init__"):  # Hands the public names on, when they are asked for.
            continue
        for module in imports_of(path):
            other = room_of(module)
            if other != room and FLOOR[other] >= FLOOR[room]:
                against.append(f"{'/'.join(parts)} ({room or 'ground'}) imports {module}")
    assert not against, "\n".join(against)


ALONE = """
import importlib, json, pkgutil, sys
found = {}
for room in sys.argv[1:]:
    for name in [n for n in sys.modules if n.split(".")[0] == "vidpred_jax"]:
        del sys.modules[name]
    package = importlib.import_module(f"vidpred_jax.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"vidpred_jax.{room}."):
        importlib.import_module(module.name)
    found[room] = [n for n in sys.modules if n.startswith("vidpred_jax.")]
print(json.dumps(found))
"""


def test_each_room_is_imported_alone():
    """With nothing of a later room coming along, late imports included."""
    rooms = [room for rooms in FLOORS[1:-2] for room in rooms]
    done = subprocess.run([sys.executable, "-c", ALONE, *rooms], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for room, loaded in json.loads(done.stdout).items():
        later = [m for m in loaded if room_of(m) != room and FLOOR[room_of(m)] >= FLOOR[room]]
        assert not later, f"{room} brings {later}"


def lines_of(folder: str) -> dict[str, int]:
    files = (f for f in (ROOT / folder).rglob("*.py"))
    return {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in files}


@pytest.mark.parametrize(
    ("folder", "most"), [("vidpred_jax", 15_400), ("benchmarks", 1000), ("scripts", 300)]
)
def test_size_of_folders(folder, most):
    assert sum(lines_of(folder).values()) <= most


def test_size_of_files():
    folders = ("vidpred_jax", "configs", "scripts", "benchmarks", "tests")
    large = {f: n for folder in folders for f, n in lines_of(folder).items() if n > 300}
    assert not large
    lengths = [n for f, n in lines_of("vidpred_jax").items() if not f.endswith("__init__.py")]
    assert 100 <= statistics.median(lengths) <= 200
