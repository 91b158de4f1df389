"""Summarize the rows of `quality.py`: a table in Markdown, and scores by table as CSV.

Models are compared on the splits that all of them have, and a table is one unit. Ranks are taken
within each split, ties sharing the mean of theirs, and averaged over the splits and then over the
tables; TabArena takes its ranks so, by 1-AUC where there are two classes (N. Erickson et al., 2025,
arXiv:2506.16791). Ratios are between means over the splits: their geometric mean over the tables,
with the standard error of the mean of their logarithms.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from measure import markdown

# 1 - AUC is 0 where every pair of rows is in order; one wrong pair in 10,000 bounds its ratios.
SMALLEST_AUC_GAP = 1e-4
SCORES = {"log-loss": "log_loss", "Brier": "brier", "1-AUC": "gap"}
ORACLES = ("best peer", "best of all")


def read_rows(paths: list[Path]) -> pd.DataFrame:
    """Return the rows of CSV files; of two rows for one split of one model, the later one."""
    rows = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    rows = rows.drop_duplicates(["table", "split", "model"], keep="last")
    if (rows.groupby(["table", "split"])["n_train"].nunique() > 1).any():
        raise ValueError(
            "expected all models to be trained on the same rows of a split; run them with one "
            "--max-rows, into one file for each value"
        )
    return rows.assign(gap=(1 - rows["auc"]).clip(lower=SMALLEST_AUC_GAP))


def select(rows: pd.DataFrame, picked: list[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the models to compare, on splits that all of them have, and notes."""
    is_good = rows["error"].isna()
    failed = rows[~is_good].groupby(["model", "error"])["table"].agg(["size", "unique"])
    notes = [
        f"{model} failed {n} times, on {', '.join(tables)}: {error}"
        for (model, error), n, tables in failed.itertuples()
    ]
    picked = picked or list(rows["model"].unique())
    good = rows[is_good & rows["model"].isin(picked)]
    is_shared = good.groupby(["table", "split"])["model"].transform("size") == len(picked)
    if len(picked) < 2 or not is_shared.any():
        counts = good["model"].value_counts().to_dict()
        raise ValueError(f"expected two or more models that have splits in common; got {counts}")
    n_lost = good[~is_shared].groupby(["table", "split"]).ngroups
    notes += [f"{n_lost} splits left out, which some model lacks"] if n_lost else []
    return good[is_shared], notes


def mean_scores(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a column's mean over the splits, of shape (n_tables, n_models)."""
    return rows.pivot_table(index="table", columns="model", values=column)


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the figures of each model, as text, best mean rank by log-loss first.

    `wins` counts the tables where no model has a smaller log-loss.
    """
    columns: dict[str, pd.Series] = {}
    ranks = rows.groupby(["table", "split"])[list(SCORES.values())].rank()
    by_table = pd.concat([rows[["table", "model"]], ranks], axis=1).groupby(["model", "table"])
    mean_ranks = by_table.mean().groupby("model").mean().sort_values("log_loss", kind="stable")
    for title, column in SCORES.items():
        columns[f"rank {title}"] = mean_ranks[column].map("{:.2f}".format)
    models = rows.groupby("model")
    peers = sorted(set(rows.loc[rows["package"] != "skdnn", "model"])) or list(mean_ranks.index)
    for title in ("log-loss", "1-AUC"):
        scores = mean_scores(rows, SCORES[title])
        best = scores[peers].min(axis=1), scores.min(axis=1)  # of each table, after the fact
        scores = scores.assign(**dict(zip(ORACLES, best, strict=True)))
        for reference in ("CatBoost", "best peer"):
            if reference in scores:
                logs = np.log(scores.div(scores[reference], axis=0))
                pairs = zip(np.exp(logs.mean()), logs.sem().fillna(0.0), strict=True)
                texts = [f"{ratio:.3f} ± {error:.3f}" for ratio, error in pairs]
                columns[f"{title} / {reference}"] = pd.Series(texts, scores.columns)
    columns["ECE"] = mean_scores(rows, "ece").mean().map("{:.4f}".format)
    columns["fit s"] = models["fit_seconds"].sum().map("{:.1f}".format)
    columns["predict s"] = models["predict_seconds"].sum().map("{:.1f}".format)
    losses = mean_scores(rows, "log_loss")
    columns["wins"] = losses.eq(losses.min(axis=1), axis=0).sum().astype(str)
    return pd.DataFrame(columns).reindex([*mean_ranks.index, *ORACLES]).fillna("")


def describe(rows: pd.DataFrame, notes: list[str]) -> str:
    """Say what was compared, with which versions and how many threads."""
    versions = rows["package"] + " " + rows["version"].fillna("").astype(str)
    warned = rows.groupby("model")["warnings"].sum()
    threads = " and ".join(map(str, rows["threads"].unique()))
    n_tables, n_splits = rows["table"].nunique(), rows.groupby(["table", "split"]).ngroups
    lines = [
        f"{n_tables} tables, {n_splits} splits; threads: {threads}; {', '.join(set(versions))}.",
        f"Warnings, not shown: {', '.join(f'{m} {n:.0f}' for m, n in warned.items() if n) or 0}.",
    ]
    return "\n".join([*lines, *(f"{note}." for note in notes)])


def report(paths: list[Path], picked: list[str] | None, by_table: Path | None) -> str:
    """Return the summary of CSV files as Markdown, and write the means of each table."""
    rows, notes = select(read_rows(paths), picked)
    if by_table is not None:
        means = rows.groupby(["table", "model"])[["log_loss", "brier", "auc", "fit_seconds"]].mean()
        means.round(5).to_csv(by_table)
    summary = summarize(rows)
    lines = [[str(model), *row] for model, *row in summary.itertuples(name=None)]
    return f"{describe(rows, notes)}\n\n{markdown(['model', *summary], lines)}"
