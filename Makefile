# Two commands on a fresh machine with Python 3.11: `make export` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: export test lint docs lock clean

# The main job on what the repository holds: one variant, weights made by rule.
export: $(VENV)/installed
	$(RUN) -m pipelines.publish --variants cait_xxs24_224 --checkpoints random \
		--sample_shard 'tests/data/sample-shard-*' --publish_to build/published

test: lint
	$(RUN) -m pytest --numprocesses 2 --dist loadgroup

lint: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The site of the documentation, in build/site. A dead link fails.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

# After a change of requirements.in.
lock: $(VENV)/installed
	$(VENV)/bin/uv pip compile requirements.in --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --upgrade --quiet \
		--custom-compile-command 'make lock' --output-file requirements.lock

# The stamp is written last: an installation that was broken off is done again.
$(VENV)/installed: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 is needed, not %d.%d; make PYTHON=python3.11" \
		% sys.version_info[:2] if sys.version_info[:2] != (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements.lock
	touch $@

clean:
	rm -rf build $(VENV)
