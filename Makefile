# Thin lines over ordinary tools; `make help` lists them. After `make setup` and `. .cache/venv/bin/activate` the tools work by themselves.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.cache/venv/bin:$(PATH)
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible
# Set-up compiles nothing ahead: whoever forbids Python to keep what it compiled pays for Ansible's thousand files with every run.
export PYTHONDONTWRITEBYTECODE :=
SITES ?= base
JOBS ?= 4

.PHONY: help setup base lab verify prove prove-long shell role lint unit molecule batch compat test bench readme lock clean clean-lab

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

setup: ## Debian packages, virtual environment, host image; nothing to do when nothing changed
	@lab/setup.sh

base: setup ## the Base site in the lab: start, converge, prove
	@# What is built from Go modules takes longest of all, and needs no host: it is begun while they start. site.yml does what is left, and says
	@# what is wrong if it cannot.
	ansible --playbook-dir playbooks base-depot01 -m ansible.builtin.include_role -a 'name=depot tasks_from=build.yml' & \
	lab/lab.py up base $(LAB_ARGS) && { wait $$! || :; }
	ansible-playbook site.yml -l $(if $(LAB_ARGS),$$(lab/lab.py status --names),base)
	pytest -vv --durations=0 --junitxml=.cache/results/base.xml tests/proofs/test_proof_6.py tests/proofs/test_proof_1.py tests/proofs/test_proof_2.py
	@lab/lab.py status
	@echo "look around: make shell HOST=base-dtn01, make verify, lab/lab.py cut base-ncsa; . .cache/venv/bin/activate for ansible-playbook site.yml -l base"

lab: setup ## start the hosts of SITES="base ncsa" in the lab, or repair what is missing
	lab/lab.py up $(SITES)

verify: ## run the roles' tests over the running lab
	ansible-playbook playbooks/verify.yml

prove: ## all proofs on the running lab, those that disturb it too; the last one takes the lab's place
	pytest -vv tests/proofs tests/lab tests/killed

prove-long: setup ## large files, long outages, thousands of jobs through a pool of its own containers, and a graph of DAG_JOBS=80000: hours
	LSST_LONG=1 pytest -vv tests/molecule -k 'test_scenario and (storage or object_store or logging)'
	DAG_JOBS=$${DAG_JOBS:-80000} pytest -vv -o log_cli=true -o log_cli_level=INFO -o log_cli_format='%(message)s' tests/long

shell: ## a shell on HOST=base-dtn01
	ssh -t -F .cache/lab/ssh_config $(HOST)

role: ## the skeleton of role NAME=x
	ansible-galaxy role init --offline --role-skeleton tests/skeleton/role --init-path roles $(NAME)
	mkdir -p molecule/$(NAME) && cp --no-clobber tests/skeleton/molecule/* molecule/$(NAME)/ && mv --no-clobber molecule/$(NAME)/test_role.py molecule/$(NAME)/test_$(NAME).py
	@echo "next: write roles/$(NAME)/meta/argument_specs.yml and molecule/$(NAME)/test_$(NAME).py, then molecule test -s $(NAME)"

lint: ## yamllint, ansible-lint, ruff
	yamllint --strict .
	ruff check . && ruff format --check .
	@# Molecule's playbooks name hosts that are in no inventory of the project.
	ANSIBLE_HOST_PATTERN_MISMATCH=warning ansible-lint --offline --strict

unit: ## unit and inventory tests
	pytest -n 2 --junitxml=.cache/results/unit.xml

molecule: ## every role's scenario, JOBS=4 at a time
	pytest -n $(JOBS) --dist=worksteal --junitxml=.cache/results/molecule.xml tests/molecule

batch: ## a batch against include_tasks: differential, probe and fault tests, JOBS=4 pairs of containers; PROBE_CASES=2000 is the long run
	pytest -vv -n $(JOBS) --junitxml=.cache/results/batch.xml tests/batch

compat: ## unit tests, inventory tests, one scenario and the torture of a batch on Python 3.11 with ansible 12
	tests/compat.sh

test: setup ## lint, unit, inventory, Molecule on every role, batches
	@rm -f .cache/results/{unit,molecule,batch,py311-unit,py311-molecule,py311-batch}.xml
	@rc=0; $(MAKE) --no-print-directory --keep-going --jobs=3 --output-sync=target lint unit compat || rc=$$?; \
	$(MAKE) --no-print-directory --keep-going molecule batch || rc=$$?; \
	python tests/summary.py .cache/results/*.xml || rc=$$?; exit $$rc

bench: ## set-up, lab, converge and tests; the same resources by include_tasks, pyinfra and batch; files over a long link and over NFS; logs; jobs
	python tests/benchmarks/bench.py
	python tests/benchmarks/ways/ways.py
	python tests/benchmarks/transfer.py
	python tests/benchmarks/storage.py
	python tests/benchmarks/collect.py
	python tests/benchmarks/pool.py

readme: ## the tables of the READMEs, from inventory and argument specs
	python tests/readme_tables.py --write

lock: ## regenerate requirements*.lock from pyproject.toml
	uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --group lint --python-version 3.12 -o requirements.lock pyproject.toml
	uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --group lint --python-version 3.11 -o requirements-py311.lock pyproject.toml
	uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --group bench --python-version 3.12 -o requirements-bench.lock
	@# Debian 13's Python, and the versions that the tests run with.
	uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --group control --constraint requirements.lock --python-version 3.13 -o requirements-control.lock
	uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --group bps --python-version 3.13 -o requirements-bps.lock
	uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --group release --python-version 3.12 -o requirements-release.lock

clean-lab: ## stop the lab; .cache stays
	lab/lab.py down

clean: ## stop the lab, remove containers, networks and .cache
	[ ! -e .cache/venv/bin/python ] || lab/lab.py down
	rm -rf .cache
