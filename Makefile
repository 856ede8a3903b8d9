# Thin: each target is one or two commands that can be run by hand.
PRESET ?= release
JOBS ?= 2
PREFIX ?= $(HOME)/.local
BUILD := build/$(PRESET)
VENV := $(or $(PLURAL_HOME),$(HOME)/.cache/plural)/venv

.PHONY: help setup build test quickstart bench bench-score bench-limits gpu-bundle gpu-check format lint docs install clean diagnosis
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

setup:  ## system packages, virtual environment, model and data (fast when done)
	@tools/setup.sh

build: setup  ## compile into build/release (PRESET=dev, cpu, asan-ubsan, tsan; JOBS=2)
	cmake --preset $(PRESET)
	cmake --build $(BUILD) -j $(JOBS)

test: build  ## build and run every test
	ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

quickstart: build  ## train SmolLM2 to answer with sets: examples/wordnet
	examples/wordnet/quickstart.sh

diagnosis: build  ## confidences against a known posterior, 3 seeds of 11 arms: examples/diagnosis
	$(VENV)/bin/python examples/diagnosis/study.py --plural $(BUILD)/bin/plural

bench: build  ## measure speed on this machine, into benchmarks/results
	benchmarks/run.sh

bench-score: build  ## measure parsing and scoring next to plain Python, into benchmarks/results
	benchmarks/score.sh

bench-limits: build  ## measure awkward tags and programs in the sandbox, into benchmarks/results
	python3 benchmarks/limits.py

gpu-bundle: build  ## pack what a GPU machine without internet needs: build/gpu-bundle.tar.gz
	tools/gpu_bundle.sh $(BUILD)

gpu-check: gpu-bundle  ## unpack the bundle and run its check here
	tools/gpu_check_here.sh

format:  ## clang-format every C++ and CUDA file of the project
	git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i

lint: build  ## format, headers, documents; clang-tidy on the files changed since BASE (main)
	tools/lint.sh $(BUILD)

docs: setup  ## check the documents' links; API pages into build/docs where doxygen is installed
	tools/docs.sh

install: build  ## install into PREFIX (default ~/.local)
	cmake --install $(BUILD) --prefix $(PREFIX)

clean:  ## remove what was built (not the environment, models or data)
	rm -rf build
