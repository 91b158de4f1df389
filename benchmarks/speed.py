"""Measure how fast and how lean we are, against MLPClassifier, PyTorch and ourselves.

    python benchmarks/speed.py [--only NAME,...] [--data DIR] [--repeats 9] [--threads 1 2]
                               [--output speed.json] [--pictures docs/images] [--no-numba]

Prints a table in Markdown: each figure is the median of runs that alternate with those of the other
side, with the quartiles of the ratio of neighbouring runs, beside what it should be. What is not
installed is named. All of it takes about half an hour on two cores, a little more with pictures.
Leave the machine alone meanwhile. `compare.py` holds two versions of us against each other.

DIR holds the tables of `quality.py`, files NAME.csv.gz; without it the times to a loss are measured
on the rain data alone. `--no-numba` does without numba, as NUMBA_DISABLE_JIT=1 does anywhere.
`--quick` runs all of it on tiny tables: its figures mean nothing, but that it works.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from measure import QUICK, Row, markdown
from sklearn.exceptions import ConvergenceWarning
from speed_fits import default_rows, fit_rows, thread_rows
from speed_predictions import import_rows, predict_by_rows, predict_many_rows, predict_one_rows
from speed_reach import reach_rows
from speed_steps import draw_costs, step_rows

from skdnn import show_versions

HEADER = ["path", "against", "measured", "quartiles", "target", "met", "medians and details"]
Benchmark = Callable[[argparse.Namespace], Iterator[Row]]

# name: the function that measures its rows
BENCHMARKS: dict[str, Benchmark] = {
    "step": lambda options: step_rows(options.threads, options.repeats),
    "threads": lambda options: thread_rows(options.repeats),
    "predict-one": lambda options: predict_one_rows(options.repeats),
    "predict-rows": lambda options: predict_by_rows(options.repeats),
    "predict-many": lambda options: predict_many_rows(min(5, options.repeats)),
    "fit": lambda options: fit_rows(min(5, options.repeats)),
    "defaults": lambda options: default_rows(min(3, options.repeats)),
    # a small difference of two times that scatter
    "import": lambda options: import_rows(2 * options.repeats),
    "reach": lambda options: reach_rows(
        options.data, options.tables, options.max_rows, min(3, options.repeats)
    ),
}


def measure(name: str, options: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a benchmark, named; one that fails says so in a row, and others go on."""
    started = time.perf_counter()
    try:
        for row in BENCHMARKS[name](options):
            print(" | ".join(filter(None, row.cells())), file=sys.stderr, flush=True)
            yield name, row
    except Exception as error:  # whatever is raised, the figures so far are worth keeping
        reason = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        print(f"{name} {reason}", file=sys.stderr, flush=True)
        yield name, Row(name, "", missing=reason)
    print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def describe_environment() -> str:
    """Return what `show_versions` prints, and the versions of the peers."""
    with redirect_stdout(io.StringIO()) as text:
        show_versions()
    versions = []
    for package in ("torch", "catboost", "lightgbm"):
        with suppress(PackageNotFoundError):
            versions.append(f"{package:16} {version(package)}")
    return "\n".join([text.getvalue().rstrip(), *versions])


def split_names(text: str) -> list[str]:
    """Return the names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = ", ".join(BENCHMARKS)
    parser.add_argument("--only", type=split_names, default=[], help=f"comma-separated: {names}")
    parser.add_argument("--data", type=Path, help="folder of tables NAME.csv.gz")
    parser.add_argument(
        "--tables",
        type=split_names,
        default=["adult", "bank_marketing", "magic_gamma"],
        help="comma-separated names in this folder",
    )
    parser.add_argument("--max-rows", type=int, default=15_000, help="rows sampled of each of them")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each side")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="BLAS threads of a training step"
    )
    parser.add_argument("--no-numba", action="store_true", help="compute with NumPy alone")
    parser.add_argument("--quick", action="store_true", help="run on tiny tables, as a test")
    parser.add_argument("--output", type=Path, help="file to write the figures to, as JSON")
    parser.add_argument("--pictures", type=Path, help="folder for the picture of growing costs")
    options = parser.parse_args(arguments)
    for name in options.only:
        if name not in BENCHMARKS:
            parser.error(f"--only: expected some of {names}; got {name!r}")
    if options.repeats < 1:
        parser.error(f"--repeats: expected 1 or more; got {options.repeats}")
    return options


def main() -> None:
    """Measure, print the table, write JSON and the picture."""
    options = parse()
    if options.no_numba:
        os.environ["NUMBA_DISABLE_JIT"] = "1"  # before anything loads numba
    if options.quick:
        os.environ[QUICK] = "1"
    warnings.simplefilter("ignore", ConvergenceWarning)
    environment = describe_environment()
    named = [
        pair
        for name in BENCHMARKS
        if not options.only or name in options.only
        for pair in measure(name, options)
    ]
    print(f"{environment}\n\n{markdown(HEADER, [row.cells() for _, row in named])}\n")
    judged = [row.is_met for _, row in named if row.is_met is not None]
    missing = {row.missing: None for _, row in named if row.missing}
    print(f"{sum(judged)} of {len(judged)} targets are met.", "; ".join(missing))
    if options.output is not None:
        rows = [{"name": name, **asdict(row), "is_met": row.is_met} for name, row in named]
        figures = {"environment": environment.splitlines(), "rows": rows}
        options.output.write_text(json.dumps(figures, indent=1) + "\n")
    if options.pictures is not None:
        print(draw_costs(min(3, options.repeats), options.pictures), file=sys.stderr)


if __name__ == "__main__":
    main()
