# Two commands on a fresh machine with Python 3.11: `make export` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

DEMO := build/demo
DEMO_PORT ?= 8080

.PHONY: export demo pictures check test cluster test-cluster wheel lint docs lock clean

# Publishes one variant with random (seeded) weights, from what is in the repository.
export: $(VENV)/installed
	$(RUN) -m pipelines.publish --variants cait_xxs24_224 --checkpoints random \
		--sample_shard 'tests/data/sample-shard-*' --publish_to build/published

# A small model of shapes that was trained, from its weights to a page in the browser. Ctrl-C ends it.
demo: $(VENV)/installed
	$(RUN) -m examples.draw_shapes --images 24 --to $(DEMO)/shapes.tar --photograph $(DEMO)/star.jpg
	$(RUN) -m pipelines.publish --checkpoints examples/shapes --model_name shapes --heads classifier \
		--sample_shard $(DEMO)/shapes.tar --publish_to $(DEMO)/published
	$(RUN) -m serving.page --published $(DEMO)/published --photograph $(DEMO)/star.jpg \
		--port $(DEMO_PORT) --open

# The pictures of that page in docs/, of what the demo published.
pictures: $(VENV)/dev
	$(RUN) -m docs.pictures --published $(DEMO)/published --photograph $(DEMO)/star.jpg

# A worker runs whole files, whose tests share fixtures, in the order of tests/conftest.py.
PYTEST := $(RUN) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST)

# The fast loop: all but the tests that are marked as slow.
check: lint
	$(PYTEST) -m "not slow"

# The jobs on clusters that are started here, of hosts that share no disk: mount namespaces, which
# need root, or a kernel that lets others have them. Flink needs Java 17 and Maven.
test-cluster: $(VENV)/dev
	$(PYTEST) --timeout 1800 tests/cluster

# Flink on the same hosts, shown: two variants published there, and evaluated.
cluster: $(VENV)/dev
	$(RUN) -m tests.support.cluster

# The code as workers of a cluster get it. What an earlier build left would be in it.
wheel: $(VENV)/installed
	rm -rf build/lib build/bdist.* build/wheels cait_serving.egg-info
	$(RUN) -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
		--wheel-dir build/wheels .
	rm -rf build/lib build/bdist.* cait_serving.egg-info
	@echo $(CURDIR)/build/wheels/*.whl

lint: $(VENV)/dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The site of the documentation, in build/site. A dead link fails.
docs: $(VENV)/dev
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

# After a change of dependencies in pyproject.toml. What is locked stays as it is, where it may;
# `make lock UPGRADE=--upgrade` takes the newest. requirements.lock is what every command needs,
# requirements-dev.lock the same with the tools for tests and checks. The extra for Google's cloud
# is in neither: it would double the packages. One test of `make test-cluster` has a lock of its own.
COMPILE = $(VENV)/bin/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --quiet \
	--custom-compile-command 'make lock' --extra hub --extra upload --extra s3 --extra page \
	--extra pictures

lock: $(VENV)/dev
	$(COMPILE) --extra dev $(UPGRADE) --output-file requirements-dev.lock
	$(COMPILE) --constraints requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --extra gcp --constraints requirements-dev.lock \
		--output-file tests/support/cluster/dataflow.lock

# The stamps are written last: an installation that was broken off is done again.
$(VENV)/installed: requirements.lock
	$(INSTALL)
	touch $@

# The tools for tests and checks, and all of requirements.lock in the same versions.
$(VENV)/dev: requirements-dev.lock requirements.lock
	$(INSTALL)
	touch $(VENV)/installed $@

define INSTALL
$(PYTHON) -c 'import sys; sys.exit("Python 3.11 is needed, not %d.%d; make PYTHON=python3.11" \
	% sys.version_info[:2] if sys.version_info[:2] != (3, 11) else 0)'
$(PYTHON) -m venv $(VENV)
$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
endef

clean:
	rm -rf build $(VENV)
