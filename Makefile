# Two commands: `make book` and `make test`. Each makes .venv and installs the lock first.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
VENV_PYTHON := .venv/Scripts/python.exe
else
VENV_PYTHON := .venv/bin/python
endif
export PYTHONDONTWRITEBYTECODE :=

.PHONY: book test format promises seeds bench lock clean install

book: install      ## run what changed, build the HTML, print where it is
	@$(VENV_PYTHON) -m tools book

test: install      ## lint, unit tests, every cell of every notebook, the built HTML
	@$(VENV_PYTHON) -m tools test

format: install    ## bring notebooks and code into their one form
	@$(VENV_PYTHON) -m tools format

promises: install  ## renew the outputs that cells promise, and show what changed
	@$(VENV_PYTHON) -m tools promises $(CHAPTER)

seeds: install     ## a chapter's claims under five seeds: make seeds CHAPTER=concepts/learning_from_data
	@$(VENV_PYTHON) -m tools seeds $(CHAPTER)

bench: install     ## the book's own network beside Keras and scikit-learn, about 6 minutes
	@$(VENV_PYTHON) -m tools bench

lock: install      ## make requirements.txt from requirements.in
	@$(VENV_PYTHON) -m pip install --quiet uv
	@$(VENV_PYTHON) -m uv pip compile --universal --fork-strategy fewest --python-version 3.11 \
	    --no-header --no-annotate --quiet requirements.in --output-file requirements.txt $(LOCK_OPTIONS)

install:
	@$(PYTHON) tools/install.py

clean:             ## remove what was built; .venv stays
	@$(PYTHON) -c "import shutil; shutil.rmtree('_build', ignore_errors=True)"
