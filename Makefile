# make demo: set-up, sample data, training, prediction. make test: set-up, all tests. make quick: those that take no
# longer than a minute or two together, for after each change. All need only Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

.PHONY: demo quick test lint format docs clean

# What running needs; the tests and the linters need more.
.venv/installed: requirements.txt setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv/developed: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: .venv/installed
	test -d $(DEMO)/images || $(BIN)/maskcls sample-data $(DEMO)
	$(BIN)/accelerate launch --config_file accelerate_configs/cpu.yaml train.py --config configs/demo.yaml
	@run=$$(ls -td $(DEMO)/runs/*/ | head -1); run=$${run%/}; \
	$(BIN)/python infer.py --model_dir $$run && \
	echo "report:      $$run/report.html (open it in a browser)" && \
	echo "predictions: $$run/output.csv $$run/probabilities.parquet (truth: $(DEMO)/eval_truth.csv)"

quick: .venv/developed
	$(BIN)/python -m pytest -m "not slow"

test: .venv/developed
	$(BIN)/python -m pytest

lint: .venv/developed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/developed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What follows from the settings: tables of the READMEs, configs/schema.json.
docs: .venv/installed
	$(BIN)/python docs/derive.py

clean:
	rm -rf .venv $(DEMO) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
