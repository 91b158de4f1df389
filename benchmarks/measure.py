"""What the benchmarks of speed share: runs that alternate, memory, and the figures."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

Call = Callable[[], object]

WARM_UP_SECONDS = 1.5
ENDLESS = {"learning_rate": "constant", "n_iter_no_change": float("inf"), "random_state": 0}
"""Parameters of a fit that only `max_iter` ends."""
QUICK = "SKDNN_BENCHMARKS_QUICK"
"""Set in the environment for tables of few rows and no warm-up: do the benchmarks still run?"""


def make_rows(n_samples: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return standard normal rows in float32, and labels that half depend on them."""
    n_samples = min(n_samples, 400) if QUICK in os.environ else n_samples
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_samples, n_features), dtype=np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=n_samples) > 0).astype(np.int64)
    return X, y


def make_table(n_rows: int, *, is_mixed: bool) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table and its labels: 20 numbers, or 10 of them, some missing, and 10 categories."""
    X, y = make_rows(n_rows, 20)
    table = pd.DataFrame(X, columns=[f"x{j}" for j in range(20)])
    for j in range(10, 20) if is_mixed else ():
        levels = np.round(X[:, j] * 1.5 ** (j - 10))  # about 6 to 200 of them
        table[f"x{j}"] = pd.Categorical(levels.astype(int).astype(str))
        table.loc[X[:, j] > 1.6, f"x{j - 10}"] = np.nan
    return table, y


def warm_up(call: Call) -> None:
    """Run for long enough that all is loaded and compiled, numba's loops too."""
    ends_at = time.perf_counter() + (0.0 if QUICK in os.environ else WARM_UP_SECONDS)
    call()
    while time.perf_counter() < ends_at:
        call()


def alternate(
    calls: dict[str, Call], repeats: int, n_calls=1, clock=time.perf_counter, is_warm=False
) -> dict[str, list[float]]:
    """Return the seconds of each call, run by run, after a warm-up; of `n_calls` the mean."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in () if is_warm else calls.values():
        warm_up(call)
    for _ in range(repeats):
        for name, call in calls.items():
            started = clock()
            for _ in range(n_calls):
                call()
            seconds[name].append((clock() - started) / n_calls)
    return seconds


IMPORT = """
import sklearn.neural_network
from time import perf_counter
started = perf_counter()
import skdnn
print(perf_counter() - started)
"""
"""Prints how many seconds importing the package adds to scikit-learn's network."""


def run_code(code: str) -> float:
    """Run code in a new Python beside these modules, and return the number that it prints."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    folder = Path(__file__).parent
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder).stdout)


def extra_memory(call: Call) -> float:
    """Return by how many megabytes the resident set grew at most during a call (Linux).

    tracemalloc would not see the buffers of BLAS, and counts what is allocated and never touched.
    """

    def peak() -> int:
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

    gc.collect()
    with suppress(AttributeError, OSError):  # where there is no glibc
        ctypes.CDLL(None).malloc_trim(0)  # memory that was freed and kept would seem not needed
    Path("/proc/self/clear_refs").write_text("5")  # forget an earlier peak
    before = peak()
    call()
    return (peak() - before) / 1024


@dataclass(frozen=True)
class Row:
    """One line of the table: what was run, and what it was compared with.

    `values` are the figure, run by run; "x" and "%" are ratios of neighbouring runs. `least` or
    `most` is its target. `missing` says why there is no figure.
    """

    path: str
    against: str
    values: tuple[float, ...] = ()
    unit: str = "x"
    least: float | None = None
    most: float | None = None
    details: str = ""
    missing: str = ""

    def cells(self) -> list[str]:
        """Return the row as the table shows it."""
        measured, spread, target, met = self.missing, "", "", ""
        bound = self.least if self.most is None else self.most
        if bound is not None:
            target = f"{'>=' if self.most is None else '<='} {show(bound, self.unit)}"
        if self.values:
            low, figure, high = np.quantile(self.values, [0.25, 0.5, 0.75])
            measured = show(figure, self.unit)
            spread = f"{show(low, self.unit)} to {show(high, self.unit)}"
            if bound is not None:
                is_met = figure >= bound if self.most is None else figure <= bound
                met = "yes" if is_met else "no"
        return [self.path, self.against, measured, spread, target, met, self.details]


def compare_times(
    path: str, against: str, seconds: dict[str, list[float]], slow: str, fast: str, **row: Any
) -> Row:
    """Compare two calls by their neighbouring runs: how many times longer one takes."""
    ratios = tuple(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))
    details = ", ".join(f"{name} {show_time(median(seconds[name]))}" for name in (fast, slow))
    return Row(path, against, ratios, details=details, **row)


def show(value: float, unit: str) -> str:
    """Write a figure with its unit."""
    formats = {"%": f"{value:.1%}", "x": f"{value:.2f}x"}
    return formats.get(unit, f"{value:.1f} {unit}")


def show_time(seconds: float) -> str:
    """Write a time in a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def markdown(header: list[str], lines: Iterable[list[str]]) -> str:
    """Return a table in Markdown."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
