# PYTHON=path/to/python make test
PYTHON ?= python
export TORCHDYNAMO_DISABLE = 1

.PHONY: check lint types fast test wheel train clean

check: lint types fast        ## before every commit, < 2 minutes

lint:
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

fast:
	$(PYTHON) -m pytest -q -m "not slow"

test:                         ## everything, <= 15 minutes on two cores
	$(PYTHON) -m pytest -q

wheel:                        ## dist/*.whl
	$(PYTHON) -m pip wheel --no-deps --wheel-dir dist .

train:                        ## the main job, <= 8 minutes on two cores
	$(PYTHON) -m ernie5 train recipes/tiny_cpu.yaml

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
