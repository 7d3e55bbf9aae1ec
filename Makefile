# Everything runs from .venv, which `make` builds with versions that were tested on this Python (constraints/). For
# another Python: make test PYTHON=python3.12, which builds .venv anew, or with VENV=.venv-3.12 keeps both.
PYTHON ?= python3
VENV ?= .venv
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := constraints/python$(VERSION).txt
ifeq ($(wildcard $(CONSTRAINTS)),)
$(error $(PYTHON) is Python $(VERSION), which has no file under constraints/; choose one that has, as in: make test PYTHON=python3.12)
endif
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
INSTALLED := $(VENV)/.installed-$(VERSION)
DEMO ?= checkpoints/demo
DEMO_FLAGS ?=

.PHONY: demo test smoke lint docs bench weights vocabularies clean

demo: $(INSTALLED)
	$(RUN) -m survey_jax demo --workdir=$(DEMO) -- $(DEMO_FLAGS)

test: $(VENV)/.test-$(VERSION) weights vocabularies
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile $(TESTS)

# A part of the tests that shows that a Python and its versions work: import, train, resume, evaluate, export.
smoke: $(VENV)/.smoke-$(VERSION)
	$(RUN) -m pytest tests/test_smoke.py

lint: $(VENV)/.dev-$(VERSION)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The pages as a site, under build/site.
docs: $(VENV)/.docs-$(VERSION)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet

bench: $(VENV)/.bench-$(VERSION) weights
	$(RUN) -m benchmarks.speed
	$(RUN) -m benchmarks.start
	$(RUN) -m benchmarks.growth
	$(RUN) -m benchmarks.trees
	$(RUN) -m benchmarks.prepare
	$(RUN) -m benchmarks.metrics
	$(RUN) -m benchmarks.predict_cells
	$(RUN) -m benchmarks.loading
	$(RUN) -m benchmarks.quantize
	$(RUN) -m benchmarks.plan_memory --config=configs/smollm2.py --model=SmolLM2-135M --devices=8 --config.batch.batch_size=8 \
	  --config.batch.seq_len=256
	$(RUN) -m benchmarks.scaling
	$(RUN) -m benchmarks.chaos

weights: weights-smollm2 weights-gemma3-270m

weights-%: $(INSTALLED)
	$(RUN) -m survey_jax.fetch $*

vocabularies: $(INSTALLED)
	$(RUN) tests/vocabularies.py

$(INSTALLED): setup.py $(CONSTRAINTS)
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) --editable .
	touch $@

$(VENV)/.smoke-$(VERSION) $(VENV)/.docs-$(VERSION) $(VENV)/.test-$(VERSION) $(VENV)/.dev-$(VERSION) $(VENV)/.bench-$(VERSION): $(VENV)/.%-$(VERSION): $(INSTALLED)
	$(INSTALL) --editable .[$*]
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
