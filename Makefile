# All targets work on a machine that has nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH ?= https://download.pytorch.org/whl/cpu

.PHONY: benchmarks demo test test-frameworks lint experiment clean

demo: $(STAMP) ## set everything up and grow the trained digits network
	$(BIN)/onnx-net2net demo -o demo

test: $(STAMP) lint ## set everything up, check style and types, run all tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests

test-frameworks: $(STAMP) ## the tests that need PyTorch, which is large
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[checkpoints,dev,torch]' onnxscript
	$(BIN)/python -m pytest tests/test_checkpoint.py tests/test_torch.py tests/test_weights.py

lint: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

experiment: $(VENV)/.experiment ## train teachers, students and baselines, and write docs/experiment.md
	$(BIN)/python -m benchmarks.experiment

$(VENV)/.experiment: $(STAMP) # PyTorch without a GPU is a tenth of the download
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --extra-index-url $(TORCH) --editable '.[experiment]'
	touch $@

benchmarks: $(VENV)/.benchmarks ## time and memory, beside other tools; writes docs/benchmarks.md (25 GB of disk)
	$(BIN)/python -m benchmarks.speed

$(VENV)/.benchmarks: $(STAMP) benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --extra-index-url $(TORCH) -r benchmarks/requirements.txt
	touch $@

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo
