# `make run` starts a member, `make cluster` three, `make test` passes the tests; each sets up what it
# needs first.
#
# Distributions build python3 with profile-guided optimisation, others mostly do not and serve up to a
# quarter fewer puts: the distribution's is taken if it is new enough and can make environments.
PYTHON ?= $(shell for each in /usr/bin/python3 python3; do \
	$$each -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; echo $$each)
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: run cluster test lint pb clean

run: $(VENV)/.run-ready
	@$(BIN)/etcdtw $(ARGS)

cluster: $(VENV)/.run-ready
	@$(BIN)/etcdtw playground $(ARGS)

test: $(VENV)/.test-ready
	$(BIN)/python -m twisted.trial -j3 tests

lint: $(VENV)/.test-ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# Regenerates the protobuf modules from the .proto files beside them.
pb: $(VENV)/.test-ready
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. etcdtw/pb/*.proto

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-ready: setup.py pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable . --config-settings editable_mode=compat
	@touch $@

$(VENV)/.test-ready: setup.py pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --config-settings editable_mode=compat
	@touch $@ $(VENV)/.run-ready

clean:
	rm -rf $(VENV) build dist *.egg-info _trial_temp*
