"""What the documents promise: commands whose flags exist, files that are there, figures with a command."""

import importlib
import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = ("rollout", "evaluate", "prepare", "export")
SCRIPTS = {name: f"python scripts/{name}.py" for name in COMMANDS}
SCRIPTS |= {"predict": "python scripts/rollout.py", "train": "python -m vidpred_jax.train"}


def commands_of(page) -> list[list[str]]:
    """Every command of the package in a page's code blocks, as words."""
    blocks = re.findall(r"```(?:\w*)\n(.*?)```", page.read_text(), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [re.sub(r"^vidpred (\w+)", lambda found: SCRIPTS[found[1]], line) for line in lines]
    found = [re.search(r"python (scripts/\S+|benchmarks/\S+|-m vidpred_jax.train).*", x) for x in lines]
    plain = [re.sub(r"\[(--\S+?)\]", r"\1", x[0]) for x in found if x]
    return [shlex.split(line, comments=True)[1:] for line in plain]


@pytest.fixture(scope="module")
def flags_of():
    """{command: the names of its flags}."""

    def read(command):
        code = f"from absl import flags; import vidpred_jax.cli.{command}; print(*flags.FLAGS)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        return set(done.stdout.split())

    return {command: read(command) for command in COMMANDS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_flags_that_pages_give_them(page, flags_of):
    for script, *words in commands_of(page):
        if script == "-m":
            named = [w.split("=")[1] for w in words if w.startswith("--config=")]
            path, _, preset = named[0].partition(":") if named else words[1].partition(":")
            path = path if named else f"configs/{path}.py"
            assert (ROOT / path).exists(), words
            presets = importlib.machinery.SourceFileLoader("c", str(ROOT / path)).load_module().PRESETS
            assert not preset or preset.strip("[]") in (*presets, "preset"), words
            continue
        assert (ROOT / script).exists(), script
        name = pathlib.Path(script).stem
        for word in words:
            if word.startswith("--") and name in flags_of:
                flag = word[2:].split("=")[0]
                assert {flag, flag.removeprefix("no")} & flags_of[name], f"{page.name}: {name} {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        made = re.search(
            r"reference/(commands|config|metrics)\.md$", target
        )  # By `make docs`, which checks them.
        assert made or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_is_short():
    text = (ROOT / "README.md").read_text()
    lines = text.splitlines()
    assert len(lines) <= 150 and len(text.split()) <= 1600
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]


def test_tables_are_those_of_results():
    check = [sys.executable, "benchmarks/results.py", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for file in (ROOT / "results").glob("*.json"):
        text = file.read_text()
        assert json.loads(text)["command"].startswith("python "), file.name
        assert '"/' not in text, f"{file.name} names a folder of one machine"
