"""Importing modules in a process of their own: real modules, good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from eseg_ros.doctor.imports import Module, import_modules


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, for modules."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_module_tells_its_version_and_what_it_prints_does_no_harm(modules: Path) -> None:
    (modules / "good_one.py").write_text("__version__ = '5.0.0'\nprint('hello')\n")

    assert import_modules(["good_one"]) == {"good_one": Module("5.0.0")}


def test_a_module_that_is_not_there_is_not_in_the_answer(modules: Path) -> None:
    assert import_modules(["not_there_at_all", "not_there_at_all.either"]) == {}


def test_a_module_whose_own_import_fails_is_broken_not_absent(modules: Path) -> None:
    (modules / "needs_more.py").write_text("import something_that_is_missing\n")

    assert import_modules(["needs_more"]) == {"needs_more": Module(error="No module named 'something_that_is_missing'")}


def test_a_module_that_takes_its_process_with_it_is_named_and_the_others_are_imported(modules: Path) -> None:
    (modules / "crashes.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    (modules / "leaves.py").write_text(
        "import os, sys\nprint('no such middleware', file=sys.stderr, flush=True)\nos._exit(102)\n"
    )
    (modules / "good_one.py").write_text("__version__ = '1.0'\n")

    found = import_modules(["crashes", "leaves", "good_one"])

    assert found["crashes"].error == "importing it ended the process by SIGSEGV"
    assert found["leaves"].error == "importing it ended the process by exit status 102: no such middleware"
    assert found["good_one"] == Module("1.0")


def test_a_module_that_hangs_is_given_up(modules: Path) -> None:
    (modules / "hangs.py").write_text("import time\ntime.sleep(600)\n")
    (modules / "good_one.py").write_text("__version__ = '1.0'\n")

    found = import_modules(["good_one", "hangs"], timeout_s=2)

    assert found == {"good_one": Module("1.0"), "hangs": Module(error="importing it takes longer than 2 s")}


def test_functions_are_called_and_groups_come_together(modules: Path) -> None:
    (modules / "answers.py").write_text("def which():\n    return 'rmw_fastrtps_cpp'\n")
    (modules / "good_one.py").write_text("__version__ = '1.0'\n")

    found = import_modules(["answers:which"], ["good_one"])

    assert found == {"answers:which": Module("rmw_fastrtps_cpp"), "good_one": Module("1.0")}
