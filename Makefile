# Everything is set up by the first target that needs it, and only once.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Processes that share the tests out, file by file.
WORKERS ?= 2
# What only tests, checks and documentation need; without a library the tests of its integration are skipped.
EXTRAS := .venv/.extras
NATIVE := $(wildcard src/throughtime/kernels/native/*.* src/throughtime/kernels/native/cells/*.h)

SANITIZED := build/sanitized/_native.so
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all

.PHONY: demo test check docs campaign sanitize clean

demo: $(STAMP)
	$(BIN)/throughtime compare --only window elman lstm cloze --minutes 0.8 --hidden-size 256 --embedding-size 256

test: $(EXTRAS)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(EXTRAS)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

campaign: $(EXTRAS)
	$(BIN)/python -m pytest -m campaign

# The compiled loops under AddressSanitizer and UndefinedBehaviorSanitizer.
sanitize: $(STAMP) $(SANITIZED)
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 THROUGHTIME_NATIVE=$(SANITIZED) $(BIN)/python -m pytest tests/kernels

$(SANITIZED): $(NATIVE)
	mkdir -p $(@D)
	$(CXX) -std=gnu++17 -O1 -g -fPIC -shared -fno-math-errno $(SANITIZE) -o $@ $(filter %.cpp,$^)

clean:
	rm -rf .venv build dist docs/_build docs/reference/api src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(EXTRAS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[dev,docs,lightning,transformers,tensorboard,wandb,onnx,dask]'
	touch $@
