# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` are all that a bare Debian 12 with a Swift 6.3 toolchain needs.

SHELL := /bin/sh
SWIFT ?= swift
PREFIX ?= /usr/local
# One set of flags for demo and test, so that they share .build.
FLAGS := --enable-all-traits
# Tests run in groups: simulations keep every core busy, and suites that talk to real servers in real time suffer from it.
# So do they from tests that keep a core busy on purpose, such as those of eviction and the random ones of the core, or
# every thread of the pool, such as those of the keeper. Those of ZooKeeper's sessions run one
# by one: a session of a few seconds ends where a machine is busy. So do those that measure a killed or stopped program
# in seconds. LIMIT='timeout 600' ends a group that hangs.
LIMIT ?=
# What talks to servers and programs has hundreds of cases in real time: begun all at once, they hold each other up.
FEW := --experimental-maximum-parallelization-width 16
# Suites that keep every core busy.
BUSY := Adaptivity|ExactMissCount|FrequencySketch|HitRatio|PolicyProperty|SlotList|TagChurn|TinyLFU|TraceReader|WriteQueueModel
SUITES := 'HoldfastCoreTests\.' 'HoldfastTests\.(?!Simul|Keeper|GuardedWork)' 'HoldfastTests\.(Keeper|GuardedWork)' \
	'HoldfastTests\.Simul' 'HoldfastCacheTests\.(?!$(BUSY))' \
	'HoldfastCacheTests\.($(BUSY))' 'HoldfastSQLiteTests\.' \
	'HoldfastRedisTests\.(?!Quorum|Sentinel|Late|Network|Restart|Cluster|ReplyFuzz|Executor|Refusal|Twice|PlainRedlock)' \
	'HoldfastRedisTests\.ReplyFuzz' 'HoldfastRedisTests\.(Executor|Refusal|Twice|PlainRedlock)' \
	'HoldfastRedisTests\.(Quorum|Sentinel)' 'HoldfastRedisTests\.(Late|Network|Restart)' \
	'(HoldfastRedisTests\.Cluster|StoreContractTests\.(RedisCluster|.*/cluster))' \
	'HoldfastRedisCacheTests\.(?!Sentinel|Cluster|Churn)' 'HoldfastRedisCacheTests\.(Sentinel|Churn)' 'HoldfastRedisCacheTests\.Cluster' \
	'HoldfastZooKeeperTests\.(?!Watch|Session|Lost)' 'HoldfastZooKeeperTests\.(Watch|Session|Lost)' \
	'StoreContractTests\.(?!ZooKeeper|Redis|SQLite|.*/cluster)' 'StoreContractTests\.SQLite' \
	'StoreContractTests\.Redis(?!Quorum|Sentinel|Cluster|TLS)' \
	'StoreContractTests\.Redis(Quorum|Sentinel)' 'StoreContractTests\.RedisTLS' 'StoreContractTests\.ZooKeeper' \
	'HoldfastCommandsTests\.(?!FaultRow|ZooKeeper|ClockAndStarvation|DeadlockCommand|SharedCache|Cache(Command|BulkCommand))' \
	'HoldfastCommandsTests\.(FaultRow|ZooKeeper)' \
	'HoldfastCommandsTests\.Cache(Command|BulkCommand)Tests' 'HoldfastCommandsTests\.SharedCacheTests' \
	'HoldfastCommandsTests\.DeadlockCommandTests' 'HoldfastCommandsTests\.ClockAndStarvationTests'
# Tests of the program that are also run with an optimised one, which has no TLS: that takes two minutes to compile.
RELEASED := (Run|Command|ZooKeeperRun|RedisPyRun)Tests
PACKAGES := make libhiredis-dev libsqlite3-dev zlib1g-dev liblzma-dev redis-server redis-tools libfaketime openssl \
	libzookeeper-mt-dev libzookeeper-java libslf4j-java openjdk-17-jdk-headless libcurator-recipes-java python3-kazoo \
	python3-redis python3-pip

.PHONY: count-suites help bootstrap partners build demo test lint format bench install clean

help: ## Say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

bootstrap: ## Install the missing Debian packages
	@.ci/bootstrap $(PACKAGES)

partners: bootstrap ## Get the partners of tests that Debian has not from PyPI
	@.ci/partners

build: bootstrap
	@$(SWIFT) build $(FLAGS) --product holdfast

demo: build ## Show workers, a crash and a late writer on one lock
	@.build/debug/holdfast demo

test: partners ## Run all tests, with a real Redis and a real ZooKeeper
	@command -v redis-server >/dev/null || { echo "make test: redis-server is missing: apt-get install redis-server" >&2; exit 1; }
	@command -v javac >/dev/null || { echo "make test: javac is missing: apt-get install openjdk-17-jdk-headless" >&2; exit 1; }
	@for jar in zookeeper curator-recipes; do [ -r /usr/share/java/$$jar.jar ] || \
	  { echo "make test: $$jar.jar is missing: apt-get install libzookeeper-java libcurator-recipes-java" >&2; exit 1; }; done
	@for module in kazoo redis; do /usr/bin/python3 -c "import $$module" 2>/dev/null || \
	  { echo "make test: $$module is missing: apt-get install python3-$$module" >&2; exit 1; }; done
	@$(SWIFT) build $(FLAGS) --build-tests
	@failed=0; for suites in $(SUITES); do \
	  case "$$suites" in HoldfastZooKeeper*|*'(FaultRow'*|*'(Keeper'*) order=--no-parallel;; *StoreContract*|*Redis*|*Commands*) order='$(FEW)';; *) order=;; esac; \
	  $(LIMIT) $(SWIFT) test $(FLAGS) --skip-build $$order --filter "^$$suites" || failed=1; \
	done; \
	echo "the optimised program:"; \
	$(SWIFT) build -c release --static-swift-stdlib --scratch-path .build-optimised --product holdfast && \
	HOLDFAST_PROGRAM="$$PWD/.build-optimised/release/holdfast" \
	  $(LIMIT) $(SWIFT) test $(FLAGS) --skip-build --no-parallel --filter '^HoldfastCommandsTests\.$(RELEASED)' || failed=1; \
	exit $$failed

count-suites:
	@printf '%s\n' $(SUITES) release | grep -c .

lint: ## Check format, documentation and house rules
	@$(SWIFT) format lint --strict --parallel --recursive Sources Tests Package.swift
	@.ci/house-rules

format: ## Format the sources in place
	@$(SWIFT) format --in-place --parallel --recursive Sources Tests Package.swift

bench: bootstrap ## Measure the embedded and the in-memory store (STORE=URL for another)
	@$(SWIFT) build -c release $(FLAGS) --static-swift-stdlib --product holdfast
	@if [ -n "$(STORE)" ]; then .build/release/holdfast bench --store "$(STORE)"; \
	else .build/release/holdfast bench --store memory: && \
	  directory=$$(mktemp -d) && { .build/release/holdfast bench --store "sqlite:$$directory/locks.db"; rm -rf "$$directory"; }; fi

install: bootstrap ## Install a release build of `holdfast` (PREFIX=/usr/local)
	@$(SWIFT) build -c release $(FLAGS) --static-swift-stdlib --product holdfast
	@install -d "$(DESTDIR)$(PREFIX)/bin"
	@install -s -m 0755 .build/release/holdfast "$(DESTDIR)$(PREFIX)/bin/holdfast"
	@echo "installed $(DESTDIR)$(PREFIX)/bin/holdfast"

clean: ## Remove what was built
	@rm -rf .build .build-optimised
