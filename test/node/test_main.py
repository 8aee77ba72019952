from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from diagnostic_msgs.msg import DiagnosticArray

if TYPE_CHECKING:
    from conftest import RosGraph, Start

ROOT = Path(__file__).parents[2]
EXIT_S = 10.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_active_node_with_exit_status_0(ros: RosGraph, start: Start, number: signal.Signals) -> None:
    reports = ros.listen(DiagnosticArray, "/diagnostics")
    process = start()
    ros.until(lambda: reports and reports[-1].status[0].message == "active")

    process.send_signal(number)
    _, log = process.communicate(timeout=EXIT_S)

    assert process.returncode == 0, log
    assert "Traceback" not in log
    assert "XMLPARSER" not in log  # Fast DDS took the profile


def test_a_node_whose_engine_is_missing_lives_tells_why_and_ends_on_a_signal(ros: RosGraph, start: Start) -> None:
    reports = ros.listen(DiagnosticArray, "/diagnostics")
    process = start(engine="/nowhere/tiny.json")
    ros.until(lambda: reports and "/nowhere/tiny.json cannot be read" in reports[-1].status[0].message)

    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=EXIT_S)

    assert process.returncode == 0, log
    assert "cannot configure: engine manifest /nowhere/tiny.json cannot be read" in log


LARGE_BLOCK = """
import ctypes
from eseg_ros.node.main import keep_freed_memory
libc = ctypes.CDLL(None)
class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "free", "fast", "mapped_blocks")] + [
        (f"rest_{index}", ctypes.c_size_t) for index in range(6)
    ]
libc.mallinfo2.restype, libc.malloc.restype = Mallinfo, ctypes.c_void_p
keep_freed_memory()
before = libc.mallinfo2().mapped_blocks
libc.malloc(ctypes.c_size_t(16 << 20))
print(libc.mallinfo2().mapped_blocks - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or later to look inside")
def test_images_come_from_the_heap_and_not_from_fresh_pages() -> None:
    process = subprocess.run([sys.executable, "-c", LARGE_BLOCK], cwd=ROOT, capture_output=True, text=True, check=True)

    assert process.stdout.strip() == "0"
