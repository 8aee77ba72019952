"""One code base for Humble, Jazzy and Kilted.

On Jazzy and Kilted all of these tests run on the real thing (`make test`, `make test-kilted`). There are no wheels of
Humble; its rclpy is that of Jazzy with what it lacks taken away.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import RosGraph

HUMBLE = Path(__file__).with_name("humble.py")


def test_the_node_lives_on_humbles_rclpy(ros: RosGraph, tiny_engine: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HUMBLE), str(tiny_engine)],
        env=os.environ | {"ROS_DOMAIN_ID": str(ros.domain_id)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "inactive",
        "active",
        "mask 64 96",
        "set True",
        "refused slots is fixed while the node is configured",
        "inactive",
        "unconfigured",
        "finalized",
    ]
