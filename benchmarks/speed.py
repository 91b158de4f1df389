"""Measure how fast and how lean we are, against MLPClassifier, PyTorch and ourselves.

    python benchmarks/speed.py [--only NAME ...] [--data DIR] [--repeats 9] [--threads 1 2]
                               [--output speed.json] [--no-numba] [--quick]

Prints a table in Markdown: each figure is the median of runs that alternate with those of the other
side, with the quartiles of the ratio of neighbouring runs, beside what it should be. What is not
installed is named. Needs pandas, and about half an hour on two cores: leave the machine alone
meanwhile. `compare.py` holds two versions of us against each other.

DIR holds the tables of `quality.py`, files NAME.csv.gz; without it the times to a loss are measured
on the rain data alone. `--no-numba` does without numba, as NUMBA_DISABLE_JIT=1 does anywhere.
`--quick` runs all of it on tiny tables: its figures mean nothing, but that it works.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measure import (
    ENDLESS,
    IMPORT,
    QUICK,
    Row,
    alternate,
    compare_times,
    extra_memory,
    make_rows,
    markdown,
    run_code,
    warm_up,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from speed_onnx import onnx_rows
from speed_peers import default_rows, reach_rows
from speed_steps import step_rows
from threadpoolctl import threadpool_limits

from skdnn import DeepBinaryClassifier, show_versions


def fit_rows(repeats: int) -> Iterator[Row]:
    """Measure the memory of fits of a large table, and the time that belongs to no epoch."""
    for name, params in {"the default": {}, "n_members=1": {"n_members": 1}}.items():
        memory = run_code(f"import speed; print(speed.memory_of_fit({params}))")
        path = f"fit on 1,000,000 x 20 float32, {name}: peak extra memory"
        yield Row(path, "the encoded table", (memory,), "MB", most=64.0)

    X, y = make_rows(20_000, 100)
    settings = {"encoder": None, "n_members": 1, "early_stopping": False, "batch_size": 1024}
    calls = {}
    for k in (1, 3):
        model = DeepBinaryClassifier((512, 512), max_iter=k, **settings, **ENDLESS)
        calls[f"{k} epochs"] = partial(model.fit, X, y)
    with threadpool_limits(1):
        seconds = alternate(calls, repeats)
    # a fit of k epochs takes F + k E seconds: F / E follows from two values of k
    shares = [one / ((three - one) / 2) - 1 for one, three in zip(*seconds.values(), strict=True)]
    path = "fit on 20,000 x 100, hidden (512, 512): all beside its epochs, 1 thread"
    yield Row(path, "an epoch", tuple(shares), "%", most=0.1)


def memory_of_fit(params: dict[str, Any]) -> float:
    """Return the megabytes that a fit takes at most beyond those of the encoded table."""
    X, y = make_rows(1_000_000, 20)
    model = DeepBinaryClassifier(batch_size=512, max_iter=10, **ENDLESS, **params)
    model.fit(X[:100_000], y[:100_000])  # so long that numba is loaded, which takes memory once
    memory = extra_memory(lambda: model.set_params(max_iter=2).fit(X, y))
    n_columns = len(model.encoder_.get_feature_names_out())
    return memory - len(X) * n_columns * model.params_.itemsize / 2**20


def import_rows(repeats: int) -> Iterator[Row]:
    """Show what importing the package adds to scikit-learn's; the first run fills caches."""
    milliseconds = [1e3 * run_code(IMPORT) for _ in range(repeats + 1)][1:]
    against = "import sklearn.neural_network"
    yield Row("import skdnn", against, tuple(milliseconds), "ms", most=30.0)


# ---- predictions

NETWORKS = {
    "skdnn, encoder=None": partial(DeepBinaryClassifier, encoder=None, n_members=1),
    "skdnn, default encoder": partial(DeepBinaryClassifier, n_members=1),
    "MLPClassifier": MLPClassifier,
}


def fit_wide(name: str):
    """Return one wide network of each kind, trained a little on float32 rows."""
    return NETWORKS[name]((256, 256), activation="relu", max_iter=2).fit(*make_rows(2_000, 64))


def predict_wide_rows(repeats: int) -> Iterator[Row]:
    """Compare the time and the memory of predictions by a wide network, of one row and of many."""
    X, _ = make_rows(200_000, 64)
    models = {name: fit_wide(name) for name in NETWORKS}
    path = "predict_proba of {:,} x 64 float32, hidden (256, 256), {}"
    for n_rows, n_calls in ((1, 200), (200_000, 1)):
        calls = {name: partial(m.predict_proba, X[:n_rows]) for name, m in models.items()}
        seconds = alternate(calls, repeats, n_calls)
        for name in list(NETWORKS)[:2]:
            least = 2.0 if n_rows > 1 and "None" in name else None  # ours may embed, theirs not
            peer = "MLPClassifier"
            yield compare_times(path.format(n_rows, name), peer, seconds, peer, name, least=least)
    for name in NETWORKS:
        for n_rows in (200_000, 400_000):
            code = f"import speed; print(speed.memory_of_prediction({name!r}, {n_rows}))"
            most = None if name == "MLPClassifier" else 32.0
            values = (run_code(code),)
            yield Row(path.format(n_rows, name), "memory before", values, "MB", most=most)


def memory_of_prediction(name: str, n_rows: int) -> float:
    """Return the megabytes that a prediction takes at most, with its result."""
    model = fit_wide(name)
    X, _ = make_rows(n_rows, 64)
    warm_up(lambda: model.predict_proba(X[:100]))  # what is loaded once is not the rows' doing
    return extra_memory(lambda: model.predict_proba(X))


def predict_by_rows(repeats: int) -> Iterator[Row]:
    """Show what a row takes by the default ensemble, in time of the processor of all threads."""
    X, y = make_rows(10_000, 20)
    X = X.astype(np.float64)
    model = DeepBinaryClassifier(max_iter=2).fit(X[:2_000], y[:2_000])
    for n_rows, most in {1: 400.0, 10: None, 70: 8.0, 1_000: 8.0, 10_000: 8.0}.items():
        calls = {"": partial(model.predict_proba, X[:n_rows])}
        runs = alternate(calls, repeats, max(1, 2_000 // n_rows), time.process_time)[""]
        path = f"predict_proba of {n_rows:,} x 20 float64, the default ensemble"
        a_row = tuple(1e6 * run / n_rows for run in runs)
        yield Row(path, "processor time of a row", a_row, "us", most=most)


# ---- the command

HEADER = ["path", "against", "measured", "quartiles", "target", "met", "medians and details"]
Benchmark = Callable[[argparse.Namespace], Iterator[Row]]

BENCHMARKS: dict[str, Benchmark] = {
    "step": lambda options: step_rows(options.threads, options.repeats),
    "predict-rows": lambda options: predict_by_rows(options.repeats),
    "predict-wide": lambda options: predict_wide_rows(min(5, options.repeats)),
    "fit": lambda options: fit_rows(min(5, options.repeats)),
    "defaults": lambda options: default_rows(min(3, options.repeats)),
    "import": lambda options: import_rows(options.repeats),
    "onnx": lambda options: onnx_rows(options.data, min(5, options.repeats)),
    "reach": lambda options: reach_rows(options.data, min(3, options.repeats)),
}


def measure(name: str, options: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a benchmark, named; one that fails says so in a row, and others go on."""
    try:
        for row in BENCHMARKS[name](options):
            print(" | ".join(filter(None, row.cells())), file=sys.stderr, flush=True)
            yield name, row
    except Exception as error:  # whatever is raised, the figures so far are worth keeping
        reason = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        print(f"{name} {reason}", file=sys.stderr, flush=True)
        yield name, Row(name, "", missing=reason)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--data", type=Path, help="folder of tables NAME.csv.gz")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each side")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="for steps")
    parser.add_argument("--no-numba", action="store_true", help="compute with NumPy alone")
    parser.add_argument("--quick", action="store_true", help="run on tiny tables, as a test")
    parser.add_argument("--output", type=Path, help="file to write the figures to, as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, write JSON."""
    options = parse()
    if options.no_numba:
        os.environ["NUMBA_DISABLE_JIT"] = "1"  # before anything loads numba
    if options.quick:
        os.environ[QUICK] = "1"
    warnings.simplefilter("ignore", ConvergenceWarning)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # imports are those of a package installed
    show_versions()
    named = [pair for name in options.only for pair in measure(name, options)]
    print(f"\n{markdown(HEADER, [row.cells() for _, row in named])}\n")
    if options.output is not None:
        rows = [{"name": name, **asdict(row)} for name, row in named]
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
