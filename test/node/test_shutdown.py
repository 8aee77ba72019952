"""The node ends on a signal at once, whatever it is doing.

The long form, which also holds it to a second, on a machine that does nothing else:
`SHUTDOWNS=100 python -m pytest -s test/node/test_shutdown.py`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from diagnostic_msgs.msg import DiagnosticArray

from eseg_ros.share import find_engine

if TYPE_CHECKING:
    from conftest import RosGraph, Start

SHUTDOWNS = int(os.environ.get("SHUTDOWNS", "0"))
SHORT_FORM = 6
LIMIT_S = 1.0
HANGS_AFTER_S = 15.0


@pytest.fixture
def seconds_to_active(ros: RosGraph, start: Start) -> float:
    """How long the node takes from its start to having loaded a real engine."""
    reports = ros.listen(DiagnosticArray, "/diagnostics")
    begin = time.monotonic()
    process = start(engine=str(find_engine("eseg_lite_s_street")))
    ros.until(lambda: reports and reports[-1].status[0].message == "active")
    elapsed = time.monotonic() - begin
    process.kill()
    process.wait()
    return elapsed


def test_a_signal_at_any_moment_of_the_start_ends_the_node(
    start: Start, seconds_to_active: float, capsys: pytest.CaptureFixture[str]
) -> None:
    count = SHUTDOWNS or SHORT_FORM
    ends_s = []
    for index in range(count):
        number = (signal.SIGINT, signal.SIGTERM)[index % 2]
        process = start(engine=str(find_engine("eseg_lite_s_street")))
        time.sleep(1.1 * seconds_to_active * (index + 1) / count)  # the moment is the point of this test
        sent = time.monotonic()
        process.send_signal(number)
        _, log = process.communicate(timeout=HANGS_AFTER_S)
        ends_s.append(time.monotonic() - sent)
        # Before the handlers are there, Python and the kernel end the process by the signal itself, or Python with an
        # error of its own while it starts.
        assert process.returncode in (0, -number) or "Fatal Python error: init_import_site" in log, log
    with capsys.disabled():
        print(f"\n{count} shutdowns within {seconds_to_active:.1f} s of starting; the slowest took {max(ends_s):.2f} s")
    assert not SHUTDOWNS or max(ends_s) <= LIMIT_S


LINGERING_END = """
import atexit, time

atexit.register(time.sleep, 600)
"""


def run_before_all(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every Python process that starts from now on run `code` first."""
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")


def test_the_end_of_the_interpreter_cannot_keep_the_node(
    ros: RosGraph, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_before_all(LINGERING_END, tmp_path, monkeypatch)
    reports = ros.listen(DiagnosticArray, "/diagnostics")
    process = start()
    ros.until(lambda: reports and reports[-1].status[0].message == "active")
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == 0, log


SWALLOWING_IMPORT = """
import os, signal, sys, time

class Swallowing:
    def find_spec(self, name, path=None, target=None):
        if name == "rclpy":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
            except KeyboardInterrupt:
                pass

sys.meta_path.insert(0, Swallowing())
"""


def test_an_import_that_swallows_an_interrupt_cannot_keep_the_node(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_before_all(SWALLOWING_IMPORT, tmp_path, monkeypatch)
    process = start()
    _, log = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == -signal.SIGINT, log
