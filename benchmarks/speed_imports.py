"""Time what importing the package adds to scikit-learn's network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from speed_report import Row, at_most, show_medians

OURS, THEIRS = "skdnn", "sklearn.neural_network"
SCRIPT = """
from time import perf_counter
started = perf_counter()
import {}
print(perf_counter() - started)
"""


def time_import(module: str) -> float:
    """Return the seconds that a fresh interpreter takes to import a module."""
    command = [sys.executable, "-c", SCRIPT.format(module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def import_rows(repeats: int) -> Iterator[Row]:
    """Compare the two imports, by turns; the first ones only fill the system's cache of files."""
    seconds: dict[str, list[float]] = {OURS: [], THEIRS: []}
    for run in range(repeats + 1):
        for module, runs in seconds.items():
            time = time_import(module)
            if run > 0:
                runs.append(time)
    more = tuple(1e3 * (a - b) for a, b in zip(seconds[OURS], seconds[THEIRS], strict=True))
    details = show_medians(seconds, seconds)
    yield Row("import skdnn", f"import {THEIRS}", more, "ms", at_most(30.0), details)
