"""Measure how fast and how lean we are, against MLPClassifier, PyTorch and ourselves.

    python benchmarks/speed.py [--only NAME ...] [--repeats 9] [--threads 1 2]
                               [--output speed.json] [--quick]

Prints a table in Markdown: each figure is the median of runs that alternate with those of the other
side, with the quartiles of the ratio of neighbouring runs, beside what it should be. What is not
installed is named. Needs half an hour of an idle machine; NUMBA_DISABLE_JIT=1 does without numba.
`--quick` takes tiny tables, to see that it works. `compare.py` compares two versions of us.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from measure import (
    ENDLESS,
    IMPORT,
    QUICK,
    Call,
    Row,
    alternate,
    compare_times,
    extra_memory,
    make_rows,
    make_table,
    markdown,
    run_code,
    warm_up,
)
from quality_models import MODELS
from sklearn.exceptions import ConvergenceWarning
from speed_steps import OURS, PRODUCTS, make_products, step_rows
from threadpoolctl import threadpool_limits

from skdnn import DeepBinaryClassifier, show_versions

PEERS, ONNX = ("CatBoost", "LightGBM", "MLPClassifier"), "skdnn in onnxruntime"
N_NEW, BLOCK = 10_000, 512

# ---- fits


def fit_rows(repeats: int) -> Iterator[Row]:
    """Measure the memory of fits of a large table, and the time that belongs to no epoch."""
    memory = run_code("import speed; print(speed.memory_of_fit())")
    path = "fit on 1,000,000 x 20 float32, the default: peak extra memory"
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


def memory_of_fit() -> float:
    """Return the megabytes that a fit takes at most beyond those of the encoded table."""
    X, y = make_rows(1_000_000, 20)
    model = DeepBinaryClassifier(batch_size=512, max_iter=10, **ENDLESS)
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


def predict_wide_rows() -> Iterator[Row]:
    """Show the memory of predictions by a wide network."""
    memory = run_code("import speed; print(speed.memory_of_prediction())")
    path = "predict_proba of 200,000 x 64 float32, hidden (256, 256), encoder=None"
    yield Row(path, "memory before", (memory,), "MB", most=32.0)


def memory_of_prediction() -> float:
    """Return the megabytes that a prediction takes at most, with its result."""
    model = DeepBinaryClassifier((256, 256), encoder=None, n_members=1, max_iter=2)
    model.fit(*make_rows(2_000, 64))
    X, _ = make_rows(200_000, 64)
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


# ---- the default beside peers at their defaults, on one thread


def default_rows(repeats: int) -> Iterator[Row]:
    """Compare default fits, and predictions of one row and of 10,000, with peers."""
    for n_rows, is_mixed in ((2_000, False), (10_000, False), (50_000, False), (10_000, True)):
        columns = "10 numbers, 10 categories" if is_mixed else "20 numbers"
        tables = (make_table(n, is_mixed=is_mixed) for n in (n_rows, N_NEW))
        with threadpool_limits(1):
            yield from rows_of_default(f"{n_rows:,} x {columns}", *tables, repeats)


def rows_of_default(name: str, old: tuple, new: tuple, repeats: int) -> Iterator[Row]:
    """Measure a table to fit, and one to predict."""
    models = {}
    for peer in (OURS, *PEERS):
        with suppress(ImportError):
            models[peer] = MODELS[peer].make(old[0], 0, 1)
    fits = {peer: partial(model.fit, *old) for peer, model in models.items()}
    fits[OURS]()  # loads what is loaded once
    path, seconds = f"default fit, {name}, 1 thread", alternate(fits, repeats, is_warm=True)
    yield from compare_with(path, PEERS, seconds)
    yield Row(path, PRODUCTS, share_of_products(models[OURS][-1], old, repeats), "%")
    for n_rows, n_calls in ((1, 100), (N_NEW, 1)):
        rows = new[0].iloc[:n_rows]
        calls = {peer: partial(model.predict_proba, rows) for peer, model in models.items()}
        calls |= call_onnx(models[OURS][-1], rows)
        seconds = alternate(calls, 3 * repeats, n_calls)
        path = f"predict_proba of {len(rows):,} rows, fit of {name}, 1 thread"
        yield from compare_with(path, (*PEERS, ONNX), seconds)


def compare_with(path: str, others: tuple, seconds: dict) -> Iterator[Row]:
    """Compare with each that is installed."""
    for other in others:
        if other in seconds:
            yield compare_times(path, other, seconds, other, OURS)
        else:
            yield Row(path, other, missing=f"{other}: not installed")


def call_onnx(model: DeepBinaryClassifier, rows: pd.DataFrame) -> dict[str, Call]:
    """Return what predicts in onnxruntime on one thread, from arrays, where it is installed."""
    try:
        from onnxruntime import InferenceSession, SessionOptions

        from skdnn.onnx import make_inputs, to_onnx
    except ImportError:
        return {}
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = InferenceSession(to_onnx(model).SerializeToString(), options)
    return {ONNX: partial(session.run, None, make_inputs(session, rows))}


def share_of_products(model: DeepBinaryClassifier, old: tuple, repeats: int) -> tuple[float, ...]:
    """Return the share that the linear layers' products alone have in the time of a fit.

    Each member trains on all rows but its fold, which it predicts after each epoch. The fit is one
    in which no member stops before the others.
    """
    n_members, *sizes = model.coefs_[0].shape[:2]
    sizes += [W.shape[-1] for W in model.coefs_]
    n_epochs, batch_size = model.n_iter_, model.resolved_params_["batch_size"]
    n_held_out = len(old[0]) // n_members
    step = make_products(sizes, batch_size, is_input_trained=True)
    forward = make_products(sizes, BLOCK, has_backward=False)

    def products() -> None:
        for _ in range((len(old[0]) - n_held_out) // batch_size):
            step()
        for _ in range(round(n_held_out / BLOCK)):
            forward()

    same = DeepBinaryClassifier(max_iter=n_epochs, **ENDLESS)
    seconds = alternate({"fit": partial(same.fit, *old), "products": products}, repeats)
    pairs = zip(seconds["fit"], seconds["products"], strict=True)
    return tuple(n_members * n_epochs * part / whole for whole, part in pairs)


# ---- the command

HEADER = ["path", "against", "measured", "quartiles", "target", "met", "medians and details"]

BENCHMARKS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "step": lambda options: step_rows(options.threads, options.repeats),
    "predict-rows": lambda options: predict_by_rows(options.repeats),
    "predict-wide": lambda options: predict_wide_rows(),
    "fit": lambda options: fit_rows(min(5, options.repeats)),
    "defaults": lambda options: default_rows(min(3, options.repeats)),
    "import": lambda options: import_rows(options.repeats),
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
    parser.add_argument("--repeats", type=int, default=9, help="runs of each side")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="for steps")
    parser.add_argument("--quick", action="store_true", help="run on tiny tables, as a test")
    parser.add_argument("--output", type=Path, help="file to write the figures to, as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, write JSON."""
    options = parse()
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
