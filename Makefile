# Two commands for a newcomer: `make demo` and `make test`. Both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-vm check benchmarks clean

demo: $(VENV)/run.stamp
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/guestbook/demo.sh

# Three at a time, even on one or two processors: a test mostly waits for what it started.
test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q -n 3 --dist worksteal tests --ignore=tests/benchmarks

check: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q tests/test_lint.py tests/test_layers.py

# On cgroup v2 and systemd, where this machine has others: VM is a program that runs a command in a
# virtual machine with this folder in it (`VM run -- COMMAND`). VM_TESTS: what to run there; all of
# it takes about an hour on two emulated processors. There every process would take seconds longer
# if Python were kept from writing bytecode, as it may be here.
VM ?=
VM_TESTS ?= tests/engine/runtime tests/engine/networks tests/engine/isolation \
  tests/engine/test_isolation.py tests/engine/containers tests/engine/volumes \
  tests/engine/test_crash.py tests/engine/test_kills.py tests/engine/test_daemon.py
test-vm: $(VENV)/dev.stamp
	@test -n "$(VM)" || { echo 'say what runs a command in a virtual machine: make test-vm VM=...' >&2; exit 1; }
	PYTHONDONTWRITEBYTECODE= $(VM) run --timeout 7200 -- python -m pytest -q --timeout 600 $(VM_TESTS)

benchmarks: $(VENV)/dev.stamp
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info

# Debian ships python3 without venv and pip; fetch them where they are missing and we may. A venv
# that was not made whole goes again, or the next make would take it for one. What a pip before 25.2
# makes of an entry point imports `re` first: a third of the time of a command that a warm process runs.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'pycompose needs Python 3.11 or newer; say which one: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'python3-venv is missing; installing it'; \
	    apt-get install -y -qq python3-venv >/dev/null 2>&1 || \
	    { apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; }; } || \
	  { echo 'cannot install python3-venv: do it by hand as root, then make again' >&2; exit 1; }
	@$(PYTHON) -m venv --upgrade-deps $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/run.stamp: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

# Some tests run a busybox image or read our rules back by nft; without them they skip, and say so.
$(VENV)/dev.stamp: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@{ test -x /bin/busybox && command -v nft >/dev/null; } || test "$$(id -u)" != 0 || \
	  { echo 'installing busybox-static and nftables for the tests'; \
	    apt-get install -y -qq busybox-static nftables >/dev/null 2>&1 || \
	    { apt-get update -qq && apt-get install -y -qq busybox-static nftables >/dev/null; }; } || \
	  echo 'cannot install them: some tests will be skipped'
	@touch $@ $(VENV)/run.stamp
