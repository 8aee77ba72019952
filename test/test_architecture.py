"""The rules of docs/architecture.md on who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "eseg_ros"
TRAINING_SIDE = ("torch", "lightning", "eseg_ros.models", "eseg_ros.training")
RULES = [
    ("runtime/**/*.py", TRAINING_SIDE),
    ("engine/manifest.py", TRAINING_SIDE),
    ("engine/plan*.py", TRAINING_SIDE),
    ("engine/build*.py", TRAINING_SIDE),
    ("data/**/*.py", TRAINING_SIDE),
    ("node/**/*.py", TRAINING_SIDE),
    ("bag/**/*.py", TRAINING_SIDE),
    ("rendering/**/*.py", TRAINING_SIDE),
    ("models/**/*.py", ("cv2",)),
]


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(path: Path, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for module in sorted(imported_modules(path))
        if any(module == name or module.startswith(f"{name}.") for name in forbidden)
    ]


@pytest.mark.parametrize(("pattern", "forbidden"), RULES)
def test_a_part_does_not_import_what_it_must_not_know(pattern: str, forbidden: tuple[str, ...]) -> None:
    files = sorted(PACKAGE.glob(pattern))

    assert files, f"no file matches {pattern}"
    assert [violation for path in files for violation in violations(path, forbidden)] == []


def test_only_the_node_imports_rclpy() -> None:
    outside = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "node"]

    assert [violation for path in outside for violation in violations(path, ("rclpy",))] == []


def test_the_rules_see_an_import_inside_a_function(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("def f():\n    from eseg_ros import models\n    import torch.nn\n")

    assert imported_modules(path) == {"eseg_ros", "eseg_ros.models", "torch.nn"}
