# make run      set up what is missing and serve the page (MODEL=2B for a real InternVL3,
#               ENGINE=http://host:23333/v1 for one that is served elsewhere)
# make test     set up what is missing and run every check
# make install  the environment alone
# make bench    measure this program beside its rivals, in one run

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 7860
MODEL ?= bundled
ENGINE ?=

BIN := .venv/bin

.PHONY: run test install lint checkpoint figures bench screenshots

run: .venv/installed
	$(BIN)/python app.py --host $(HOST) --port $(PORT) --model $(MODEL) $(if $(ENGINE),--engine $(ENGINE))

test: .venv/installed-dev .venv/browser .venv/nginx .venv/serving/installed lint
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/installed

# Measure beside the model card's way, in one run. BENCH="stop --quick" chooses.
bench: .venv/installed-dev .venv/serving/installed
	$(BIN)/python -m benchmarks $(BENCH)

# Take the README's pictures of the page anew.
screenshots: .venv/installed-dev .venv/browser
	$(BIN)/python -m tests.take_screenshots

# How well the bundled checkpoint does on pictures it never saw.
figures: .venv/installed
	$(BIN)/python -m training.evaluate

# Train the bundled checkpoint from scratch.
checkpoint: .venv/installed
	$(BIN)/python -m training.train --out runs/checkpoint

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.venv/browser: .venv/installed-dev
	sh tests/install_browser.sh $(BIN)
	@touch $@

.venv/nginx: .venv/installed-dev
	sh tests/install_nginx.sh
	@touch $@

# What `transformers serve` needs in tests, and our own transformers must not see.
.venv/serving/installed: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target .venv/serving torchvision==0.28.0
	@touch $@
