"""Which modules can be imported, tried in a process of its own: a broken one may take its process with it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

TIMEOUT_S = 60  # imports take seconds even on a busy machine

_CHILD = """
import importlib, importlib.metadata, json, os, sys

def look(name):
    module_name, _, function = name.partition(":")
    root = module_name.partition(".")[0]
    try:
        module = importlib.import_module(module_name)
        if function:
            return str(getattr(module, function)()), ""
    except ModuleNotFoundError as error:
        within = error.name and f"{module_name}.".startswith(f"{error.name}.")
        return None if within else ("", str(error))
    except BaseException as error:
        return "", f"{type(error).__name__}: {error}"
    for known in (module, sys.modules[root]):
        if isinstance(getattr(known, "__version__", None), str):
            return known.__version__, ""
    try:
        return importlib.metadata.version(root), ""
    except importlib.metadata.PackageNotFoundError:
        return "", ""

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the modules print is no answer
sys.path[:], names = json.load(sys.stdin)
for name in names:
    print(json.dumps(look(name)), file=answers, flush=True)
os._exit(0)  # libraries that fail while they are torn down are no news
"""


@dataclass(frozen=True, slots=True)
class Module:
    """An installed module.

    Attributes:
        version: as the module or its package tells it; of "module:function", what the function returned.
        error: why it cannot be imported; "" if it can.
    """

    version: str = ""
    error: str = ""


def import_modules(*groups: Sequence[str], timeout_s: float = TIMEOUT_S) -> dict[str, Module]:
    """Import each group of modules in a process of its own, all at once.

    Args:
        groups: names of modules, or "module:function", a function to call without arguments.
        timeout_s: for a group; the module at which it runs out counts as broken.

    Returns:
        The modules that are installed, by name.
    """
    with ThreadPoolExecutor(max_workers=len(groups)) as pool:
        found = pool.map(lambda names: _import_all(list(names), timeout_s), groups)
        return {name: module for group in found for name, module in group.items()}


def _import_all(names: list[str], timeout_s: float) -> dict[str, Module]:
    found: dict[str, Module] = {}
    while names:
        answers, end = _run_child(names, timeout_s)
        for name, answer in zip(names, answers, strict=False):
            if answer is not None:
                found[name] = Module(*answer)
        names = names[len(answers) :]
        if names:  # the first without an answer ended the process
            found[names.pop(0)] = Module(error=f"importing it {end}")
    return found


def _run_child(names: list[str], timeout_s: float) -> tuple[list[list[str] | None], str]:
    """The answers for the first modules, and how the process ended if those are not all."""
    request, command = json.dumps([sys.path, names]), [sys.executable, "-c", _CHILD]
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=timeout_s, check=False)
        output, end = done.stdout, _how_it_ended(done)
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode()
        end = f"takes longer than {timeout_s:.0f} s"
    return [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith("\n")], end


def _how_it_ended(done: subprocess.CompletedProcess[str]) -> str:
    status = done.returncode
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    last_words = done.stderr.strip().splitlines()[-1:]
    return f"ended the process by {how}" + "".join(f": {words}" for words in last_words)
