PYTHON ?= python3
# The version that all is tested with. PyPI's build for Linux brings gigabytes of CUDA along, which
# make test TORCH='torch --index-url https://download.pytorch.org/whl/cpu' avoids.
TORCH ?= torch==2.13.0
BACKENDS ?= tensorflow jax torch
# Where `make demo`, `make bench` and `make lint` write: never into the checkout.
DEMO ?= $(or $(TMPDIR),/tmp)/batchnorm-demo-$(shell id -un)
BENCH ?= $(or $(TMPDIR),/tmp)/batchnorm-bench-$(shell id -un)
SITE ?= $(or $(TMPDIR),/tmp)/batchnorm-site-$(shell id -un)

BIN := .venv/bin
DEMO_READY := .venv/demo.ready
TEST_READY := .venv/test.ready
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-slow lint bench clean

demo: $(DEMO_READY)
	$(BIN)/batchnorm train lenet --output "$(DEMO)" --overwrite

test test-slow bench: export TF_CPP_MIN_LOG_LEVEL ?= 3
# A worker for each core: threads of PyTorch's beyond that wait for each other.
test: export OMP_NUM_THREADS ?= 1
# What JAX has compiled for one test serves the others, and the next time.
test: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.venv/jax
test: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

# A file to a worker, so that what its tests share is trained, and compiled, once. Tests that call
# no backend run once, in the last and shortest pass.
test: $(TEST_READY)
	@set -e; for backend in $(BACKENDS); do marks="not slow"; \
	  test $$backend = $(lastword $(BACKENDS)) || marks="$$marks and not no_backend"; \
	  echo "== $$backend: $$marks"; \
	  KERAS_BACKEND=$$backend $(BIN)/pytest -q -n 2 --dist loadfile -m "$$marks"; done

test-slow: $(TEST_READY)
	@set -e; for backend in $(BACKENDS); do echo "== $$backend"; \
	  KERAS_BACKEND=$$backend $(BIN)/pytest -q -m slow; done

lint: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir "$(SITE)"

bench: $(TEST_READY)
	$(BIN)/python experiments/numerics.py
	$(BIN)/batchnorm benchmark --output "$(BENCH)"

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's python3 has no ensurepip, but a pip of its own can fill an environment from outside.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "batchnorm needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv 2>/dev/null || { $(PYTHON) -m venv --without-pip .venv && \
	  $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	$(BIN)/python -m pip install -q --upgrade pip

$(DEMO_READY): pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install -q -e '.[tensorflow,train]'
	@touch $@

# PyTorch comes first, so that the extra finds the build that was asked for.
$(TEST_READY): pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install -q $(TORCH)
	$(BIN)/python -m pip install -q -e '.[tensorflow,jax,torch,train,test,docs]'
	@touch $@
