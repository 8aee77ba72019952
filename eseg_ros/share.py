"""Where this package's engines, configurations and launch files lie, in a source tree as in an installation."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = "eseg_ros"


def share_folder() -> Path:
    """The folder that holds `engines/`, `config/` and `launch/`.

    The source tree if the package runs from one, else `share/eseg_ros` of the installation (colcon's or pip's prefix).

    Raises:
        FileNotFoundError: none is there.
    """
    package = Path(__file__).resolve().parent
    prefixes = [parent for parent in package.parents if (parent / "share" / PACKAGE / "package.xml").is_file()]
    candidates = [package.parent, *(prefix / "share" / PACKAGE for prefix in prefixes)]
    candidates.append(Path(sys.prefix) / "share" / PACKAGE)
    for folder in candidates:
        if (folder / "package.xml").is_file():
            return folder
    raise FileNotFoundError(
        f"the share folder of {PACKAGE} was not found; looked in {', '.join(map(str, candidates))}. "
        "Install the package with colcon build or pip install"
    )


def find_engine(name: str) -> Path:
    """Manifest path of `name`: a path to an engine (manifest, ONNX file or stem), or a shipped engine's name."""
    path = Path(name).expanduser()
    if path.suffix in (".json", ".onnx") or path.parent != Path():
        return path
    return share_folder() / "engines" / f"{name}.json"
