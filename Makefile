# Everything runs from .venv, which `make` builds with tested versions (constraints.txt).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO ?= checkpoints/demo
DEMO_FLAGS ?=

.PHONY: demo test lint bench weights vocabularies clean

demo: $(VENV)/.installed weights-gemma3-270m
	$(RUN) -m survey_jax.train --config=configs/demo.py --workdir=$(DEMO) $(DEMO_FLAGS)
	$(RUN) -m survey_jax.eval --workdir=$(DEMO)

test: $(VENV)/.test weights vocabularies
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile $(TESTS)

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/.bench weights
	$(RUN) -m benchmarks.speed
	$(RUN) -m benchmarks.start
	$(RUN) -m benchmarks.growth
	$(RUN) -m benchmarks.trees
	$(RUN) -m benchmarks.prepare
	$(RUN) -m benchmarks.metrics
	$(RUN) -m benchmarks.loading
	$(RUN) -m benchmarks.quantize
	$(RUN) -m benchmarks.plan_memory --config=configs/smollm2.py --model=SmolLM2-135M --devices=8 --config.batch.batch_size=8 \
	  --config.batch.seq_len=256
	$(RUN) -m benchmarks.scaling
	$(RUN) -m benchmarks.chaos

weights: weights-smollm2 weights-gemma3-270m

weights-%: $(VENV)/.installed
	$(RUN) -m survey_jax.fetch $*

vocabularies: $(VENV)/.installed
	$(RUN) tests/vocabularies.py

$(VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	touch $@

$(VENV)/.test $(VENV)/.dev $(VENV)/.bench: $(VENV)/.%: $(VENV)/.installed
	$(INSTALL) --editable .[$*]
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
