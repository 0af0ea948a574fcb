# What users and contributors type. `make` alone lists it; .ci/run calls the same targets.

PYTHON ?= python3
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WHEEL_VENV := .venv-wheel

DEMO := implicit-infer compare lotka-volterra --observed hudson-bay \
	--methods rejection-abc,smc-abc,nre,gatsbi,npe --budgets 10000 --repeats 1 --workers 2 --out runs/hudson-bay --seed 0

# Tests use JOBS processes of one thread each: small tensors gain nothing from more, and oversubscribed cores lose much.
# Each process gets whole files, so that what a file fits or compiles once is not made again in every process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo results test test-slow test-gpu test-wheel lint types format bench bench-ratios bench-gans bench-fitting bench-abc bench-sbi docs clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Compare five methods on the Hudson Bay pelts (minutes; resumes in runs/hudson-bay)
	$(BIN)/$(DEMO)

results: $(INSTALLED) ## Repeat the demo over three seeds: the table of the README (resumes in runs/hudson-bay)
	$(BIN)/$(DEMO) --repeats 3

test: $(INSTALLED) ## Run the fast tests (JOBS=2 processes)
	$(PYTEST) -n $(JOBS) --dist loadfile

test-slow: $(INSTALLED) ## Run the statistical tests that take minutes
	$(PYTEST) -n $(JOBS) --dist loadfile -m 'slow and not gpu'

test-gpu: $(INSTALLED) ## Run the tests that need CUDA
	$(BIN)/pytest -m gpu

# The wheel's environment borrows every dependency from .venv: a path in a .pth file is searched, but the .pth files
# found there are not run, so the editable install stays out. The tests start outside the checkout with no source root.
# They are those that see what a wheel may lack: every module and its examples, data files, compiled kernels, commands.
WHEEL_TESTS := docs test_docstrings.py test_packaging.py implicit_infer/test_cli.py implicit_infer/test_report_page.py \
	simulators/test_contract.py simulators/test_kernel_cache.py simulators/test_observations.py simulators/test_step.py

test-wheel: $(INSTALLED) ## Build the wheel and run against it, installed, the tests of what it may lack
	rm -rf build dist $(WHEEL_VENV)
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python -m venv --without-pip $(WHEEL_VENV)
	$(BIN)/pip --python $(WHEEL_VENV)/bin/python install --quiet --no-deps dist/*.whl
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(WHEEL_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
	cd $(WHEEL_VENV) && OMP_NUM_THREADS=1 bin/python -m pytest -n $(JOBS) --dist loadfile \
		-c "$(CURDIR)/pyproject.toml" --rootdir "$(CURDIR)" -o pythonpath= $(addprefix "$(CURDIR)"/tests/,$(WHEEL_TESTS))

lint: $(INSTALLED) ## Check style, formatting and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYTHONPATH=simulators:estimators $(BIN)/lint-imports --no-logo

types: $(INSTALLED) ## Check types, in the tests too
	$(BIN)/mypy

format: $(INSTALLED) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(INSTALLED) ## Run the engines beside their peers, then every benchmarks/bench_*.py
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_engines.py
	$(PYTEST) benchmarks -o python_files='bench_*.py' --benchmark-only \
		--benchmark-group-by=func --benchmark-columns=min,median,max,rounds

bench-ratios: $(INSTALLED) ## Measure every density-ratio estimator beside its peers (an hour or two; resumes in runs/ratios)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ratios run --jobs $(JOBS)
	$(BIN)/python -m benchmarks.ratios summary --detail

bench-gans: $(INSTALLED) ## Measure learning by comparison on problems with known answers (hours; resumes in runs/gans)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.gans run --jobs $(JOBS)
	$(BIN)/python -m benchmarks.gans summary

bench-fitting: $(INSTALLED) ## Measure fits of simulators on eight problems with known answers (an hour; resumes in runs/fitting)
	$(BIN)/python -m benchmarks.fitting run --jobs $(JOBS)
	$(BIN)/python -m benchmarks.fitting summary

bench-abc: $(INSTALLED) ## Measure ABC beside pyABC and sbi (hours; resumes in runs/abc)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.abc run --jobs $(JOBS)
	$(BIN)/python -m benchmarks.abc summary

bench-sbi: $(INSTALLED) ## Measure the default posterior on the SBI benchmark beside the published table (hours; resumes in runs/sbi)
	$(BIN)/python -m benchmarks.sbi run --jobs $(JOBS)
	$(BIN)/python -m benchmarks.sbi summary

docs: $(INSTALLED) ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## Remove what was built, and caches (keeps .venv and runs/)
	rm -rf build dist site $(WHEEL_VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
		.hypothesis .benchmarks
	find simulators estimators implicit_infer tests benchmarks docs -name __pycache__ -type d -exec rm -rf {} +

# One environment for every target, made again when a dependency changes. The tests hold the benchmark's tasks against
# sbibm's own simulators and reference samples. What it requires (an old sbi, Julia, ELFI, pyABC) is not needed for that,
# conflicts with ours, and an extra of pyproject.toml cannot leave it out: hence a line of its own, without dependencies.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: Python 3.11 or newer is needed; \"$(PYTHON)\" is not. Name another: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dask,dev,docs]'
	$(BIN)/python -m pip install --no-deps sbibm==1.1.0
	@touch $@
