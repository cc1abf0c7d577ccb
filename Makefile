# Each target sets up what it needs in .venv, from nothing but Python 3.11+ and pip (or uv, when it is there).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DONE   := $(VENV)/.installed
# in the order of the folders: what takes long (tests/end_to_end) does not start last
TESTS  := $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder

.PHONY: demo test check bench soak clean

demo: $(DONE)
	$(BIN)/llm-savings demo --html report.html $(ARGS)

test: $(DONE)
	$(TESTS) $(ARGS)

check: $(DONE)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright
	$(TESTS)

bench: $(DONE)
	for file in tests/benchmarks/bench_*.py; do echo; echo "== $$file"; $(BIN)/python $$file || exit 1; done

soak: $(DONE)
	$(BIN)/python -m pytest -m soak -s $(ARGS)

$(DONE): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  { [ -x $(BIN)/python ] || uv venv -q --python $(PYTHON) $(VENV); } && \
	  uv pip install -q --python $(BIN)/python -e ".[test]"; \
	else \
	  { [ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV); } && \
	  $(BIN)/python -m pip install -q --disable-pip-version-check -e ".[test]"; \
	fi
	@touch $(DONE)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
