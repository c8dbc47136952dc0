"""The wheel: what a user installs holds the package, its weights and its page, and imports."""

import pathlib
import subprocess
import sys
import zipfile

import vidpred_jax

ROOT = pathlib.Path(__file__).parents[2]


def archive_text(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode()


def test_wheel(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    done = subprocess.run([*pip, "--wheel-dir", tmp_path, ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert vidpred_jax.__version__ in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    for config in (ROOT / "configs").glob("*.py"):
        assert archive_text(wheel, f"vidpred_jax/configs/{config.name}") == config.read_text()
    files = (f for f in (ROOT / "vidpred_jax").rglob("*") if f.is_file() and f.suffix != ".pyc")
    assert {str(f.relative_to(ROOT)) for f in files} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    code = "import vidpred_jax as v; print(v.load('sprites').size)"
    alone = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(alone, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "(64, 64)", done.stderr
    # The command trains by the name of a config, where no checkout is.
    train = [sys.executable, "-m", "vidpred_jax", "train", "fusion:smoke", "--config.num_steps=1"]
    done = subprocess.run(train, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "fusion: done at step 1" in done.stdout, done.stderr
