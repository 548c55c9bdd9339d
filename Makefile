GOLANGCI_VERSION    ?= v2.15.0
GOVULNCHECK_VERSION ?= v1.9.0

GO       ?= go
GOLANGCI  = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

# Nested modules, so that users of queue and spool do not inherit what these need. Those
# named bench have benchmarks and no tests: vet compiles them.
MODULES = \
	spool/bench

TESTED = $(filter-out %/bench,$(MODULES))

# $(call each,modules,command) runs a command in each module.
each = @set -e; for dir in $(1); do echo "cd $$dir && $(2)"; (cd $$dir && $(2)); done

ARGS        ?= # for demo: make demo ARGS='--redis-server'
GOTESTFLAGS ?= # for test, crash and bench: make test GOTESTFLAGS='-short -v'
FUZZTIME    ?= 10s
COUNT       ?= 5

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/spool
	$(GO) build -o bin/spool ./cmd/spool

.PHONY: demo
demo: ## show an outage and its end; needs only Go (ARGS=...)
	$(GO) run ./cmd/spool demo $(ARGS)

.PHONY: test
test: tools ## run all tests with the race detector (GOTESTFLAGS=...)
	$(GO) test -race -timeout 15m $(GOTESTFLAGS) ./...
	$(call each,$(TESTED),$(GO) test -race -timeout 15m $(GOTESTFLAGS) ./...)

.PHONY: race
race: test ## the same as test

.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME (10s)
	@set -e; for pkg in $$($(GO) list ./...); do \
		tests=$$($(GO) test -list '^Fuzz' $$pkg); \
		for name in $$(echo "$$tests" | grep '^Fuzz' || true); do \
			echo "$$pkg $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

.PHONY: crash
crash: tools ## run the crash, kill and outage tests COUNT (5) times
	$(GO) test -race -timeout 30m -run 'Crash|Kill|Outage' -count=$(COUNT) $(GOTESTFLAGS) ./...

.PHONY: bench
bench: bench-enqueue bench-spool ## compare with the peers, as ratios

.PHONY: bench-enqueue
bench-enqueue: tools ## compare Enqueue with plain asynq and pipelines, in alternating rounds (9 of 1 s)
	$(GO) test -run '^$$' -bench 'Ratio|Waits|Price' -benchtime 1x -timeout 30m ./queue $(GOTESTFLAGS)

.PHONY: bench-spool
bench-spool: tools ## compare spool.Append with other stores (ROUNDS=5 BENCHTIME=1s BENCH=regexp SCALE=1)
	spool/bench/run

.PHONY: bench-all
bench-all: tools ## run all benchmarks of this module
	$(GO) test -run '^$$' -bench . -benchmem $(GOTESTFLAGS) ./...

.PHONY: lint
lint: ## run golangci-lint
	$(GOLANGCI) run
	$(call each,$(MODULES),$(GOLANGCI) run -c $(CURDIR)/.golangci.yml)

.PHONY: fmt
fmt: ## format the code
	$(GOLANGCI) fmt

.PHONY: fmt-check
fmt-check: ## fail if fmt would change something
	$(GOLANGCI) fmt --diff

.PHONY: vet
vet: tools ## run go vet for this system, macOS and Windows
	$(GO) vet ./...
	CGO_ENABLED=0 GOOS=darwin $(GO) vet ./...
	CGO_ENABLED=0 GOOS=windows $(GO) vet ./...
	$(call each,$(MODULES),$(GO) vet ./...)

.PHONY: tidy
tidy: ## tidy go.mod and go.sum
	$(GO) mod tidy
	$(call each,$(MODULES),$(GO) mod tidy)

.PHONY: tidy-check
tidy-check: ## fail if tidy would change something, or a module is not what it was
	$(GO) mod tidy -diff
	$(GO) mod verify
	$(call each,$(MODULES),$(GO) mod tidy -diff && $(GO) mod verify)

.PHONY: vuln
vuln: ## look for known vulnerabilities; needs the vulnerability database online, so not in check
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./...

.PHONY: check
check: ## all that must pass before a commit; what CI runs
	@$(MAKE) --no-print-directory tidy-check
	@$(MAKE) --no-print-directory fmt-check
	@$(MAKE) --no-print-directory vet
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test

.PHONY: tools
tools: ## install redis-server and a C compiler if they are missing
	@.ci/tools

.PHONY: clean
clean: ## remove what build made
	rm -rf bin
