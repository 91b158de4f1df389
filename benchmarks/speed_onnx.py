"""Predict in onnxruntime: how fast beside peers in their own files, and how near to ourselves.

Peers predict from the files that they write themselves, LightGBM's text and CatBoost's cbm: neither
writes a table with categories as ONNX. All run on one thread; times are those of the processor.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from measure import Call, Row, alternate, compare_times
from quality import read_table, split_rows
from quality_models import MODELS
from speed_peers import N_NEW, make_table
from threadpoolctl import threadpool_limits

from skdnn import DeepBinaryClassifier

OURS, ONNX = "skdnn", "skdnn in onnxruntime"
NEEDED = ("onnx", "onnxruntime", "lightgbm", "catboost")
N_ROWS = 5_000
"""Rows of a table, at most, to compare predictions on."""


def open_session(model: DeepBinaryClassifier) -> Any:
    """Return a session of onnxruntime, on one thread."""
    from onnxruntime import InferenceSession, SessionOptions

    from skdnn.onnx import to_onnx

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return InferenceSession(to_onnx(model).SerializeToString(), options)


def onnx_rows(folder: Path | None, repeats: int) -> Iterator[Row]:
    """Compare times on two tables, and probabilities on all tables of a folder."""
    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking:
        yield Row(ONNX, "time", missing=f"{' and '.join(lacking)} are not installed")
        return
    for name, is_mixed in (("20 numbers", False), ("10 numbers, 10 categories", True)):
        (X, y), (new, _) = (make_table(n, is_mixed=is_mixed) for n in (2_000, N_NEW))
        yield from compare_speed(name, X, y, new, repeats)
    for path in sorted(folder.glob("*.csv.gz")) if folder else ():
        yield compare_probabilities(path)


def compare_speed(name: str, X, y, new: pd.DataFrame, repeats: int) -> Iterator[Row]:
    """Time predictions of one row and of many."""
    from skdnn.onnx import make_inputs

    model = DeepBinaryClassifier(max_iter=2, random_state=0).fit(X, y)
    session = open_session(model)
    with TemporaryDirectory() as place:
        peers = fit_peers(X, y, Path(place))
    for n_rows, n_calls, most in ((1, 200, 0.5), (N_NEW, 1, None)):
        rows = new.iloc[:n_rows]
        inputs = make_inputs(session, rows)
        calls: dict[str, Call] = {
            OURS: lambda rows=rows: model.predict_proba(rows),
            ONNX: lambda inputs=inputs: session.run(None, inputs),
        }
        calls |= {peer: lambda p=predict, rows=rows: p(rows) for peer, predict in peers.items()}
        with threadpool_limits(1):
            seconds = alternate(calls, repeats, n_calls, time.process_time)
        path = f"{ONNX}, {len(rows):,} rows of {name}, 1 thread"
        yield Row(path, "time", tuple(1e3 * run for run in seconds[ONNX]), "ms", most=most)
        for other in seconds.keys() - {ONNX}:
            yield compare_times(path, other, seconds, other, ONNX)


def fit_peers(X: pd.DataFrame, y, folder: Path) -> dict[str, Callable]:
    """Return what predicts a table, from the files of peers at their defaults."""
    import catboost
    import lightgbm

    lightgbm_model, (prepare, trees) = (
        MODELS[name].make(X, 0, 1).fit(X, y) for name in ("LightGBM", "CatBoost")
    )
    lightgbm_model.booster_.save_model(folder / "lightgbm.txt")
    booster = lightgbm.Booster(model_file=folder / "lightgbm.txt")
    trees.save_model(folder / "catboost.cbm")
    loaded = catboost.CatBoostClassifier().load_model(folder / "catboost.cbm")
    return {
        "LightGBM": lambda rows: booster.predict(rows, num_threads=1),
        "CatBoost": lambda rows: loaded.predict_proba(prepare.transform(rows), thread_count=1),
    }


def compare_probabilities(path: Path) -> Row:
    """Say how far probabilities are apart, on rows of a table, and on some that are spoilt."""
    from skdnn.onnx import make_inputs

    X, y = read_table(path)
    huge = np.where(np.arange(len(X)) % 3, 1e300, -1e300) * (1.0 + y)
    X = pd.concat([X, pd.DataFrame({"all_missing": np.nan, "huge": huge})], axis=1)
    train, held_out = split_rows(y, N_ROWS, seed=0)
    warnings.simplefilter("ignore", UserWarning)  # about the column without values
    model = DeepBinaryClassifier(max_iter=5, random_state=0).fit(X.iloc[train], y[train])
    session = open_session(model)
    differences = []
    for rows in (*spoil(X.iloc[held_out]), X.iloc[held_out[:50]]):
        label, probabilities = session.run(None, make_inputs(session, rows))
        expected = model.predict_proba(rows)
        differences.append(np.abs(probabilities - expected).max())
        near = np.abs(expected[:, 1] - 0.5) < 1e-5
        if not (near | (label == model.predict(rows))).all():
            return Row(path.name, "labels", missing="failed: other labels")
    name = f"probabilities in onnxruntime, {path.name.partition('.')[0]}"
    largest = 1e6 * max(differences)
    return Row(name, "predict_proba", (largest,), "millionths", most=10.0)


def spoil(X: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the rows, these with unknown levels, and with missing values in every column."""
    yield X
    rng, other = np.random.default_rng(0), X.copy()
    for name in X.select_dtypes("category"):
        values = X[name].astype(object)
        other[name] = values.where(rng.random(len(X)) < 0.5, "some other level")
    yield other
    yield other.mask(rng.random(X.shape) < 0.3)
