# make demo    set everything up and do the main job on a real model and real pictures
# make test    the whole test suite (make lint: ruff and mypy)
# make build   the C extension, in place (kernels/_native.abi3.so)
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check -q
C_SOURCES = $(shell find csrc -name '*.c' -o -name '*.h' -o -name '*.inc' -o -name flags.txt) CMakeLists.txt kernels/make_native.py
WORKERS ?= 2
# Only tests need it (the extra `train`). The newest torch brings 3 GB of CUDA libraries; this release is had for the processor alone
# (190 MB, 20 s) where pip knows such a wheel: PyTorch's own CPU index in PIP_EXTRA_INDEX_URL, or a folder in PIP_FIND_LINKS.
TORCH ?= torch==2.13.0

.PHONY: demo test lint build clean

build: $(VENV)/.built

$(VENV)/.tools:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install 'scikit-build-core>=0.11' 'cffi>=1.17' setuptools 'cmake>=3.24' ninja
	touch $@

$(VENV)/.built: $(VENV)/.tools pyproject.toml $(C_SOURCES)
	$(PIP) install --no-build-isolation -e '.[cross,test,bench]'
	touch $@

demo: build
	$(BIN)/python -m bench.demo

$(VENV)/.torch: | $(VENV)/.built
	$(PIP) install '$(TORCH)'
	touch $@

test: build $(VENV)/.torch
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup tests

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build $(VENV)/.built kernels/_native*.so
