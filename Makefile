# landbridge: `make` prints what there is.
GO       ?= go
TOOL     := $(GO) tool -modfile=.ci/tools.mod
BIN      := bin/landbridge
RELEASE  ?= 0.1.0
LDFLAGS  := -s -w -X landbridge/cmd/internal/cli.release=$(RELEASE)
# What the race detector runs on in CI: all but the whole datacenters of
# federation/federationtest, which take minutes under it (RACE=./... adds them).
RACE     ?= $(filter-out %/federationtest,$(shell $(GO) list ./...))

.DEFAULT_GOAL := help
.PHONY: help build test race lint fmt e2e e2e-systemd fuzz bench demo generate package package-check cover ci clean $(BIN)

help: ## print the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(BIN) ## build bin/landbridge, static and stripped
$(BIN):
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/landbridge

demo: build ## two federated datacenters of real servers on loopback; Ctrl-C ends it
	$(GO) build -o bin/demo ./cmd/internal/demo
	@bin/demo -bin $(BIN)

test: ## the fast suite: unit, model and virtual-time cluster tests
	$(GO) test ./...

race: ## the fast suite under the race detector
	$(GO) test -race $(RACE)

lint: ## gofmt, vet, staticcheck, import directions
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "gofmt: $$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e ./...
	$(TOOL) staticcheck -checks inherit,-ST1005 ./... # clients match texts that begin with a capital
	$(GO) test ./cmd/internal/layout

e2e: build ## real processes and real clients on loopback
	@.ci/clients
	LANDBRIDGE_BIN=$(CURDIR)/$(BIN) .ci/last-words $(GO) test -tags e2e -count=1 -timeout 15m ./cmd/landbridge/... ./cmd/landbridge-bench ./cmd/wanlink/... ./cmd/internal/dashboards
	cd cmd/internal/apiclient && LANDBRIDGE_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 5m ./...

e2e-systemd: ## the .deb in containers under systemd: three regions and their troubles (root)
	@GO=$(GO) .ci/e2e-systemd $(RELEASE)

FUZZTIME ?= 60s
fuzz: ## every fuzz target for FUZZTIME each
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
	  done; done

bench: ## benchmarks of the hot paths
	$(GO) test -run '^$$' -bench . -benchmem ./store/... ./forwarding/... ./federation/...

generate: ## write what is made from sources: the dashboards of deploy/prometheus
	$(GO) run ./cmd/internal/dashboards deploy/prometheus

package: ## .deb and .rpm for amd64 and arm64, with their SBOMs, in dist/
	@GO=$(GO) deploy/package/make $(RELEASE) dist
	@ls -l dist

package-check: ## build the packages twice, compare them, and look into them
	@GO=$(GO) deploy/package/check $(RELEASE)

fmt: ## gofmt all files
	gofmt -w $$(git ls-files '*.go')

cover: ## coverage of the fast suite
	$(GO) test -coverprofile=cover.out ./... && $(GO) tool cover -func=cover.out | tail -1

ci: ## what CI runs, exactly (as root of a Debian: it installs the clients of e2e)
	bash .ci/run

clean: ## remove what was built
	rm -rf bin dist cover.out
