from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

STUCK = """
import ctypes, sys
from eseg_ros.node.signals import StopSignals
with StopSignals({grace}) as stopped:
    print("ready", flush=True)
    while not stopped():
        pass
    ctypes.PyDLL(None).sleep({busy})  # keeps Python's lock
sys.exit(0)
"""


def ended(grace: float | None, busy: int) -> tuple[int, str]:
    """Exit status and stderr of a process that is busy for so long after a SIGTERM."""
    code = STUCK.format(grace=grace, busy=busy)
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    return process.returncode, log


def test_a_process_that_hangs_after_a_signal_is_ended_and_says_where_it_hung() -> None:
    begin = time.monotonic()
    status, log = ended(grace=0.2, busy=20)
    assert status == 1
    assert "Timeout (0:00:00.2" in log
    assert 'File "<string>", line 8 in <module>' in log
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("grace", [None, 20.0])
def test_a_process_that_ends_in_time_ends_as_ever(grace: float | None) -> None:
    assert ended(grace=grace, busy=1) == (0, "")
