"""Time predictions against MLPClassifier, the memory that many rows take, and importing.

And what a row of the default takes, by how many there are, in time of the processor: of all
threads, whether they compute or wait.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from measure import (
    Row,
    alternate,
    compare_times,
    extra_memory,
    in_fresh_process,
    limited,
    make_rows,
    show_medians,
    warm_up,
)
from sklearn.neural_network import MLPClassifier

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
    seconds = alternate(calls, repeats, N_SINGLE_CALLS)
    for name in list(calls)[:2]:
        yield compare_times(
            f"predict_proba of one row of 10 features, {name}",
            f"{MLP}'s time, hidden (100,)",
            seconds,
            name,
            MLP,
            most=0.5 if models[name] is single else None,
        )


def predict_by_rows(repeats: int) -> Iterator[Row]:
    """Show what a row takes, by the number of rows, and what leaving BLAS its threads costs."""
    X, y = make_rows(N_PREDICTED[-1], N_NUMBERS)
    X = X.astype(np.float64)
    model = DeepBinaryClassifier(max_iter=2).fit(X[:N_TRAIN], y[:N_TRAIN])
    for n_rows in N_PREDICTED:
        n_calls = max(1, N_CALLED // n_rows)

        def predict(n_rows=n_rows, n_calls=n_calls) -> None:
            for _ in range(n_calls):
                model.predict_proba(X[:n_rows])

        def predict_held(predict=predict) -> None:
            with limited(1):
                predict()

        calls = {"as it is": predict, "BLAS held": predict_held}
        seconds = alternate(calls, repeats, clock=time.process_time)
        path = f"predict_proba of {n_rows:,} x {N_NUMBERS} float64, the default ensemble"
        a_row = tuple(1e6 * run / n_calls / n_rows for run in seconds["as it is"])
        most = {1: 400.0, 10: None}.get(n_rows, 8.0)
        yield Row(path, "processor time of a row", a_row, "us", most=most)
        against = "processor time with BLAS held to a thread"
        yield compare_times(path, against, seconds, "as it is", "BLAS held", most=1.1)


def predict_many_rows(repeats: int) -> Iterator[Row]:
    """Compare the time and the memory of `predict_proba` of many rows."""
    X, _ = make_rows(N_ROWS, N_FEATURES)
    models = {name: fit_wide(name) for name in (OURS, OURS_ENCODED, MLP)}
    calls = {name: lambda model=model: model.predict_proba(X) for name, model in models.items()}
    seconds = alternate(calls, repeats)
    for name in (OURS, OURS_ENCODED):
        least = 2.0 if name == OURS else None  # an embedding makes another network of it
        yield compare_times(PATH.format(N_ROWS, name), MLP, seconds, MLP, name, least=least)
    for name in models:
        for n_rows in (N_ROWS, 2 * N_ROWS):
            yield Row(
                PATH.format(n_rows, name),
                "memory before the call",
                (in_fresh_process(memory_of_prediction, name, n_rows),),
                "MB",
                most=None if name == MLP else 32.0,
                details="peak of the resident set; the result is in it",
            )


def memory_of_prediction(name: str, n_rows: int) -> float:
    """Return the megabytes that a prediction takes at most, beside the rows."""
    model = fit_wide(name)
    X, _ = make_rows(n_rows, N_FEATURES)
    warm_up(lambda: model.predict_proba(X[:100]))  # what is loaded once is not the rows' doing
    return extra_memory(lambda: model.predict_proba(X))


# ---- importing

THEIRS = "sklearn.neural_network"
SCRIPT = """
import sys
from importlib import import_module
from time import perf_counter
for module in sys.argv[1:]:
    started = perf_counter()
    import_module(module)
    print(perf_counter() - started)
"""


def import_rows(repeats: int) -> Iterator[Row]:
    """Import scikit-learn's network and then ours: what ours adds. The first run fills caches.

    The difference of two interpreters would be the same, but for the noise of a second of imports.
    They may keep their bytecode, as they do wherever a package is installed.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", SCRIPT, THEIRS, "skdnn"]
    seconds: dict[str, list[float]] = {THEIRS: [], "skdnn": []}
    for number in range(repeats + 1):
        run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        for runs, line in zip(seconds.values(), run.stdout.split(), strict=True):
            runs += [float(line)] if number else []
    yield Row(
        "import skdnn",
        f"import {THEIRS}",
        tuple(1e3 * run for run in seconds["skdnn"]),
        "ms",
        most=30.0,
        details=show_medians(seconds, seconds),
    )
