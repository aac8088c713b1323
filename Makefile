# SPDX-License-Identifier: Apache-2.0
# The one door for developers. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export GOTOOLCHAIN := local
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Where `make install` puts the programs: root's for everybody, else this user's own.
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)

.PHONY: soak-daemon test-forks test-kvm test-kvm-short bench-kvm test-kubernetes test-node-conformance bench-daemon bench-start install uninstall dist test-install test-shutdown help demo demo-clean test check lint types unit go-check integration integration-tools integration-rest e2e setup build lock reference bench bench-build bench-agent fresh fresh-short clean test-guide docs bench-boots bench-cli bench-dashboard bench-stacks bench-kubernetes

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## set up, build the nginx example, boot it and show its page
	@scripts/demo.sh

install: ## install the programs into PREFIX (/usr/local for root, else ~/.local)
	@scripts/install.sh install "$(PREFIX)"

uninstall: ## remove them again; plugins, VMs and disks stay
	@scripts/install.sh uninstall "$(PREFIX)"

dist: ## wheel, source archive, Debian packages, SBOM and checksums into dist/
	@scripts/make-dist.sh dist

test-install: dist ## install, upgrade with a VM running, remove and purge the Debian packages in a fresh root
	@tests/install/run.sh dist

test-shutdown: dist ## reboot a Debian with systemd that runs a VM: it ends in order, and runs again
	@tests/install/shutdown.sh dist

demo-clean: ## remove everything that the demo made
	@scripts/demo.sh clean

test: setup check integration e2e ## set up and run every test, VMs included (about 35 minutes)
	@echo "all tests passed"

setup: .venv/.ready ## install what development needs (Debian packages, .venv)
	@scripts/install-debian-packages.sh test

.venv/.ready: requirements/dev.lock pyproject.toml hatch_build.py
	@scripts/install-debian-packages.sh test
	@scripts/make-venv.sh .venv requirements/dev.lock
	@touch $@

build: setup ## compile the agent for every architecture into src/volant/agents, and build the dashboard
	@$(BIN)/python scripts/build_agents.py
	@$(BIN)/python scripts/build_dashboard.py

check: setup lint types build unit go-check docs ## lint, types, unit tests and docs (under two minutes)

docs: setup ## the documentation as a site in build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

lint:
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/generate_reference.py --check
	cd kestrel && unformatted=$$(go run cmd/gofmt -l .) && test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }

types:
	$(BIN)/mypy
	$(BIN)/python scripts/build_dashboard.py --types

unit: build
	$(BIN)/pytest -q tests/unit

go-check: setup
	cd kestrel && go vet ./... && go run $(STATICCHECK) ./... && go test -race ./...

integration: build ## tests that run real tools, no VM
	$(BIN)/pytest -q tests/integration

# Images, disks and the agent's tools: they ask for most packages and for little of the machine, so that continuous
# integration runs them on a bare one.
TOOL_TESTS := tests/integration/contract tests/integration/fledge tests/integration/kestrel

integration-tools: build
	$(BIN)/pytest -q tests/unit/test_prerequisites.py $(TOOL_TESTS)

integration-rest: build
	$(BIN)/pytest -q tests/integration $(TOOL_TESTS:%=--ignore=%)

e2e: build ## tests that boot real VMs
	$(BIN)/pytest -q tests/e2e tests/guide

test-guide: build ## every case of the plugin guide, those included that are too long for CI (about 25 minutes)
	$(BIN)/pytest -q -m guide tests

# QEMU's emulation of a processor that virtualizes loses a guest now and then, and the machine itself rarely. Tests that fail
# for that say so (exit code 75, no verdict), and another machine tries them. The short form is for busy hosts, on which more
# is lost than is told: any other failure has one further machine, and is told at the end.
KVM_TESTS := $(BIN)/python tests/support/kvm_machines.py

test-kvm: build ## the line on KVM, in a VM of ours whose emulated processor has it; with the checks of both hypervisors
	$(KVM_TESTS) --machines 2 -m 'heavy or not heavy'

test-kvm-short: build ## the same for one VM on KVM: boot, limits, kills, clock
	$(KVM_TESTS) --machines 4 --failures 1 --minutes 20

test-kubernetes: build ## pods of a real control plane as VMs (its build takes minutes once)
	$(BIN)/pytest -q tests/kubernetes

test-node-conformance: build ## Kubernetes' own tests of nodes, those that fit VMs (its build takes minutes once; long)
	$(BIN)/pytest -q -s -m heavy tests/kubernetes/test_node_conformance.py

test-forks: build ## 200 VMs wake from one memory: no two are alike (long)
	FORKS=$${FORKS:-200} $(BIN)/pytest -q tests/e2e/test_forks.py

bench: build ## every bench against its peers; prints RATIO lines
	$(BIN)/python -m bench

bench-kvm: build ## VMs on KVM against a bare QEMU, inside a VM of ours that has it (minutes)
	$(BIN)/python -m bench kvm

bench-build: build ## fledge against the usual and the tuned tools
	$(BIN)/python -m bench build

bench-agent: build ## kestrel against pebble and supervisord
	$(BIN)/python -m bench agent

fresh: ## type README's commands on a bare Debian, as root and as an ordinary user (needs root; about 25 minutes)
	@scripts/fresh.sh packages demo user install test

fresh-short: ## what of it continuous integration runs: the demo for both users, and the tests of images, disks and tools
	@FRESH_TEST='setup integration-tools' scripts/fresh.sh packages user install demo+test

bench-daemon: build ## volantd with 10,000 rows and 20 VMs: speed, memory, adoption
	$(BIN)/python -m bench daemon

chaos-daemon: build ## kill the daemon at random under random requests, for CHAOS_SECONDS (600)
	CHAOS_SECONDS=$${CHAOS_SECONDS:-600} $(BIN)/pytest -q -s tests/integration/volantd/test_random_kills.py

soak-daemon: build ## create and delete SOAK_ROUNDS (10000) VMs: nothing of them stays (about half an hour)
	SOAK_ROUNDS=$${SOAK_ROUNDS:-10000} $(BIN)/pytest -q -s tests/integration/volantd/test_soak.py

bench-start: build ## forks against cold starts, the pause of a snapshot, memory of copies
	$(BIN)/python -m bench start

bench-cli: build ## how long volar and fledge take to start, beside podman
	$(BIN)/python -m bench cli

bench-dashboard: build ## the dashboard in Chromium: its weight, 1,000 VMs, a terminal's flood
	$(BIN)/python -m bench dashboard

bench-stacks: build ## networks, deployments, compose files, host folders and registries beside what people had before
	$(BIN)/python -m bench stacks

bench-kubernetes: build ## pods of a real control plane: what they add to a VM, fail-over, 50 on a node
	$(BIN)/python -m bench kubernetes

bench-boots: build ## the guide's boot times: a VM from its disk, one from RAM
	$(BIN)/python -m bench boots

reference: build ## regenerate docs/reference
	$(BIN)/python scripts/generate_reference.py

lock: ## resolve the dependencies again
	@scripts/lock.sh

clean: ## remove what was built here
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache src/volant/agents/kestrel-linux-* src/volant/volantd/dashboard/built dashboard/node_modules
