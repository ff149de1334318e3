# Everything runs in a virtual environment that the first target makes by itself.
#   make test     all tests (a few minutes on two cores)
#   make lint     ruff: rules and format
#   make prove    longer proofs; those on photos need SPADE_REAL_DATA
PYTHON ?= python3
VENV ?= .venv

.PHONY: test lint prove clean

test: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -n auto --dist worksteal

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

prove: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -m prove -s

$(VENV)/.installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python 3.10 or later is needed; this is `$(PYTHON) --version`. Choose one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV)
