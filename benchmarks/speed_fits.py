"""Measure fits on a large table: the memory they take, and how their epochs grow with the rows."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from speed_measure import MEGABYTE, extra_memory, in_fresh_process, make_rows, warm_up
from speed_report import Row, at_most, show_time

from skdnn import DeepBinaryClassifier
from skdnn._loading import load_compiled

N_FEATURES, BATCH_SIZE = 20, 512
N_EPOCHS = {10_000: 10, 100_000: 4, 1_000_000: 2}
FEWEST, MOST = min(N_EPOCHS), max(N_EPOCHS)


def fit_rows() -> Iterator[Row]:
    """Measure the default ensemble, and a single network."""
    for name, parameters in {"the default": {}, "n_members=1": {"n_members": 1}}.items():
        yield from rows_of_fit(name, in_fresh_process(measure_fit, parameters))


def measure_fit(parameters: dict[str, Any]) -> dict[str, Any]:
    """Fit tables of growing size, few epochs of each, and the largest with an eye on the memory.

    The smallest is fitted again at the end, so that a machine that grows slower meanwhile does not
    look like a fit that does.
    """
    X, y = make_rows(MOST, N_FEATURES)
    model = DeepBinaryClassifier(
        batch_size=BATCH_SIZE,
        learning_rate="constant",
        n_iter_no_change=float("inf"),
        random_state=0,
        **parameters,
    )
    seconds: dict[int, list[float]] = {n_rows: [] for n_rows in N_EPOCHS}

    def fit(n_rows: int) -> None:
        model.set_params(max_iter=N_EPOCHS[n_rows]).fit(X[:n_rows], y[:n_rows])
        seconds[n_rows] += model.history_["seconds"]

    load_compiled(X.dtype)  # which short fits do without, and takes memory once for a process
    warm_up(lambda: model.set_params(max_iter=1).fit(X[:FEWEST], y[:FEWEST]))
    fit(FEWEST)
    memory = extra_memory(lambda: fit(MOST))
    n_columns = len(model.encoder_.get_feature_names_out())
    for n_rows in sorted(N_EPOCHS, reverse=True)[1:]:
        fit(n_rows)
    return {
        "memory": memory,
        "encoded": MOST * n_columns * model.params_.itemsize / MEGABYTE,
        "seconds": seconds,
    }


def rows_of_fit(name: str, measured: dict[str, Any]) -> Iterator[Row]:
    """Compare the memory with the encoded table, and epochs of many rows with those of few."""
    beyond = measured["memory"] - measured["encoded"]
    yield Row(
        f"fit on {MOST:,} x {N_FEATURES} float32, {name}: peak extra memory",
        "the encoded table",
        (beyond,),
        "MB",
        at_most(64.0),
        f"{measured['memory']:.0f} MB beside X and y, table {measured['encoded']:.0f} MB",
    )
    seconds = measured["seconds"]
    smallest = median(seconds[FEWEST])
    for n_rows in sorted(seconds)[1:]:
        per_row = tuple(s / smallest * FEWEST / n_rows for s in seconds[n_rows])
        details = [f"{n:,} rows {show_time(median(seconds[n]))}" for n in (FEWEST, n_rows)]
        yield Row(
            f"time of an epoch by row, {n_rows:,} x {N_FEATURES}, batch {BATCH_SIZE}, {name}",
            f"{FEWEST:,} rows",
            per_row,
            "x",
            at_most(1.15),
            ", ".join(details),
        )
