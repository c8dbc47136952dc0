"""The wheel, built, and its command as it is installed."""

import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    done = subprocess.run([*pip, "--wheel-dir", folder, ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def vidpred(wheel, tmp_path_factory):
    """The installed command, run elsewhere than in the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    environment = {"PYTHONPATH": str(folder / "installed"), "PATH": "", "JAX_PLATFORMS": "cpu"}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")

    def run(*words, folder=folder):
        command = [sys.executable, "-m", "vidpred_jax", *map(str, words)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.folder = folder
    return run
