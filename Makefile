# Two commands: `make demo` shows what this does, `make test` proves it. Both make .venv first.
PYTHON ?= python3
VENV ?= .venv
# The node's tests run on a second distribution's wheels too.
KILTED ?= .venv-kilted
# Any torch from 2.6 on trains; the pin keeps a fresh .venv reproducible.
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
comma := ,
# A sourced ROS 2 wins over the wheels: asked of the new environment itself, once it is there.
ROS_EXTRA = $(if $(shell $(BIN)/python -c "import rclpy" 2>/dev/null && echo sourced),,$(comma)jazzy)
DEMO_ARGS := $(if $(BAG),--bag "$(BAG)") $(if $(TOPIC),--topic "$(TOPIC)") $(if $(ENGINE),--engine "$(ENGINE)")

.PHONY: help setup demo test test-gpu lint format clean

help:
	@echo "make demo                     render a drive, run the node on it, score it: out/demo/report.html"
	@echo "make demo BAG=... TOPIC=...   the same on your own bag (mcap or sqlite3), without scores"
	@echo "make test                     lint and all tests; those of the node on Jazzy's wheels and on Kilted's"
	@echo "make test-gpu                 the tests that need an NVIDIA GPU"
	@echo "make setup                    only make $(VENV), with everything that training and tests need"

setup: $(VENV)/.dev

demo: $(VENV)/.run
	$(BIN)/eseg demo $(DEMO_ARGS)

# A sourced ROS 2 is what the node is tested on; without one, the wheels of two distributions are.
test: lint
	$(BIN)/python -m pytest
	$(if $(ROS_DISTRO),,$(MAKE) test-kilted)

test-kilted: $(KILTED)/.dev
	$(KILTED)/bin/python -m pytest test/node test/system

test-gpu: $(VENV)/.dev
	$(BIN)/python -c "import pycuda.driver" 2>/dev/null || $(BIN)/python -m pip install --quiet cuda-bindings
	$(BIN)/python -m pytest test/gpu

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(KILTED) out build install log

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools<80" wheel

$(VENV)/.run: setup.py | $(BIN)/python
	@echo "installing the runtime into $(VENV)"
	$(BIN)/python -m pip install --quiet --editable ".[cpu,bag$(ROS_EXTRA)]"
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing the trainer and the test tools into $(VENV)"
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[cpu,bag,train,test$(ROS_EXTRA)]"
	@# Its scorer checks ours. By itself it would bring an outdated "typing" along.
	$(BIN)/python -m pip install --quiet --no-deps cityscapesscripts pyquaternion
	@touch $@

$(KILTED)/.dev: setup.py
	@echo "installing the node with Kilted's wheels into $(KILTED)"
	$(PYTHON) -m venv $(KILTED)
	$(KILTED)/bin/python -m pip install --quiet --upgrade pip "setuptools<80" wheel
	$(KILTED)/bin/python -m pip install --quiet --editable ".[cpu,bag,kilted]" "pytest>=8" "hypothesis>=6" "onnx>=1.16"
	@touch $@
