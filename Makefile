# make demo   set up, write a sample video and classify it with the bundled model
# make test   set up and run the tests
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = demo

.PHONY: screenshots demo test slow check format dist bench bench-full bundled-model clean

demo: $(VENV)/.runs
	$(BIN)/xclip demo $(DEMO)

# Two processes of one thread each: most of what the tests do is too small for more.
test: $(VENV)/.develops
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

slow: $(VENV)/.develops
	$(BIN)/pytest -m slow --timeout 1800

check: $(VENV)/.develops
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_layers.py

format: $(VENV)/.develops
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The packages for PyPI, in dist/, and whether PyPI would show their README.
dist: $(VENV)/.develops
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

bench: $(VENV)/.develops
	$(BIN)/python -m tests.benchmarks

bench-full: $(VENV)/.develops
	$(BIN)/python -m tests.benchmarks --full

screenshots: $(VENV)/.develops
	$(BIN)/python .github/screenshots.py

# One thread a process: drawing and training share the cores.
bundled-model: $(VENV)/.runs
	$(BIN)/python -m xclip_cli.bundled.pictures
	OMP_NUM_THREADS=1 $(BIN)/python -m xclip_cli.bundled.training

clean:
	rm -rf $(VENV) $(DEMO) build dist

$(VENV)/.runs: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.develops: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@ $(VENV)/.runs
