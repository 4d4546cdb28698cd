# Everything runs inside .venv, which scripts/setup.sh creates and keeps in step with pyproject.toml.
#   PYTHON=/path/to/python3.12   the interpreter to use (default: the first one that is 3.11 or newer)
#   PORT=9000                    where `make run` listens
PORT ?= 8080

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: run test bench bench-setup clean help

run: ## start the gateway on $(PORT) in front of demo services
	@scripts/setup.sh
	@exec .venv/bin/rtgateway demo --port $(PORT)

test: ## formatting, lint, types, layers, and every test
	@scripts/setup.sh dev
	@scripts/check.sh

bench: ## measure side by side with other proxies (slow)
	@scripts/setup.sh dev
	@.venv/bin/python bench/run.py

bench-setup: ## install the other proxies that `make bench` compares with
	@scripts/setup.sh dev
	@bench/setup.sh

clean: ## remove .venv and everything generated
	rm -rf .venv build dist _trial_temp* tests.*/ twistd.pid .coverage
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | sed 's/\$$(PORT)/port $(PORT)/' | \
	  while IFS="$$(printf '\t')" read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done
