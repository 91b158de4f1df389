"""Compare the predictions and the seconds of classifiers on real tables.

Every table of a folder is split several times into rows to train on and held-out rows, on which
each model is judged. Rows of figures are appended to a CSV file, and those that stand there are not
computed again: the same command goes on. A failed model leaves its error; delete it to try again.

    python benchmarks/quality.py --data DIR [--tables NAME ...] [--models NAME ...] [--splits 3]
                                 [--max-rows 15000] [--threads 2] [--draws 50] [--seconds-of NAME]
                                 [--out quality.csv] [--skdnn-params JSON --label NAME]
    python benchmarks/quality.py --report CSV [CSV ...] [--models NAME ...] [--by-table CSV]

DIR holds files NAME.csv.gz, as `make_tables.py` writes them: the last column is `target` (0 or 1),
categories are strings, an empty field is a missing value. Split k samples at most --max-rows rows
with seed k, holds out 30% of them with equal shares of both classes, and gives the model seed k.
Tuned models, of names that end in "-tuned", are chosen on folds of the training rows among their
defaults and --draws draws of the space in `quality_models.py`, or those of the draws done in the
seconds (of the process) that --seconds-of took. They and those that end in "CV" run when named.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from quality_models import MODELS, Model
from report import report
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

KEY = ["table", "split", "model"]
SCORES = ["log_loss", "brier", "auc", "accuracy", "ece", "fit_seconds", "predict_seconds"]
FACTS = ["process_seconds", "n_train", "n_features", "threads"]
FACTS += ["package", "version", "warnings", "error"]
FIELDS = [*KEY, *SCORES, *FACTS]


def read_table(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table's columns (float64 numbers, categories) and its target.

    The levels of a category are those of the whole file, whichever rows are later sampled.
    """
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    if table.columns[-1] != "target" or set(table["target"].unique()) != {0, 1}:
        raise ValueError(
            f"{path}: expected a last column `target` holding 0 and 1; got the last column "
            f"{table.columns[-1]!r} holding {sorted(table.iloc[:, -1].unique().tolist())[:5]}"
        )
    y = table.pop("target").to_numpy(np.int64)
    for name in table:
        is_number = pd.api.types.is_numeric_dtype(table[name]) and table[name].dtype != bool
        table[name] = table[name].astype("float64" if is_number else "category")
    return table, y


def split_rows(y: np.ndarray, max_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers to train on, and those held out: 30% of at most `max_rows` rows."""
    rows = np.arange(len(y))
    if len(y) > max_rows:
        rows = np.random.default_rng(seed).choice(len(y), max_rows, replace=False)
    train, held_out = train_test_split(rows, test_size=0.3, stratify=y[rows], random_state=seed)
    return train, held_out


def expected_calibration_error(y: np.ndarray, probability: np.ndarray, n_bins: int = 15) -> float:
    """Return the mean distance between predicted and observed frequencies, in bins of equal mass.

    The rows, in order of their predicted probability p, are cut into `n_bins` bins of as equal
    numbers as can be; with n_b the rows of bin b (Naeini et al. 2015, Nguyen and O'Connor 2015)

        ECE = sum_b n_b / n * |mean of y in b - mean of p in b|

    Rows with equal p share their mean y first: their order does not matter where a bin ends.
    """
    p, group = np.unique(probability, return_inverse=True)
    share = np.bincount(group, y) / np.bincount(group)
    order = np.argsort(group)
    distances = p[group[order]] - share[group[order]]
    return float(sum(abs(b.sum()) for b in np.array_split(distances, n_bins)) / len(y))


def score(y: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Return all scores of predicted probabilities of class 1.

    They are taken to float64 first, so that the log-loss clips all models' probabilities alike.
    """
    p = np.asarray(probability, np.float64)
    if not (np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1):
        raise ValueError("expected probabilities between 0 and 1; the model returned others")
    return {
        "log_loss": log_loss(y, p),
        "brier": brier_score_loss(y, p),
        "auc": roc_auc_score(y, p),
        "accuracy": accuracy_score(y, p > 0.5),
        "ece": expected_calibration_error(y, p),
    }


def run_model(model: Model, table, y, train, held_out, seed: int, threads: int) -> dict:
    """Fit a model and judge it; return its figures, or the error it raised."""
    row: dict = {"n_train": len(train), "n_features": table.shape[1], "threads": threads}
    X_train, X_held_out = (table.iloc[rows].reset_index(drop=True) for rows in (train, held_out))
    classifier = model.make(X_train, seed, threads)  # imports, before threads are limited
    row["package"] = model.package
    with suppress(PackageNotFoundError):  # where it is not installed, but on the path
        row["version"] = version(model.package)
    try:
        with threadpool_limits(threads), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            started, process_started = time.perf_counter(), time.process_time()
            classifier.fit(X_train, y[train])
            row["process_seconds"] = time.process_time() - process_started
            fitted = time.perf_counter()
            probability = classifier.predict_proba(X_held_out)[:, 1]
            ended = time.perf_counter()
        row |= {"warnings": len(caught), **score(y[held_out], probability)}
        row |= {"fit_seconds": fitted - started, "predict_seconds": ended - fitted}
    except Exception as error:  # whatever a model raises is a result
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return row


def run(models: dict[str, Model], options: argparse.Namespace) -> None:
    """Run what the CSV file does not have yet, printing a line for each row.

    All models run on a split before the next, so that seconds which are compared were measured one
    soon after another. A model whose package is missing is left out, and named.
    """
    for name, model in list(models.items()):
        if find_spec(model.path.partition(".")[0]) is None:
            print(f"{name} left out: {models.pop(name).package} is not installed", flush=True)
    if not options.out.exists():
        options.out.write_text(",".join(FIELDS) + "\n")
    written = pd.read_csv(options.out)
    if list(written) != FIELDS:
        raise SystemExit(f"{options.out}: expected the columns {FIELDS}; name another --out")
    done = written.set_index(KEY)["process_seconds"].to_dict()
    for table_name in options.tables:
        table, y = read_table(options.data / f"{table_name}.csv.gz")
        for split, name in product(range(options.splits), models):
            if (table_name, split, name) in done:
                continue
            model = models[name]
            if model.space and options.seconds_of:
                model = model._replace(max_seconds=done[table_name, split, options.seconds_of])
            rows = split_rows(y, options.max_rows, split)
            row = run_model(model, table, y, *rows, split, options.threads)
            row |= dict(zip(KEY, (table_name, split, name), strict=True))
            done[table_name, split, name] = row.get("process_seconds", np.inf)
            line = pd.DataFrame([row]).reindex(columns=FIELDS)
            line.to_csv(options.out, mode="a", header=False, index=False)
            text = "log-loss {log_loss:.4f}  AUC {auc:.4f}  fit {fit_seconds:.2f} s"
            outcome = row.get("error") or text.format(**row)
            print(f"{table_name:28}{split:3}  {name:22}{outcome}", flush=True)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    untuned = [name for name, model in MODELS.items() if model.space is None]
    parser.add_argument("--data", type=Path, help="folder of tables NAME.csv.gz")
    parser.add_argument("--tables", nargs="+", help="names, in the order to run them")
    parser.add_argument("--models", nargs="+", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--splits", type=int, default=3, help="splits of each table")
    parser.add_argument("--max-rows", type=int, default=15000, help="rows sampled of each table")
    parser.add_argument("--threads", type=int, default=2, help="threads of each library")
    parser.add_argument("--draws", type=int, default=50, help="draws of a tuned model")
    parser.add_argument("--seconds-of", help="model whose seconds tuned models get; name it first")
    parser.add_argument("--out", type=Path, default="quality.csv", help="CSV file to append to")
    parser.add_argument("--skdnn-params", type=json.loads, help="JSON of parameters of our model")
    parser.add_argument("--label", help="name in the CSV of a single model with these parameters")
    parser.add_argument("--report", nargs="+", type=Path, help="CSV files to summarize")
    parser.add_argument("--by-table", type=Path, help="CSV file for the report's scores by table")
    options = parser.parse_args()
    if options.report:
        return options
    if options.data is None:
        parser.error("give --data DIR to run the models, or --report FILE to summarize their rows")
    known = sorted(path.name.removesuffix(".csv.gz") for path in options.data.glob("*.csv.gz"))
    options.tables, options.models = options.tables or known, options.models or untuned
    for option, names in ("tables", known), ("models", MODELS):
        if unknown := set(getattr(options, option)) - set(names):
            parser.error(f"--{option}: expected some of {', '.join(names)}; got {unknown}")
    if (options.skdnn_params or options.label) and not (options.label and len(options.models) == 1):
        parser.error("--skdnn-params: pick one model by --models, and name it by --label")
    return options


def main() -> None:
    """Run the models, or summarize what they did."""
    options = parse()
    if options.report:
        print(report(options.report, options.models, options.by_table))
        return
    models = {name: MODELS[name]._replace(n_draws=options.draws) for name in options.models}
    if options.label:
        [model] = models.values()
        models = {options.label: model._replace(params=options.skdnn_params or {})}
    # for what is loaded later; what is loaded already is limited around each fit
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    run(models, options)


if __name__ == "__main__":
    main()
