"""Time fits: threads, memory and fixed costs, and peers at their defaults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from statistics import median
from typing import Any

import numpy as np
from joblib import cpu_count
from measure import (
    MEGABYTE,
    Row,
    alternate,
    compare_times,
    extra_memory,
    in_fresh_process,
    limited,
    make_rows,
    show_medians,
    show_time,
)
from speed_steps import OURS, PRODUCTS, make_products

from skdnn import DeepBinaryClassifier

ENDLESS = {"learning_rate": "constant", "n_iter_no_change": float("inf"), "random_state": 0}


def fits_of(models: dict[str, Any], X, y) -> dict:
    """Return what fits each model."""
    return {name: lambda model=model: model.fit(X, y) for name, model in models.items()}


def thread_rows(repeats: int) -> Iterator[Row]:
    """Compare a fit of the default ensemble by two threads with one by a single thread."""
    path = "fit of the default ensemble, 8,000 x 20, 2 threads"
    if cpu_count() < 2:
        yield Row(path, "1 thread", least=1.7, missing="there is one processor")
        return
    X, y = make_rows(8_000, 20)
    models = {f"{n} threads": DeepBinaryClassifier(n_jobs=n, random_state=0) for n in (1, 2)}
    seconds = alternate(fits_of(models, X, y), repeats)
    yield compare_times(path, "1 thread", seconds, "1 threads", "2 threads", least=1.7)


# ---- memory, epochs of growing tables, and what a fit costs beside its epochs

N_EPOCHS = {10_000: 10, 100_000: 4, 1_000_000: 2}
FEWEST, MOST = min(N_EPOCHS), max(N_EPOCHS)


def fit_rows(repeats: int) -> Iterator[Row]:
    """Measure the default ensemble and a single network on large tables, and the fixed cost."""
    for name, params in {"the default": {}, "n_members=1": {"n_members": 1}}.items():
        yield from rows_of_fit(name, in_fresh_process(measure_fit, params))
    yield fixed_cost_row(repeats)


def measure_fit(params: dict[str, Any]) -> dict[str, Any]:
    """Fit tables of growing size, few epochs of each, and the largest with an eye on the memory.

    The smallest is fitted again at the end, so that a machine that grows slower meanwhile does not
    look like a fit that does.
    """
    X, y = make_rows(MOST, 20)
    model = DeepBinaryClassifier(batch_size=512, **ENDLESS, **params)
    seconds: dict[int, list[float]] = {n_rows: [] for n_rows in N_EPOCHS}

    def fit(n_rows: int) -> None:
        model.set_params(max_iter=N_EPOCHS[n_rows]).fit(X[:n_rows], y[:n_rows])
        seconds[n_rows] += model.history_["seconds"]

    # long enough that numba is loaded, which short fits do without and takes memory once
    model.set_params(max_iter=10).fit(X[:100_000], y[:100_000])
    fit(FEWEST)
    memory = extra_memory(lambda: fit(MOST))
    n_columns = len(model.encoder_.get_feature_names_out())
    for n_rows in sorted(N_EPOCHS, reverse=True)[1:]:
        fit(n_rows)
    encoded = MOST * n_columns * model.params_.itemsize / MEGABYTE
    return {"memory": memory, "encoded": encoded, "seconds": seconds}


def rows_of_fit(name: str, measured: dict[str, Any]) -> Iterator[Row]:
    """Compare the memory with the encoded table, and epochs of many rows with those of few."""
    yield Row(
        f"fit on {MOST:,} x 20 float32, {name}: peak extra memory",
        "the encoded table",
        (measured["memory"] - measured["encoded"],),
        "MB",
        most=64.0,
        details="{memory:.0f} MB beside X and y, table {encoded:.0f} MB".format(**measured),
    )
    seconds = measured["seconds"]
    smallest = median(seconds[FEWEST])
    for n_rows in sorted(seconds)[1:]:
        details = [f"{n:,} rows {show_time(median(seconds[n]))}" for n in (FEWEST, n_rows)]
        yield Row(
            f"time of an epoch by row, {n_rows:,} x 20, batch 512, {name}",
            f"{FEWEST:,} rows",
            tuple(s / smallest * FEWEST / n_rows for s in seconds[n_rows]),
            most=1.15,
            details=", ".join(details),
        )


def fixed_cost_row(repeats: int) -> Row:
    """Compare what a fit does before and after its epochs with an epoch, by fits of one and three.

    A fit of k epochs takes F + k E seconds: F follows from two values of k.
    """
    X, y = make_rows(20_000, 100)
    settings = {"encoder": None, "n_members": 1, "early_stopping": False, "batch_size": 1024}
    models = {
        f"{k} epochs": DeepBinaryClassifier((512, 512), max_iter=k, **settings, **ENDLESS)
        for k in (1, 3)
    }
    with limited(1):
        seconds = alternate(fits_of(models, X, y), repeats)
    return Row(
        "fit on 20,000 x 100, hidden (512, 512): all beside its epochs, 1 thread",
        "an epoch",
        tuple(one / ((three - one) / 2) - 1 for one, three in zip(*seconds.values(), strict=True)),
        "%",
        most=0.1,
        details=show_medians(seconds, seconds),
    )


# ---- the default beside peers at their defaults, on one thread

PEERS = ("CatBoost", "LightGBM", "MLPClassifier")
N_NEW, BLOCK = 10_000, 512


def make_table(n_rows: int, *, is_mixed: bool = False):
    """Return a table and its labels: 20 numbers, or 10 of them, some missing, and 10 categories."""
    import pandas as pd

    X, y = make_rows(n_rows, 20)
    table = pd.DataFrame(X, columns=[f"x{j}" for j in range(20)])
    for j in range(10, 20) if is_mixed else ():
        levels = np.round(X[:, j] * 1.5 ** (j - 10))  # about 6 to 200 of them
        table[f"x{j}"] = pd.Categorical(levels.astype(int).astype(str))
        table.loc[X[:, j] > 1.6, f"x{j - 10}"] = np.nan
    return table, y


def default_rows(repeats: int) -> Iterator[Row]:
    """Compare a default fit and the prediction of 10,000 rows with peers', and with its products.

    The share of the products is what those of the linear layers would take alone: those of the
    embedding are left out. It is that of a fit of as many epochs for all members.
    """
    for n_rows in (2_000, 10_000, 50_000):
        yield from rows_of_default(f"{n_rows:,} x 20 numbers", n_rows, False, repeats)
    yield from rows_of_default("10,000 x 10 numbers, 10 categories", 10_000, True, repeats)


def rows_of_default(name: str, n_rows: int, is_mixed: bool, repeats: int) -> Iterator[Row]:
    """Measure one table."""
    from quality_models import MODELS

    (table, y), (new, _) = (make_table(n, is_mixed=is_mixed) for n in (n_rows, N_NEW))
    models = {}
    for peer in (OURS, *PEERS):
        with suppress(ImportError):
            models[peer] = MODELS[peer].make(table, 0, 1)
    predictions = {p: lambda m=model: m.predict_proba(new) for p, model in models.items()}
    with limited(1):
        models[OURS].fit(table, y)  # loads what is loaded once
        fit_seconds = alternate(fits_of(models, table, y), repeats, is_warm=True)
        predict_seconds = alternate(predictions, 3 * repeats)
        shares = measure_products(models[OURS], table, y, new, repeats)
    path = f"predict_proba of {N_NEW:,} rows, fit of {name}"
    whole = {f"default fit, {name}": fit_seconds, path: predict_seconds}
    for (path, seconds), share in zip(whole.items(), shares, strict=True):
        for peer in PEERS:
            if peer in seconds:
                yield compare_times(f"{path}, 1 thread", peer, seconds, peer, OURS)
            else:
                yield Row(f"{path}, 1 thread", peer, missing=f"{peer} is not installed")
        yield Row(f"{path}, 1 thread", PRODUCTS, share, "%")


def measure_products(model, table, y, new, repeats: int) -> list[tuple[float, ...]]:
    """Return the shares of a fitted ensemble's products, in fit and prediction.

    Each member trains on all rows but its fold, and predicts that after each epoch.
    """
    n_members, *sizes = model.coefs_[0].shape[:2]
    sizes += [W.shape[-1] for W in model.coefs_]
    n_epochs, batch_size = model.n_iter_, model.resolved_params_["batch_size"]
    n_held_out = len(table) // n_members
    step = make_products(sizes, batch_size, is_input_trained=True)
    forward = make_products(sizes, BLOCK, has_backward=False)

    def products_of_epoch() -> None:
        for _ in range(round((len(table) - n_held_out) / batch_size)):
            step()
        for _ in range(round(n_held_out / BLOCK)):
            forward()

    def products_of_prediction() -> None:
        for _ in range(round(len(new) / BLOCK)):
            forward()

    same = DeepBinaryClassifier(max_iter=n_epochs, **ENDLESS)
    fit = {"all": lambda: same.fit(table, y), "products": products_of_epoch}
    prediction = {"all": lambda: model.predict_proba(new), "products": products_of_prediction}
    return [
        tuple(n * part / whole for whole, part in zip(*seconds.values(), strict=True))
        for n, seconds in (
            (n_members * n_epochs, alternate(fit, repeats, is_warm=True)),
            (n_members, alternate(prediction, 3 * repeats)),
        )
    ]
