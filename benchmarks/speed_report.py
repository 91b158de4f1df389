"""The rows of `speed.py`: a figure with its spread, its target and whether it is met; Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Target:
    """What a figure should be: at least or at most a bound."""

    bound: float
    is_least: bool = True

    def is_met(self, figure: float) -> bool:
        """Say whether a figure is as it should be; the bound itself is."""
        return figure >= self.bound if self.is_least else figure <= self.bound


def at_least(bound: float) -> Target:
    """Return the target of a figure that should be large."""
    return Target(bound)


def at_most(bound: float) -> Target:
    """Return the target of a figure that should be small."""
    return Target(bound, is_least=False)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    path : str
        What was run.
    against : str
        What it was compared with.
    values : tuple of float
        The figure, run by run: each run of ours with the one of the other that came next to it.
    unit : {"x", "%", "MB", "ms"}
        "x" is a ratio, and "%" a ratio too.
    target : Target or None
        In the unit of the values.
    details : str
        What the figure was made of.
    missing : str
        Why there is no figure.
    """

    path: str
    against: str
    values: tuple[float, ...] = ()
    unit: str = "x"
    target: Target | None = None
    details: str = ""
    missing: str = ""

    @property
    def figure(self) -> float | None:
        """The median of the runs."""
        return median(self.values) if self.values else None

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """The quartiles of the runs; None for a single one."""
        if len(self.values) < 2:
            return None
        low, high = np.quantile(self.values, [0.25, 0.75]).tolist()
        return low, high

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None without a target or a figure."""
        if self.target is None or self.figure is None:
            return None
        return self.target.is_met(self.figure)


def show(value: float, unit: str) -> str:
    """Write a figure with its unit."""
    if unit == "%":
        return f"{value:.1%}"
    if unit == "x":
        return f"{value:.2f}x"
    return f"{value:.1f} {unit}"


def show_time(seconds: float) -> str:
    """Write a time in a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def show_medians(seconds: dict[str, list[float]], names: Iterable[str]) -> str:
    """Write the median times of some calls."""
    return ", ".join(f"{name} {show_time(median(seconds[name]))}" for name in names)


def cells(row: Row) -> list[str]:
    """Return a row as the table shows it."""
    measured, spread, target = row.missing or "-", "", ""
    if row.figure is not None:
        measured = show(row.figure, row.unit)
    if row.quartiles is not None:
        spread = " to ".join(show(value, row.unit) for value in row.quartiles)
    if row.target is not None:
        sign = ">=" if row.target.is_least else "<="
        target = f"{sign} {show(row.target.bound, row.unit)}"
    met = "" if row.is_met is None else ("yes" if row.is_met else "no")
    return [row.path, row.against, measured, spread, target, met, row.details]


HEADER = ["path", "against", "measured", "quartiles", "target", "met", "medians and details"]


def to_markdown(rows: Iterable[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [HEADER, ["---"] * len(HEADER), *(cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summarize(rows: Iterable[Row]) -> str:
    """Say how many targets are met, and what is missing."""
    rows = list(rows)
    judged = [row for row in rows if row.is_met is not None]
    missing = [row for row in rows if row.missing]
    text = f"{sum(map(bool, (row.is_met for row in judged)))} of {len(judged)} targets are met"
    if missing:
        reasons = dict.fromkeys(row.missing for row in missing)
        text += f"; {len(missing)} rows have no figure: {'; '.join(reasons)}"
    return f"{text}."


def to_json(name: str, row: Row) -> dict[str, Any]:
    """Return a row as plain values, with what follows from its runs."""
    return {"name": name, **asdict(row)} | {
        "figure": row.figure,
        "quartiles": row.quartiles,
        "is_met": row.is_met,
    }


def describe(environment: dict[str, Any]) -> str:
    """Say in a sentence what the figures depend on."""
    versions = [
        f"{name} {version or '(not installed)'}"
        for name, version in environment["packages"].items()
        if name not in ("joblib", "threadpoolctl")
    ]
    blas = {
        f"{library['internal_api']} {library.get('version')} with its kernel "
        f"{library.get('architecture') or 'unknown'}"
        for library in environment["blas"]
    }
    return (
        f"{environment['n_usable_cpus']} processors; Python {environment['python']}, "
        f"{', '.join(versions)}; {' and '.join(sorted(blas))}."
    )
