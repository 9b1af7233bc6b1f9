# One command for people and continuous integration alike. Everything runs as root or with sudo:
# iSCSI targets, loop devices and virtual machines need it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E)
STAMP := $(VENV)/installed

.PHONY: help setup test lint format unit sim mutants lab lab-long lab-soak demo bench vagrant-test vagrant-box image clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##\(.*\)/make \1 \2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(STAMP)  ## install what building and testing needs, on Debian 12 or 13

$(STAMP): pyproject.toml setup.py .ci/install vagrant/install-host.sh $(wildcard tcmu_restore/sources/*.c) tcmu_restore/sources/build_libiscsi.py
	.ci/install
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable . --group dev
	$(BIN)/pip install --quiet --no-deps targetcli  # without PyGObject, which would be compiled
	touch $@

test: lint unit sim mutants lab  ## everything: lint, types, unit, contract, simulation, mutations, lab

lint: $(STAMP)  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## put the code in its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: $(STAMP)  ## every test that needs no virtual machine
	$(SUDO) $(BIN)/python -m pytest -n auto

SECONDS ?= 60
test: SEEDS = --first 5000000
ENOUGH ?= 3
test: ENOUGH = 1

sim: $(STAMP)  ## hunt mistakes in the simulator for SECONDS (60) with fresh seeds, on all cores
	$(BIN)/python -m tests.sim --seconds $(SECONDS) $(SEEDS)

mutants: $(STAMP)  ## plant mistakes in the core; the simulator must catch each of them
	$(BIN)/python -m tests.sim.mutants --enough $(ENOUGH)

LABS ?= 2
LAB_TEST = $(SUDO) $(BIN)/python -m pytest -v --durations=0 tests/lab -n $(LABS) --dist loadfile

lab: image  ## the scenarios on real kernels, in virtual machines; LABS (2) labs side by side
	$(LAB_TEST) -m 'lab and not long'

lab-long: image  ## those of the admin's side, and the how-tos as they are typed; not in `make test`
	$(LAB_TEST) -m 'lab and long'

TIMES ?= 10
lab-soak: $(STAMP)  ## every failure scenario, TIMES times, with a report in build/lab/soak.json
	$(SUDO) $(BIN)/python -m tests.lab.soak --times $(TIMES)

demo: $(STAMP)  ## the main job, live, with a report and a picture in build/demo
	$(SUDO) $(BIN)/python -m vagrant.demo

bench: $(STAMP)  ## figures and ratios in build/bench/report.json, hottest_first.png beside it
	$(SUDO) $(BIN)/python -m tests.bench

vagrant-test: $(STAMP)  ## `vagrant up` from nothing, a how-to typed over `vagrant ssh`, all gone again
	$(SUDO) $(BIN)/python -m tests.lab.vagrant_up $(HOWTOS)

vagrant-box: $(STAMP)  ## the box for `vagrant up` in vagrant/
	$(SUDO) $(BIN)/python -m vagrant box build/tcmu-restore.box
	vagrant box add --force --name tcmu-restore build/tcmu-restore.box

image: $(STAMP)  ## build the lab's image only
	$(SUDO) $(BIN)/python -m vagrant image

clean:  ## remove what was built here; the lab's image cache stays
	rm -rf build $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache
