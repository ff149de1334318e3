# Everything runs in a virtual environment that the first target makes by itself.
#   make demo     a first picture: sample data, a small SPADE trained on the CPU, its results (some minutes on two cores)
#   make test     all tests (a few minutes on two cores)
#   make lint     ruff: rules and format
#   make prove    longer proofs; those on photos need SPADE_REAL_DATA
PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python
SAMPLE = datasets/sample

.PHONY: demo test lint prove clean

demo: $(VENV)/.installed
	$(PY) datasets/make_sample_landscapes.py --out $(SAMPLE)

test: $(VENV)/.installed-dev
	$(PY) -m pytest -n auto --dist worksteal

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

prove: $(VENV)/.installed-dev
	$(PY) -m pytest -m prove -s

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python 3.10 or later is needed; this is `$(PYTHON) --version`. Choose one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV)
