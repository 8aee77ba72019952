from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys

import pytest

from eseg_ros.models import command
from eseg_ros.models.zoo import MODELS


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """The lines of `eseg models --size 1024x512` by their first word."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert run("--size", "1024x512") == 0
    return {line.split()[0]: line for line in output.getvalue().splitlines()}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_listed_with_its_parameters_and_what_it_is_good_for(printed: dict[str, str], name: str) -> None:
    assert f"{MODELS[name].parameters:.2f} M" in printed[name]
    assert printed[name].endswith(MODELS[name].good_for)


def test_multiply_adds_are_those_of_the_size_that_is_asked_for(printed: dict[str, str]) -> None:
    assert f"{MODELS['fast_scnn'].macs / 4:.2f} G" in printed["fast_scnn"]


def test_declaring_the_job_does_not_load_pytorch() -> None:
    code = "import sys; import eseg_ros.models.command; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
