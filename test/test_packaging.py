"""The package as colcon and as pip install it, and the facts that stand in more than one of its files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import eseg_ros

ROOT = Path(__file__).parents[1]
NAMED_BY_THE_USER = {"rclpy", "cv_bridge", "launch_ros", "python3-numpy", "python3-opencv"}


@pytest.fixture(scope="module")
def install_space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`colcon build` of a copy of this tree (the build writes beside setup.py); returns the package's prefix."""
    workspace = tmp_path_factory.mktemp("workspace")
    ignored = shutil.ignore_patterns(".*", "out", "runs", "build", "install", "log", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, workspace / "src" / "eseg_ros", ignore=ignored)
    command = [sys.executable, "-m", "colcon", "--log-base", "log", "build", "--event-handlers", "console_direct+"]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace / "install" / "eseg_ros"


def run_installed(prefix: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run with the install space's packages ahead of the source tree's, from a folder that is neither."""
    site = next(prefix.glob("lib/python3*/site-packages"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        command, cwd=prefix, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_colcon_installs_what_ros_looks_for(install_space: Path) -> None:
    share = install_space / "share" / "eseg_ros"

    assert (install_space / "share/ament_index/resource_index/packages/eseg_ros").is_file()
    assert (share / "package.xml").is_file()
    assert {"eseg.launch.py", "replay.launch.py"} <= {path.name for path in (share / "launch").iterdir()}
    assert (share / "config" / "eseg.yaml").is_file()
    assert {path.name for path in (ROOT / "engines").iterdir()} == {path.name for path in (share / "engines").iterdir()}


def test_the_installed_executables_run_from_the_install_space(install_space: Path) -> None:
    for name in ("segmentation_node", "bag_player", "eseg"):
        assert os.access(install_space / "lib" / "eseg_ros" / name, os.X_OK), name

    done = run_installed(install_space, sys.executable, str(install_space / "lib/eseg_ros/eseg"), "--version")

    assert done.stdout.strip() == f"eseg_ros {eseg_ros.__version__}", done.stderr


def test_an_installed_package_finds_its_share_folder(install_space: Path) -> None:
    code = "import eseg_ros.share as s; print(s.__file__); print(s.share_folder())"

    module, share = run_installed(install_space, sys.executable, "-c", code).stdout.split()

    assert Path(module).is_relative_to(install_space)
    assert Path(share) == install_space / "share" / "eseg_ros"


def test_setup_and_package_xml_state_one_version() -> None:
    assert package_xml().findtext("version") == eseg_ros.__version__


def test_package_xml_declares_what_the_user_named() -> None:
    declared = {element.text for element in package_xml() if element.tag.endswith("depend")}

    assert declared >= NAMED_BY_THE_USER


def test_the_package_is_read_by_every_supported_python() -> None:
    """Syntax of the oldest Python we promise: what 3.10 cannot parse must not be in the package."""
    import ast

    for path in (ROOT / "eseg_ros").rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


def test_the_changelog_names_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert re.search(rf"^## \[?{re.escape(eseg_ros.__version__)}\]?", changelog, re.MULTILINE)


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()
