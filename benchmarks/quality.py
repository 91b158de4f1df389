"""Compare the predictions and the seconds of classifiers, each at its defaults, on real tables.

Every table of a folder is split several times into rows to train on and held-out rows, on which
each model is judged. A row of figures is appended to a CSV file as soon as it is there, and rows
that stand there already are not computed again: start the same command again to go on. A failed
model leaves a row with the error; delete it there to try again.

    python benchmarks/quality.py --data DIR [--tables a,b] [--models x,y] [--splits 3]
                                 [--max-rows 15000] [--threads 2] [--out quality.csv]
                                 [--skdnn-params JSON --label NAME] [--order tables|models]
    python benchmarks/quality.py --report quality.csv [more.csv] [--models x,y]
                                 [--json out.json] [--pictures DIR]

DIR holds files NAME.csv.gz: the last column is `target` (0 or 1), categories are strings, an empty
field is a missing value. Split k samples at most --max-rows rows with seed k, holds out 30% of them
with equal shares of both classes, and gives the model seed k.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
from quality_models import MODELS, OURS, Model
from quality_report import report
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

FIELDS = [
    "table",
    "split",
    "model",
    "log_loss",
    "brier",
    "auc",
    "accuracy",
    "ece",
    "fit_seconds",
    "predict_seconds",
    "n_train",
    "n_features",
    "threads",
    "package",
    "version",
    "warnings",
    "error",
]
MISSING = "not installed: "


def read_table(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table's columns (float64 numbers, categories) and its target.

    The levels of a category are those of the whole file, whichever rows are later sampled.
    """
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    if table.columns[-1] != "target" or not set(table["target"].unique()) == {0, 1}:
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
    numbers as can be; with n_b the rows of bin b,

        ECE = sum_b n_b / n * |mean of y in b - mean of p in b|

    (Naeini et al. 2015; bins of equal mass: Nguyen and O'Connor 2015). Rows with equal p share
    their mean y first, so that their order does not matter where a bin ends among them.
    """
    p, group = np.unique(probability, return_inverse=True)
    share = np.bincount(group, y) / np.bincount(group)
    order = np.argsort(group)
    distances = p[group[order]] - share[group[order]]
    bins = np.array_split(distances, n_bins)
    return float(sum(abs(b.sum()) for b in bins) / len(y))


def metrics(y: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Return all scores of predicted probabilities of class 1.

    They are taken to float64 first, so that the log-loss clips all models' probabilities alike:
    by scikit-learn's own rule, at float64's resolution.
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


def package_version(package: str) -> str:
    """Return the version of a package, installed or found on the path."""
    try:
        return version(package)
    except PackageNotFoundError:
        return getattr(sys.modules.get(package), "__version__", "unknown")


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Hold BLAS, OpenMP and PyTorch to a number of threads, and collect warnings unseen."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    with threadpool_limits(threads), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def run_model(model: Model, table, y, train, held_out, seed: int, threads: int) -> dict:
    """Fit a model and judge it; return its figures, or the error it raised."""
    row: dict = {"n_train": len(train), "n_features": table.shape[1], "threads": threads}
    row |= {"package": model.package, "version": "", "warnings": 0, "error": ""}
    X_train, X_held_out = (table.iloc[rows].reset_index(drop=True) for rows in (train, held_out))
    try:
        classifier = model.make(X_train, seed, threads)  # imports, before threads are limited
        row["version"] = package_version(model.package)
        with limited(threads) as caught:
            started = time.perf_counter()
            classifier.fit(X_train, y[train])
            fitted = time.perf_counter()
            probability = classifier.predict_proba(X_held_out)[:, 1]
            ended = time.perf_counter()
        row["warnings"] = len(caught)
        row |= metrics(y[held_out], probability)
        row |= {"fit_seconds": fitted - started, "predict_seconds": ended - fitted}
    except ImportError as error:
        row["error"] = f"{MISSING}{one_line(error)}"
    except Exception as error:  # whatever a model raises is a result
        row["error"] = f"{type(error).__name__}: {one_line(error)}"
    return row


def one_line(error: Exception) -> str:
    """Return an error's text on one line."""
    return " ".join(str(error).split())


class Results:
    """The CSV file of figures: which rows it has, and a way to append one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: set[tuple[str, str, str]] = set()
        self.missing: set[tuple[str, str, str]] = set()
        if not path.exists() or path.stat().st_size == 0:
            path.write_text(",".join(FIELDS) + "\n")
        text = path.read_text()
        reader = csv.DictReader(text.splitlines())
        if reader.fieldnames != FIELDS or not text.endswith("\n"):
            raise ValueError(
                f"{path}: expected the header {','.join(FIELDS)} and whole lines; got the header "
                f"{reader.fieldnames} and the last line {text.splitlines()[-1][:80]!r}. Name "
                "another file with --out, or remove a half-written last line."
            )
        for row in reader:
            is_missing = row["error"].startswith(MISSING)
            (self.missing if is_missing else self.done).add(self.key(row))

    @staticmethod
    def key(row: dict) -> tuple[str, str, str]:
        """Return what names a row."""
        return str(row["table"]), str(row["split"]), str(row["model"])

    def append(self, row: dict) -> None:
        """Write a row, unless it says once more that a package is missing."""
        if row["error"].startswith(MISSING):
            if self.key(row) in self.missing:
                return
            self.missing.add(self.key(row))
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS, restval="nan", lineterminator="\n").writerow(row)


def schedule(
    tables: list[str], n_splits: int, models: list[str], order: str
) -> list[tuple[str, int, str]]:
    """Return (table, split, model) in the order to run them.

    "tables" runs all models on a split before the next, so that the seconds which are compared
    were measured one soon after another; "models" runs all of a model before the next.
    """
    if order == "models":
        return [(t, k, m) for m in models for t in tables for k in range(n_splits)]
    return [(t, k, m) for t in tables for k in range(n_splits) for m in models]


def run(folder: Path, tasks: list[tuple[str, int, str]], models: dict[str, Model], options) -> None:
    """Run what the CSV file does not have yet, printing a line for each row."""
    results = Results(Path(options.out))
    reported: set[str] = set()
    loaded = None
    for table_name, split, model_name in tasks:
        row = {"table": table_name, "split": split, "model": model_name}
        if Results.key(row) in results.done:
            continue
        if loaded != table_name:
            table, y = read_table(folder / f"{table_name}.csv.gz")
            loaded = table_name
        train, held_out = split_rows(y, options.max_rows, split)
        model = models[model_name]
        row |= run_model(model, table, y, train, held_out, split, options.threads)
        results.append(row)
        if row["error"].startswith(MISSING) and model_name not in reported:
            reported.add(model_name)
            print(f"{model_name} left out: {row['error']}", file=sys.stderr)
        outcome = row["error"] or (
            f"log-loss {row['log_loss']:.4f}  AUC {row['auc']:.4f}  fit {row['fit_seconds']:.2f} s"
        )
        print(f"{table_name:28}{split:3}  {model_name:22}{outcome}", flush=True)


def chosen(names: str | None, known: list[str], what: str, parser) -> list[str]:
    """Return the names of a comma-separated list, or all that are known."""
    if names is None:
        return known
    picked = [name.strip() for name in names.split(",")]
    for name in picked:
        if name not in known:
            parser.error(f"--{what}: expected some of {', '.join(known)}; got {name!r}")
    return picked


def labelled(picked: list[str], options, parser) -> dict[str, Model]:
    """Return the picked models by their names in the CSV, ours with the parameters given."""
    ours = [name for name in picked if name in OURS]
    if options.skdnn_params and not options.label:
        parser.error("--skdnn-params: name this variant in the results with --label NAME")
    if options.label and len(ours) != 1:
        parser.error(f"--label names one of {', '.join(OURS)}: pick one with --models; got {ours}")
    if options.label in MODELS:
        parser.error(f"--label: {options.label!r} is a model's own name; give another")
    params = json.loads(options.skdnn_params) if options.skdnn_params else {}
    models = {}
    for name in picked:
        model = MODELS[name]
        if name in OURS and options.label:
            models[options.label] = replace(model, make=partial(model.make, **params))
        else:
            models[name] = model
    return models


def parse() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of tables NAME.csv.gz")
    parser.add_argument("--tables", help="comma-separated names, in the order to run them")
    parser.add_argument("--models", help=f"comma-separated, of {', '.join(MODELS)}")
    parser.add_argument("--splits", type=int, default=3, help="splits of each table")
    parser.add_argument("--max-rows", type=int, default=15000, help="rows sampled of each table")
    parser.add_argument("--threads", type=int, default=2, help="threads of each library")
    parser.add_argument("--out", default="quality.csv", help="CSV file to append to")
    parser.add_argument("--order", choices=("tables", "models"), default="tables")
    parser.add_argument("--skdnn-params", help="JSON of constructor parameters of our classifier")
    parser.add_argument("--label", help="name of our classifier with these parameters in the CSV")
    parser.add_argument("--report", nargs="+", type=Path, help="CSV files to summarize")
    parser.add_argument("--json", type=Path, help="file to write the summary to, with --report")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures, with --report")
    return parser, parser.parse_args()


def main() -> None:
    """Run the models, or summarize what they did."""
    parser, options = parse()
    if options.report:
        picked = [name.strip() for name in options.models.split(",")] if options.models else None
        print(report(options.report, picked, options.json, options.pictures))
        return
    if options.data is None:
        parser.error("give --data DIR to run the models, or --report FILE to summarize their rows")
    known = sorted(path.name.removesuffix(".csv.gz") for path in options.data.glob("*.csv.gz"))
    if not known:
        parser.error(f"--data: expected files NAME.csv.gz in {options.data}; found none")
    tables = chosen(options.tables, known, "tables", parser)
    models = labelled(chosen(options.models, list(MODELS), "models", parser), options, parser)
    # for what is loaded later; what is loaded already is limited around each fit
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    tasks = schedule(tables, options.splits, list(models), options.order)
    run(options.data, tasks, models, options)


if __name__ == "__main__":
    main()
