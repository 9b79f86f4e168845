# check: before every commit, in under two minutes on two cores. test: everything that pytest has. docs: the pages that
# are generated. .ci/run does the whole check from a fresh environment.
PYTHON ?= python
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

.PHONY: check lint types fast test docs

check:
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint types fast

lint:
	ruff check .
	ruff format --check .

types:
	pyright

fast:
	$(PYTHON) -m pytest -n 2 @tests/fast.txt

test:
	$(PYTHON) -m pytest -n 2

docs:
	$(PYTHON) tools/document_config.py
	$(PYTHON) tools/document_kit.py
	$(PYTHON) tools/document_faults.py
