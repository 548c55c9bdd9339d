GOLANGCI_VERSION    ?= v2.15.0
GOVULNCHECK_VERSION ?= v1.9.0

GO       ?= go
GOLANGCI  = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

# Nested modules, so that users of queue and spool do not inherit what these need.
# spool/bench has benchmarks and no tests: vet compiles them; queue/chaos has targets of its own.
MODULES = \
	queue/bench \
	queue/chaos \
	queue/queueotel \
	queue/queueprom \
	queue/queueprom/alerts \
	spool/bench

RACED  = queue/queueotel queue/queueprom
PLAIN  = queue/bench queue/queueprom/alerts # nothing runs at the same time there, and much is compiled

# $(call each,modules,command) runs a command in each module.
each = @set -e; for dir in $(1); do echo "cd $$dir && $(2)"; (cd $$dir && $(2)); done

ARGS        ?= # for demo: make demo ARGS='--redis-server'
GOTESTFLAGS ?= # for test, crash and bench-all: make test GOTESTFLAGS='-short -v'
FUZZ        ?= cmd queue spool
FUZZTIME    ?= 10s
PARALLEL    ?= 4 # tests at a time in a package: most of them wait, for Redis or for a time
COUNT       ?= 5
MINUTES     ?= 10
CHAOSFLAGS  ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/spool
	$(GO) build -o bin/spool ./cmd/spool

.PHONY: demo
demo: ## show an outage and its end; needs only Go (ARGS=...)
	$(GO) run ./cmd/spool demo $(ARGS)

.PHONY: test
test: tools ## run all tests with the race detector, and tell what they cover (GOTESTFLAGS=...)
	@mkdir -p bin
	$(GO) test -race -coverprofile=bin/cover.out -timeout 15m -parallel $(PARALLEL) $(GOTESTFLAGS) ./...
	@$(GO) tool cover -func=bin/cover.out | tail -n 1
	$(call each,$(RACED),$(GO) test -race -cover -timeout 15m $(GOTESTFLAGS) ./...)
	$(call each,$(PLAIN),$(GO) test -timeout 15m $(GOTESTFLAGS) ./...)

.PHONY: cover
cover: test ## the same, then each function that is not covered in full
	@$(GO) tool cover -func=bin/cover.out | grep -v '100.0%$$'

.PHONY: race
race: test ## the same as test

# Only packages that have fuzz tests are compiled for it.
.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME (10s)
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' $(FUZZ) | while read -r file; do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "$$file $$name"; \
			(cd $$(dirname $$file) && $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) .) </dev/null; \
		done; \
	done

.PHONY: crash
crash: tools ## run the crash, kill and outage tests COUNT (5) times
	$(GO) test -race -timeout 30m -run 'Crash|Kill|Outage' -count=$(COUNT) $(GOTESTFLAGS) ./...

.PHONY: chaos
chaos: tools ## do each fault of the matrix, and some at a time; write README's table (CHAOSFLAGS='-chaos.seed 1')
	cd queue/chaos && $(GO) test -timeout 30m -count=1 -v -parallel 2 . -mixed 10 -chaos.table $(CURDIR)/README.md $(CHAOSFLAGS)

.PHONY: chaos-short
chaos-short: tools ## the same in short, with the race detector
	cd queue/chaos && $(GO) test -race -short -timeout 10m -count=1 -parallel 6 . $(CHAOSFLAGS)

.PHONY: soak
soak: tools ## faults by chance for MINUTES (10) at 2,000 jobs per second
	cd queue/chaos && $(GO) test -timeout 0 -count=1 -v -run Soak . -soak $(MINUTES)m $(CHAOSFLAGS)

# Results are kept in bin, in the Go benchmark format. TABLE makes a table of them.
TABLE = cd queue/bench && $(GO) run ./table

.PHONY: bench
bench: tools ## compare with the peers: one table of ratios (ROUNDS=n BENCHTIME=1s SCALE=1)
	@mkdir -p bin
	queue/bench/run >bin/bench.new
	spool/bench/run >>bin/bench.new
	mv bin/bench.new bin/bench.txt
	@$(TABLE) ../../bin/bench.txt

.PHONY: bench-readme
bench-readme: ## put the table of the last make bench in README.md
	$(TABLE) -into ../../README.md ../../bin/bench.txt

.PHONY: picture
picture: tools ## draw Enqueue through an outage, plain asynq beside Producer: queue/bench/outage.svg
	cd queue/bench && $(GO) run ./outage -o outage.svg

.PHONY: bench-enqueue
bench-enqueue: tools ## the part of bench about Enqueue, replay and guard (BENCH=regexp ROUNDS=9 BENCHTIME=1s)
	@mkdir -p bin
	queue/bench/run >bin/bench-enqueue.txt
	@$(TABLE) -all ../../bin/bench-enqueue.txt

.PHONY: bench-spool
bench-spool: tools ## the part of bench about spool (BENCH=regexp ROUNDS=5 BENCHTIME=1s SCALE=1)
	@mkdir -p bin
	spool/bench/run >bin/bench-spool.txt
	@$(TABLE) -all ../../bin/bench-spool.txt

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
	$(call each,$(MODULES),$(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./...)

.PHONY: check
check: ## all that must pass before a commit; what CI runs
	@$(MAKE) --no-print-directory tidy-check
	@$(MAKE) --no-print-directory fmt-check
	@$(MAKE) --no-print-directory vet
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory chaos-short
	@$(MAKE) --no-print-directory fuzz FUZZTIME=2s

.PHONY: tools
tools: ## install redis-server and a C compiler if they are missing
	@.ci/tools

.PHONY: clean
clean: ## remove what build made
	rm -rf bin
