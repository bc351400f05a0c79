# Each verb does all its own set-up on a machine that has only Python 3.11+, make and git.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
LIMBO  ?= ../shared/vectors/x509-limbo.json

.PHONY: texts pictures demo test lint chaos longtests tools limbo lock clean help
help:           ## list the verbs
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "certbridge needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

demo: $(VENV)/.ready  ## renew a simulated fleet, from survey to proof
	$(BIN)/certbridge demo $(ARGS)

# Tests wait half of the time, so there are two processes for each core; files come in the order of tests/conftest.py.
# An empty PYTHONDONTWRITEBYTECODE lets the hundreds of workers that tests start find our modules compiled.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(6, 2 * (os.cpu_count() or 1)))')
test: $(VENV)/.ready  ## run the whole test suite (JOBS=… processes)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.ready  ## ruff, mypy, the import contract, the Compose schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

chaos: $(VENV)/.ready ## kill everything at random (SEED=… ROUNDS=…) and see that nothing is lost; at most 15 minutes
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

longtests: $(VENV)/.ready ## the tests that `make test` leaves out or cuts short because they take long (each failpoint by kill -9, …)
	CERTBRIDGE_CHAOS=1 $(BIN)/python -m pytest -m "chaos or longer" $(ARGS) tests

tools:          ## install the other programs that some tests need (Debian, as root)
	@missing=""; for p in openssl ssh sftp strace faketime chromium npm; do command -v $$p >/dev/null || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then echo "tools: openssl, ssh, sftp, strace, faketime, chromium and npm are here"; else \
	echo "tools: installing for:$$missing"; apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssl openssh-client strace faketime chromium \
	$$(command -v npm >/dev/null || echo nodejs npm); fi
	@test -f .tools/node_modules/axe-core/axe.min.js || npm install --silent --no-fund --no-audit --prefix .tools axe-core@4.14.1

texts: $(VENV)/.ready ## make the catalogues of the pages' texts anew (api/locale); translate what it says is missing
	$(BIN)/python -m api.pages.extract

pictures: $(VENV)/.ready ## take the pictures of the pages in docs/images/pages anew (needs chromium and a Korean font)
	$(BIN)/python docs/images/make_screenshots.py

limbo: $(VENV)/.ready ## run the cases of x509-limbo and list every deviation with its reason
	@test -f $(LIMBO) || { echo "limbo: $(LIMBO) is missing. Get limbo.json from the repository C2SP/x509-limbo (Apache-2.0) and run: make limbo LIMBO=path"; exit 2; }
	$(BIN)/python -m tests.limbo $(LIMBO)

lock: $(VENV)/.ready ## pin every package again, with hashes and without addresses
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --extra dev --upgrade pyproject.toml -o requirements/dev.txt
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  -c requirements/dev.txt pyproject.toml -o requirements/runtime.txt

clean:          ## remove what the verbs made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
