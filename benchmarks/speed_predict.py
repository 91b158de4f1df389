"""Time predictions against MLPClassifier, of one row and of many, and the memory that many take.

And what a row of the default takes, by how many there are, in time of the processor: of all
threads, whether they compute or wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import numpy as np
from sklearn.neural_network import MLPClassifier
from speed_measure import (
    alternate,
    extra_memory,
    in_fresh_process,
    limited,
    make_rows,
    paired_ratios,
    warm_up,
)
from speed_report import Row, at_least, at_most, show_medians

from skdnn import DeepBinaryClassifier

N_TRAIN = 2_000
N_ROWS, N_FEATURES, HIDDEN = 200_000, 64, (256, 256)
N_SINGLE_CALLS = 200
N_NUMBERS, N_PREDICTED, N_CALLED = 20, (1, 10, 70, 1_000, 10_000), 2_000

PATH = f"predict_proba of {{:,}} x {N_FEATURES} float32, hidden {HIDDEN}, {{}}"

OURS, OURS_ENCODED, MLP = "skdnn, encoder=None", "skdnn, default encoder", "MLPClassifier"


def fit_wide(name: str):
    """Return one wide network of each kind, trained a little on float32 rows."""
    models = {
        OURS: DeepBinaryClassifier(HIDDEN, "relu", encoder=None, n_members=1, max_iter=2),
        OURS_ENCODED: DeepBinaryClassifier(HIDDEN, "relu", n_members=1, max_iter=2),
        MLP: MLPClassifier(HIDDEN, max_iter=2),
    }
    return models[name].fit(*make_rows(N_TRAIN, N_FEATURES))


def predict_one_rows(repeats: int) -> Iterator[Row]:
    """Compare `predict_proba` of a single row."""
    X, y = make_rows(N_TRAIN, 10)
    single = DeepBinaryClassifier((100,), "relu", encoder=None, n_members=1, max_iter=2)
    models = {
        "one network (100,), encoder=None": single,
        "the default ensemble": DeepBinaryClassifier(max_iter=2),
        MLP: MLPClassifier((100,), max_iter=2),
    }
    calls = {}
    for name, model in models.items():
        model.fit(X, y)
        calls[name] = lambda model=model: model.predict_proba(X[:1])
        warm_up(calls[name])
    seconds = alternate(calls, repeats, N_SINGLE_CALLS)
    for name in models:
        if name != MLP:
            yield Row(
                f"predict_proba of one row of 10 features, {name}",
                f"{MLP}'s time, hidden (100,)",
                paired_ratios(seconds[name], seconds[MLP]),
                "x",
                at_most(0.5) if models[name] is single else None,
                show_medians(seconds, [name, MLP]),
            )


def predict_by_rows(repeats: int) -> Iterator[Row]:
    """Show what a row takes, by the number of rows, and what leaving BLAS its threads costs."""
    X, y = make_rows(N_PREDICTED[-1], N_NUMBERS)
    X = X.astype(np.float64)
    model = DeepBinaryClassifier(max_iter=2).fit(X[:N_TRAIN], y[:N_TRAIN])
    for n_rows in N_PREDICTED:
        call, n_calls = partial(model.predict_proba, X[:n_rows]), max(1, N_CALLED // n_rows)
        warm_up(call)
        seconds: dict[str, list[float]] = {"as it is": [], "BLAS held": []}
        for _ in range(repeats):
            for name, runs in seconds.items():
                with limited(1) if name == "BLAS held" else nullcontext():
                    runs += alternate({name: call}, 1, n_calls, time.process_time)[name]
        path = f"predict_proba of {n_rows:,} x {N_NUMBERS} float64, the default ensemble"
        for_one = {1: 400.0, 10: None}.get(n_rows, 15.0)
        yield Row(
            path,
            "processor time of a row",
            tuple(1e6 * run / n_rows for run in seconds["as it is"]),
            "us",
            None if for_one is None else at_most(for_one),
            show_medians(seconds, list(seconds)),
        )
        yield Row(
            path,
            "processor time with BLAS held to a thread",
            paired_ratios(seconds["as it is"], seconds["BLAS held"]),
            "x",
            at_most(1.1),
        )


def predict_many_rows(repeats: int) -> Iterator[Row]:
    """Compare the time and the memory of `predict_proba` of many rows."""
    seconds = time_many(repeats)
    for name in (OURS, OURS_ENCODED):
        yield Row(
            PATH.format(N_ROWS, name),
            MLP,
            paired_ratios(seconds[MLP], seconds[name]),
            "x",
            at_least(2.0) if name == OURS else None,  # an embedding makes another network of it
            show_medians(seconds, [name, MLP]),
        )
    for name in (OURS, OURS_ENCODED, MLP):
        for n_rows in (N_ROWS, 2 * N_ROWS):
            yield Row(
                PATH.format(n_rows, name),
                "memory before the call",
                (in_fresh_process(memory_of_prediction, name, n_rows),),
                "MB",
                None if name == MLP else at_most(32.0),
                "peak of the resident set; the result is in it",
            )


def time_many(repeats: int) -> dict[str, list[float]]:
    """Return the seconds that each network takes for many rows, run by run."""
    X, _ = make_rows(N_ROWS, N_FEATURES)
    calls = {}
    for name in (OURS, OURS_ENCODED, MLP):
        model = fit_wide(name)
        calls[name] = lambda model=model: model.predict_proba(X)
        warm_up(calls[name])
    return alternate(calls, repeats)


def memory_of_prediction(name: str, n_rows: int) -> float:
    """Return the megabytes that a prediction takes at most, beside the rows."""
    model = fit_wide(name)
    X, _ = make_rows(n_rows, N_FEATURES)
    warm_up(lambda: model.predict_proba(X[:100]))  # what is loaded once is not the rows' doing
    return extra_memory(lambda: model.predict_proba(X))
