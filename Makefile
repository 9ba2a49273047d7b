# make help lists the targets. Everything that a target needs it sets up itself: Go modules through the module proxy,
# Debian packages through apt when run as root (otherwise a message names them).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export CGO_ENABLED ?= 0
CACHE := $(or $(OPENMIGRATE_CACHE),$(shell scripts/cache-dir))
export OPENMIGRATE_CACHE := $(CACHE)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/openmigrate/openmigrate/internal/version.version=$(VERSION)
GO_SOURCES := $(shell git ls-files -co --exclude-standard '*.go' go.mod go.sum)

WEB_SOURCES := $(shell git ls-files -co --exclude-standard web | grep -vE '\.go$$|^web/(e2e|dist)/')

.PHONY: help build web web-generate web-e2e screenshots test e2e story lint openapi fmt bench bench-replication bench-live bench-conversion bench-fleet bench-dashboard demo fuzz clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: bin/openmigrate bin/openmigrate-agent ## both binaries into bin/, static; with the dashboard where Node is

bin/openmigrate: web/dist/.built

web/dist/.built: $(WEB_SOURCES)
	scripts/web build-if
	@touch $@

web: ## the dashboard into web/dist, which go build embeds (needs Node 20)
	scripts/web build
	@touch web/dist/.built

web-generate: ## the dashboard's client from master/api/openapi.json
	scripts/web generate

bin/%: $(GO_SOURCES)
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/$*

test: build ## all tests with the race detector (root: block devices; sets up what it needs)
	scripts/setup test
	CGO_ENABLED=1 go test -race -timeout 30m ./...
	if scripts/web have; then scripts/web test; else echo "no Node 20 here: the dashboard's tests are left out" >&2; fi

web-e2e: build ## the dashboard in Debian's Chromium, on a real master with real replication and launches (Node 20)
	scripts/setup web
	scripts/web e2e

screenshots: build ## one picture of each screen into docs/images
	scripts/setup web
	scripts/web screenshots

e2e: build ## whole machines in QEMU (root; an hour without KVM: E2E_FLAGS='-run TestMachine' for a part)
	scripts/setup e2e
	CGO_ENABLED=1 go test -tags e2e -p 1 -timeout 120m -v $(E2E_FLAGS) ./e2e/launch ./e2e/vm/... ./e2e/hooks ./agent/freespace ./hydrator/convert ./providers/qemu ./providers/aws/... ./e2e/aws

story: build ## servers that are moved while they serve, in QEMU (root; E2E_FLAGS='-run TestCopyBIOS' for a part)
	scripts/setup e2e
	CGO_ENABLED=1 go test -tags e2e -timeout 120m -v $(E2E_FLAGS) ./e2e/story

openapi: ## master/api/openapi.json from the Go types and their comments (tests say when it is out of date)
	OPENMIGRATE_UPDATE=1 go test -count=1 ./master/api -run TestCommentsAreUpToDate
	OPENMIGRATE_UPDATE=1 go test -count=1 ./master/api -run TestDocumentIsUpToDate

lint: ## gofmt, vet, golangci-lint with the import arrows
	scripts/lint

bench: bench-replication bench-live bench-conversion bench-fleet ## the tables of docs/BENCHMARKS.md, one after the other

bench-replication: build ## against restic, borg and the machine's limit (BENCH_FLAGS)
	scripts/setup bench
	go run ./bench/replication $(BENCH_FLAGS)

bench-live: build ## a server that is written to: freeze, overhead, RPO, bytes sent (LIVE_FLAGS; root: loop devices, eBPF)
	scripts/setup bench
	go run ./bench/live $(LIVE_FLAGS)

bench-conversion: ## a disk converted by us and by virt-v2v, and both started (CONVERSION_FLAGS; root)
	scripts/setup bench
	go run ./bench/conversion $(CONVERSION_FLAGS)

bench-fleet: build ## ten thousand simulated agents on a real master, and ids offered to an index of ten million (FLEET_FLAGS)
	go run ./bench/fleet $(FLEET_FLAGS)

bench-dashboard: build ## the machines page with 10,000 machines in a browser: first rows, long tasks (FLEET_MACHINES, FLEET_ROUNDS)
	scripts/setup web
	go build -trimpath -o bin/bench-dashboard ./bench/dashboard
	scripts/web fleet

demo: build ## a disk replicated, changed, replicated again, rebuilt and compared; as root a test launch of it; then the dashboard, until Ctrl-C
	scripts/setup demo
	scripts/demo

fuzz: ## every decoder for FUZZTIME (default 10s) each
	scripts/fuzz $(or $(FUZZTIME),10s)

clean: ## remove bin/ and the built dashboard
	rm -rf bin
	find web/dist -mindepth 1 ! -name .gitkeep -delete
