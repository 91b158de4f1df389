"""Summarize the rows of `quality.py`: tables in Markdown.

Models are compared on the splits that all of them have, and a table is one unit: its scores are
means over its splits, and ranks, ratios and wins are taken between those means.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from measure import markdown
from scipy.stats import studentized_range

REFERENCES = ("CatBoost", "MLPClassifier")
# A model with a smaller share of the fullest model's splits is left out unless it is asked for:
# all models would be compared on its splits alone.
SMALLEST_SHARE = 0.9
# 1 - AUC is 0 where every pair of rows is in order; one wrong pair in 10,000 bounds its ratios.
SMALLEST_AUC_GAP = 1e-4


def read_rows(paths: list[Path]) -> pd.DataFrame:
    """Return the rows of CSV files; of two rows for one split of one model, the later one."""
    rows = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    rows = rows.drop_duplicates(["table", "split", "model"], keep="last")
    n_train = rows.groupby(["table", "split"])["n_train"].nunique()
    if (n_train > 1).any():
        raise ValueError(
            f"{', '.join(f'{t} {k}' for t, k in n_train[n_train > 1].index)}: expected all models "
            "to be trained on the same rows of a split. Run them with one --max-rows, into one "
            "file for each value."
        )
    return rows


def select(rows: pd.DataFrame, picked: list[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the models to compare, on splits that all of them have, and notes."""
    is_good = rows["error"].isna()
    failed = rows[~is_good].groupby(["model", "error"])["table"].agg(["size", "unique"])
    notes = [
        f"{model} failed {n} times, on {', '.join(tables)}: {error}"
        for (model, error), n, tables in failed.itertuples()
    ]
    good = rows[is_good]
    counts = good["model"].value_counts(sort=False)
    if picked is None:
        picked = list(counts[counts >= SMALLEST_SHARE * counts.max()].index)
        left_out = [model for model in rows["model"].unique() if model not in picked]
        notes += [f"{m} left out for gaps: {counts.get(m, 0)} splits" for m in left_out]
    good = good[good["model"].isin(picked)]
    is_shared = good.groupby(["table", "split"])["model"].transform("size") == len(picked)
    if len(picked) < 2 or not is_shared.any():
        raise ValueError(
            f"expected two or more models of {', '.join(counts.index)} that have splits in common; "
            f"got {', '.join(picked)}"
        )
    n_lost = good[~is_shared].groupby(["table", "split"]).ngroups
    notes += [f"{n_lost} splits left out, which some model lacks"] if n_lost else []
    return good[is_shared], notes


def mean_scores(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a column's mean over the splits, of shape (n_tables, n_models)."""
    return rows.pivot_table(index="table", columns="model", values=column)


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the figures of each model, best mean rank by log-loss first.

    `slowest / CatBoost` is the ratio of fit seconds on the table where it is largest. `wins` counts
    the tables where no model has a smaller log-loss.
    """
    losses, seconds = mean_scores(rows, "log_loss"), mean_scores(rows, "fit_seconds")
    gaps = (1 - mean_scores(rows, "auc")).clip(lower=SMALLEST_AUC_GAP)
    ranked = {
        "log-loss": losses,
        "Brier": mean_scores(rows, "brier"),
        "AUC": -mean_scores(rows, "auc"),
    }
    columns = {f"rank {title}": values.rank(axis=1).mean() for title, values in ranked.items()}
    references = [name for name in REFERENCES if name in losses]
    for title, values in (("log-loss", losses), ("1-AUC", gaps)):
        against = {"best": values.min(axis=1)} | {name: values[name] for name in references}
        for name, reference in against.items():
            ratios = values.div(reference, axis=0)
            columns[f"{title} / {name}"] = np.exp(np.log(ratios).mean())
    columns["ECE"] = mean_scores(rows, "ece").mean()
    columns["fit s"] = rows.groupby("model")["fit_seconds"].sum()
    columns["predict s"] = rows.groupby("model")["predict_seconds"].sum()
    if "CatBoost" in references:
        columns["slowest / CatBoost"] = seconds.div(seconds["CatBoost"], axis=0).max()
    columns["wins"] = losses.eq(losses.min(axis=1), axis=0).sum()
    return pd.DataFrame(columns).sort_values("rank log-loss", kind="stable")


def to_markdown(summary: pd.DataFrame, losses: pd.DataFrame) -> str:
    """Return the summary, and every table's log-loss with the smallest in bold."""
    digits = {"ECE": 4, "fit s": 1, "predict s": 2, "slowest / CatBoost": 2, "wins": 0}
    digits |= {name: 2 for name in summary if name.startswith("rank")}
    figures = [
        [str(model), *(f"{row[name]:.{digits.get(name, 3)}f}" for name in summary)]
        for model, row in summary.iterrows()
    ]
    by_table = []
    for table, row in losses.iterrows():
        cells = [f"{v:.4f}" for v in row]
        by_table.append([str(table), *(f"**{c}**" if c == min(cells) else c for c in cells)])
    first, second = ["model", *summary], ["log-loss", *losses]
    return f"{markdown(first, figures)}\n\n{markdown(second, by_table)}"


def describe(rows: pd.DataFrame, shape: tuple[int, int], notes: list[str]) -> str:
    """Say what was compared, with which versions and how many threads.

    The critical difference is that of the Nemenyi test at 5% (Demsar 2006): q sqrt(k (k + 1) / 6 N)
    for k models on N tables, q being the studentized range statistic divided by sqrt(2).
    """
    n_tables, k = shape
    q = studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2)
    versions = rows["package"] + " " + rows["version"].fillna("").astype(str)
    warned = rows.groupby("model")["warnings"].sum()
    lines = [
        f"{n_tables} tables, {rows.groupby(['table', 'split']).ngroups} splits; threads: "
        f"{' and '.join(map(str, rows['threads'].unique()))}; {', '.join(sorted(set(versions)))}.",
        f"Warnings, not shown: {', '.join(f'{m} {n:.0f}' for m, n in warned.items() if n) or 0}.",
        f"Critical difference of mean ranks: {q * np.sqrt(k * (k + 1) / (6 * n_tables)):.2f}.",
    ]
    return "\n".join([*lines, *(f"{note}." for note in notes)])


def report(paths: list[Path], picked: list[str] | None) -> str:
    """Return the summary of CSV files as Markdown."""
    rows, notes = select(read_rows(paths), picked)
    summary = summarize(rows)
    losses = mean_scores(rows, "log_loss")[list(summary.index)]
    return f"{describe(rows, losses.shape, notes)}\n\n{to_markdown(summary, losses)}"
