"""docs/parameters.md, made from the declarations: `python -m eseg_ros.node.parameters_table > docs/parameters.md`."""

from __future__ import annotations

from collections.abc import Sequence

from eseg_ros.node.declarations import CAMERA_DECLARATIONS, CHANGES, NODE_DECLARATIONS, Declaration

_TYPES = {str: "string", bool: "bool", int: "integer", float: "double", list: "string array"}
_HEAD = ("name", "type", "default", "range", "unit", "change", "what it does")

INTRODUCTION = """\
# Parameters

Made from the node's own declarations by `python -m eseg_ros.node.parameters_table > docs/parameters.md`; a test keeps
it current. `config/eseg.yaml` is a file to begin with. `ros2 param describe /segmentation NAME` says the same on the
vehicle.

A set of changes (`ros2 service call /segmentation/set_parameters_atomically …`) is taken as a whole or refused as a
whole, with every reason. A value in a YAML file that does not fit does not end the node: configure fails, says what is
wrong, and setting the parameter mends it. Names that the node does not know are reported at configure with the nearest
one that it knows.
"""
ENDING = """\
## Others

- `use_sim_time` (bool): ages are measured on /clock.
- `qos_overrides.TOPIC.publisher.POLICY` and `qos_overrides.TOPIC.subscription.POLICY`: history, depth and reliability
  of every endpoint, TOPIC resolved in full. Those of a camera's images win over its `reliability` and `depth`.
"""


def table() -> str:
    """The whole document."""
    changes = "\n".join(f"- **{name}**: {meaning}." for name, meaning in CHANGES.items())
    return "\n".join(
        [
            INTRODUCTION,
            f"{changes}\n",
            f"## The node\n\n{_rows(NODE_DECLARATIONS)}\n",
            f"## Each camera\n\nUnder `cameras.NAME.`, NAME from `camera_names`.\n\n{_rows(CAMERA_DECLARATIONS)}\n",
            ENDING,
        ]
    )


def _rows(declarations: Sequence[Declaration]) -> str:
    rows = [_HEAD, ("---",) * len(_HEAD), *map(_row, declarations)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(declaration: Declaration) -> tuple[str, ...]:
    default = declaration.default
    if isinstance(default, (str, list)):
        shown = ", ".join(filter(None, [default] if isinstance(default, str) else default)) or "(empty)"
    else:
        shown = str(default).lower()
    return (
        f"`{declaration.name}`",
        _TYPES[type(default)],
        shown,
        _range(declaration),
        declaration.unit,
        declaration.change,
        declaration.description,
    )


def _range(declaration: Declaration) -> str:
    if declaration.choices:
        return ", ".join(declaration.choices)
    if declaration.maximum is None:
        return ""
    return f"{declaration.minimum:g} to {declaration.maximum:g}"


if __name__ == "__main__":
    print(table(), end="")
