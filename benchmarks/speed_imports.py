"""Time what importing the package adds to scikit-learn's network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from speed_report import Row, at_most, show_medians

THEIRS, OURS = "sklearn.neural_network", "skdnn"
SCRIPT = """
import sys
from importlib import import_module
from time import perf_counter
for module in sys.argv[1:]:
    started = perf_counter()
    import_module(module)
    print(perf_counter() - started)
"""


def time_imports(*modules: str) -> list[float]:
    """Return the seconds that a fresh interpreter takes to import modules, one after the other.

    It may keep their bytecode, as it does wherever a package is installed.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", SCRIPT, *modules]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [float(line) for line in run.stdout.split()]


def import_rows(repeats: int) -> Iterator[Row]:
    """Import theirs and then ours, which takes what ours adds; the first run only fills caches.

    The difference of two interpreters would be the same, but for the noise of a second of imports.
    """
    runs = [time_imports(THEIRS, OURS) for _ in range(repeats + 1)][1:]
    seconds = dict(zip((THEIRS, OURS), map(list, zip(*runs, strict=True)), strict=True))
    more = tuple(1e3 * run for run in seconds[OURS])
    details = show_medians(seconds, seconds)
    yield Row("import skdnn", f"import {THEIRS}", more, "ms", at_most(30.0), details)
