# make demo: install, fit a proposal, train both stages over it on the embedded data, predict 32 frames.
# make test: install, lint, unit tests, smoke runs end to end, resume, devices.
# make docs: the site, build/site, strictly.
# make check: wheel, documents, several processes, faults, benchmarks, these pages, examples, a short fuzz.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
OVER := --config.proposals="('scene',)"
PYTEST := $(BIN)/python -m pytest --numprocesses=$(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --dist=loadfile --no-loadscope-reorder

.PHONY: demo test check docs lint results clean

demo: $(VENV)/installed
	$(BIN)/python -m vidpred_jax.train --config=configs/proposal.py:scene --workdir=$(DEMO)/runs/scene
	$(BIN)/python -m vidpred_jax.train --config=configs/fusion.py:cpu --workdir=$(DEMO)/runs/fusion $(OVER)
	$(BIN)/python -m vidpred_jax.train --config=configs/translator.py:cpu --workdir=$(DEMO)/runs/translator $(OVER)
	$(BIN)/python scripts/rollout.py --runs=$(DEMO)/runs/fusion,$(DEMO)/runs/translator --output=$(DEMO)/rollout

test: $(VENV)/installed-test lint
	$(PYTEST) tests --ignore=tests/check

check: $(VENV)/installed-test docs
	$(PYTEST) tests/check
	$(BIN)/python tests/fuzz.py --inputs=120

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

results: $(VENV)/installed
	$(BIN)/python benchmarks/results.py

$(VENV)/installed: pyproject.toml requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
