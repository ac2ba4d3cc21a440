# The same commands for people and for CI. `make` alone lists them.
VENV   ?= .venv
PYTHON ?= python3
TORCH  ?= torch==2.13.0

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check
CORE := pyproject.toml CMakeLists.txt $(wildcard native/*.cpp native/*.h native/kernels/*)

.PHONY: help run install test test-slow mutate lint format clean

help:
	@echo "make run              chat with the embedded model"
	@echo "make run PROMPT=...   one answer"
	@echo "make test             the tests (under ten minutes); make test-slow runs the rest"
	@echo "make mutate           break the code on purpose, line by line, and see which test notices"
	@echo "make lint             ruff, mypy, clang-format; make format mends what can be mended"
	@echo "make clean            remove the virtual environment and the build"

run: $(VENV)/installed
	@$(BIN)/headrace run nano $(if $(PROMPT),"$$PROMPT")
export PROMPT

install: $(VENV)/installed

test: $(VENV)/test-installed
	$(BIN)/python -m pytest $(ARGS)

# Each test with its time as it ends, so that a run that is cut says how far it came and what it waited for.
test-slow: $(VENV)/test-installed
	$(BIN)/python -m pytest -m slow -v -o console_output_style=times --durations=15 $(ARGS)

# Breaks one line at a time and names the test that caught it: see docs/log.md. A quarter of an hour on two cores.
mutate: $(VENV)/test-installed
	$(BIN)/python -m tests.mutation $(ARGS)

lint: $(VENV)/lint-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'native/*.cpp' 'native/*.h')

format: $(VENV)/lint-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'native/*.cpp' 'native/*.h')

clean:
	rm -rf $(VENV) build

# The build prints a line for each file that is compiled. Its whole output is kept in build/install.log.
$(VENV)/installed: $(CORE) | $(VENV)/created
	@echo "Building the native core and installing Headrace (about a minute) ..."
	@mkdir -p build
	@{ $(PIP) install -v -e . 2>&1; echo $$? >build/install.status; } | tee build/install.log \
		| awk '/^ *\[[0-9]+\/[0-9]+\]/ || /^Collecting/ || /[Ee]rror:/ || /^Successfully/ { sub("CMakeFiles/.*/", ""); print "  " $$0; fflush() }'
	@test "$$(cat build/install.status)" = 0 || { echo "The build failed: see build/install.log"; exit 1; }
	@touch $@

# torch comes first and pinned: what the oracles ask for must not pull in another build of it.
$(VENV)/test-installed: $(VENV)/installed pyproject.toml
	$(PIP) install -q "$(TORCH)"
	$(PIP) install -q -e ".[test]"
	@touch $@

$(VENV)/lint-installed: $(VENV)/installed pyproject.toml
	$(PIP) install -q -e ".[lint]"
	@touch $@

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Headrace needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1): use make PYTHON=python3.12"; exit 2; }
	@command -v $${CXX:-c++} >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
		{ echo "Headrace needs a C++ compiler: install g++ or clang, or name yours with CXX=..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv module is missing or broken: install it (Debian: apt-get install python3-venv)"; exit 2; }
	@touch $@
