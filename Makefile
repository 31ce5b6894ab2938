.DEFAULT_GOAL := help
.PHONY: help setup check lint types floors test fix

help:    ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'
setup:   ## Create .venv with everything a developer needs
	python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[test,dev]'
check: lint types floors test  ## Style, types, floors and tests
lint:    ## Style and likely mistakes
	.venv/bin/ruff format --check . && .venv/bin/ruff check .
types:   ## Types
	.venv/bin/mypy
floors:  ## Which module may import which
	.venv/bin/lint-imports --no-logo
test:    ## Tests with coverage
	.venv/bin/coverage run -m pytest && .venv/bin/coverage report
fix:     ## Repair style in place
	.venv/bin/ruff check --fix . && .venv/bin/ruff format .
