"""Measure how fast and how lean we are, against MLPClassifier, PyTorch, skorch and ourselves.

    python benchmarks/speed.py [--only NAME,...] [--data DIR] [--repeats 9] [--threads 1 2]
                               [--output speed.json] [--pictures docs/images] [--no-numba]

Prints a table in Markdown: each figure is the median of runs that alternate with those of the other
side, with the quartiles of the ratio of neighbouring runs, beside what it should be. What is not
installed is named. All of it takes about a quarter of an hour on two cores, a little more with
pictures. Leave the machine alone meanwhile.

DIR holds the tables of `quality.py`, files NAME.csv.gz; without it the times to a loss are measured
on the rain data alone. Our steps take numba's passes where it is installed, as any fit does that
takes its time; `--no-numba` leaves them out, but not in what runs in processes of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from sklearn.exceptions import ConvergenceWarning
from speed_costs import draw_costs, measure_costs
from speed_fits import fit_rows
from speed_imports import import_rows
from speed_members import member_rows, thread_rows
from speed_predict import predict_by_rows, predict_many_rows, predict_one_rows
from speed_reach import reach_rows
from speed_report import Row, cells, describe, summarize, to_json, to_markdown
from speed_steps import step_rows

from skdnn import _loading
from skdnn._versions import PACKAGES, describe_environment, find_versions

Benchmark = Callable[[argparse.Namespace], Iterator[Row]]

# name: the function that measures its rows
BENCHMARKS: dict[str, Benchmark] = {
    "step": lambda options: step_rows(options.threads, options.repeats),
    "threads": lambda options: thread_rows(options.repeats),
    "members": lambda options: member_rows(options.repeats),
    "predict-one": lambda options: predict_one_rows(options.repeats),
    "predict-rows": lambda options: predict_by_rows(options.repeats),
    "predict-many": lambda options: predict_many_rows(min(5, options.repeats)),
    "fit": lambda options: fit_rows(),
    # a small difference of two times that scatter
    "import": lambda options: import_rows(2 * options.repeats),
    "reach": lambda options: reach_rows(
        options.data, options.tables, options.max_rows, min(3, options.repeats)
    ),
}
PEERS = ("torch", "skorch")


def measure(
    name: str, benchmark: Benchmark, options: argparse.Namespace
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a benchmark, named; one that fails says so in a row, and others go on."""
    started = time.perf_counter()
    try:
        for row in benchmark(options):
            print(" | ".join(cell for cell in cells(row) if cell), file=sys.stderr, flush=True)
            yield name, row
    except Exception as error:  # whatever is raised, the figures so far are worth keeping
        reason = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        print(f"{name} {reason}", file=sys.stderr, flush=True)
        yield name, Row(name, "", missing=reason)
    print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


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
    parser.add_argument("--no-numba", action="store_true", help="time the NumPy passes")
    parser.add_argument("--output", type=Path, help="file to write the figures to, as JSON")
    parser.add_argument("--pictures", type=Path, help="folder for the picture of growing costs")
    options = parser.parse_args(arguments)
    for name in options.only:
        if name not in BENCHMARKS:
            parser.error(f"--only: expected some of {names}; got {name!r}")
    if options.repeats < 1:
        parser.error(f"--repeats: expected 1 or more; got {options.repeats}")
    if options.pictures is not None:
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            parser.error("--pictures needs matplotlib: pip install matplotlib")
    return options


def main() -> None:
    """Measure, print the table, write JSON and the picture."""
    options = parse()
    if options.no_numba:
        _loading.SECONDS_BEFORE_LOADING = float("inf")
    warnings.simplefilter("ignore", ConvergenceWarning)
    environment = describe_environment()
    environment["packages"] = find_versions((*PACKAGES, *PEERS))
    named = [
        pair
        for name, benchmark in BENCHMARKS.items()
        if not options.only or name in options.only
        for pair in measure(name, benchmark, options)
    ]
    rows = [row for _, row in named]
    print(f"{describe(environment)}\n\n{to_markdown(rows)}\n\n{summarize(rows)}")
    costs = []
    if options.pictures is not None:
        costs = list(measure_costs(min(3, options.repeats)))
        print(f"\n{draw_costs(costs, options.pictures)}", file=sys.stderr)
    if options.output is not None:
        figures = {
            "environment": environment,
            "rows": [to_json(name, row) for name, row in named],
            "costs": costs,
        }
        options.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
