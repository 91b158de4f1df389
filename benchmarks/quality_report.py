"""Summarize the rows of `quality.py`: tables in Markdown, figures in JSON, and two pictures.

Models are compared on the splits that all of them have, and a table is one unit: its scores are
means over its splits, and ranks, ratios and wins are taken between those means.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range

REFERENCES = ("CatBoost", "MLPClassifier")
# A model with a smaller share of the fullest model's splits is left out unless it is asked for:
# all models would be compared on its splits alone.
SMALLEST_SHARE = 0.9
# 1 - AUC is 0 where every pair of rows is in order; one wrong pair in 10,000 bounds its ratios.
SMALLEST_AUC_GAP = 1e-4


@dataclass(frozen=True)
class Comparison:
    """The rows of some models on the splits that all of them have, and what was left out."""

    models: list[str]
    rows: pd.DataFrame
    notes: list[str]

    def means(self, column: str) -> pd.DataFrame:
        """Return a column's mean over the splits, of shape (n_tables, n_models)."""
        values = self.rows.pivot_table(index="table", columns="model", values=column)
        return values[self.models]

    @property
    def auc_gaps(self) -> pd.DataFrame:
        """Return 1 - AUC of shape (n_tables, n_models), at least the smallest gap."""
        return (1 - self.means("auc")).clip(lower=SMALLEST_AUC_GAP)


def read_rows(paths: list[Path]) -> pd.DataFrame:
    """Return the rows of CSV files; of two rows for one split of one model, the later one."""
    rows = pd.concat(
        [pd.read_csv(path, dtype={"error": str, "version": str}) for path in paths],
        ignore_index=True,
    )
    rows = rows.drop_duplicates(["table", "split", "model"], keep="last")
    rows["error"] = rows["error"].fillna("")
    for (table, split), group in rows.groupby(["table", "split"]):
        if group["n_train"].nunique() > 1:
            raise ValueError(
                f"{table}, split {split}: expected all models to be trained on the same rows; "
                f"got n_train of {sorted(group['n_train'].unique().tolist())}. Run them with one "
                "--max-rows, into one file for each value."
            )
    return rows


def failures(rows: pd.DataFrame) -> list[str]:
    """Say which models failed, where and why: a line for each model and error."""
    lines = []
    for (model, error), group in rows[rows["error"] != ""].groupby(["model", "error"], sort=False):
        where = sorted(group["table"].unique())
        lines.append(f"{model} failed {len(group)} times, on {', '.join(where)}: {error}")
    return lines


def compare(rows: pd.DataFrame, picked: list[str] | None = None) -> Comparison:
    """Choose the models to compare, and the splits that all of them have."""
    notes = failures(rows)
    good = rows[rows["error"] == ""]
    counts = good.groupby("model", sort=False).size()
    if picked is None:
        few = counts < SMALLEST_SHARE * counts.max()
        notes += [
            f"{model} left out for gaps: it has {count} of {counts.max()} splits"
            for model, count in counts[few].items()
        ]
        notes += [
            f"{model} left out: it has no split without an error"
            for model in rows["model"].unique()
            if model not in counts
        ]
        picked = list(counts[~few].index)
    picked = list(dict.fromkeys(picked))
    if len(picked) < 2 or not set(picked) <= set(counts.index):
        raise ValueError(
            f"expected two or more models of {', '.join(counts.index)}; got {', '.join(picked)}"
        )
    good = good[good["model"].isin(picked)]
    shared = good.groupby(["table", "split"])["model"].transform("size") == len(picked)
    if not shared.any():
        raise ValueError(f"expected splits that all of {', '.join(picked)} have; there are none")
    lost = good[~shared]
    n_lost = lost.groupby(["table", "split"]).ngroups
    lacking = {model: n_lost - int((lost["model"] == model).sum()) for model in picked}
    notes += [
        f"{count} splits left out, which {model} lacks" for model, count in lacking.items() if count
    ]
    return Comparison(picked, good[shared], notes)


def mean_ranks(values: pd.DataFrame) -> pd.Series:
    """Return each column's mean rank over the rows: 1 is the smallest value, ties share ranks."""
    return values.rank(axis=1, method="average").mean()


def geometric_ratio(values: pd.DataFrame, reference: pd.Series) -> pd.Series:
    """Return the geometric mean over the rows of each column's ratio to a reference."""
    return np.exp(np.log(values.div(reference, axis=0)).mean())


def summarize(comparison: Comparison) -> pd.DataFrame:
    """Return the figures of each model, best mean rank by log-loss first.

    `slowest / CatBoost` is the ratio of fit seconds on the table where it is largest. `wins` counts
    the tables where no model has a smaller log-loss.
    """
    losses, gaps = comparison.means("log_loss"), comparison.auc_gaps
    seconds = comparison.means("fit_seconds")
    columns = {
        "rank log-loss": mean_ranks(losses),
        "rank Brier": mean_ranks(comparison.means("brier")),
        "rank AUC": mean_ranks(-comparison.means("auc")),
    }
    references = [name for name in REFERENCES if name in comparison.models]
    for title, values in (("log-loss", losses), ("1-AUC", gaps)):
        columns[f"{title} / best"] = geometric_ratio(values, values.min(axis=1))
        for name in references:
            columns[f"{title} / {name}"] = geometric_ratio(values, values[name])
    columns["ECE"] = comparison.means("ece").mean()
    totals = comparison.rows.groupby("model")[["fit_seconds", "predict_seconds"]].sum()
    columns["fit s"] = totals["fit_seconds"]
    columns["predict s"] = totals["predict_seconds"]
    if "CatBoost" in references:
        columns["slowest / CatBoost"] = seconds.div(seconds["CatBoost"], axis=0).max()
    columns["wins"] = losses.eq(losses.min(axis=1), axis=0).sum()
    summary = pd.DataFrame(columns).rename_axis("model")
    return summary.sort_values("rank log-loss", kind="stable")


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def summary_markdown(summary: pd.DataFrame) -> str:
    """Return the summary as a Markdown table."""
    digits = {"ECE": 4, "fit s": 1, "predict s": 2, "slowest / CatBoost": 2, "wins": 0}
    digits |= {name: 2 for name in summary if name.startswith("rank")}
    lines = [
        [str(model), *(f"{row[name]:.{digits.get(name, 3)}f}" for name in summary)]
        for model, row in summary.iterrows()
    ]
    return markdown(["model", *summary], lines)


def losses_markdown(losses: pd.DataFrame) -> str:
    """Return every table's log-loss of every model as a Markdown table, the smallest in bold."""
    lines = []
    for table, row in losses.iterrows():
        cells = [f"{v:.4f}" for v in row]
        lines.append([str(table), *(f"**{c}**" if c == min(cells) else c for c in cells)])
    return markdown(["log-loss", *losses], lines)


def description(comparison: Comparison) -> str:
    """Say what was compared, with which versions and how many threads."""
    rows = comparison.rows
    threads = sorted(rows["threads"].unique().tolist())
    versions = sorted({f"{r.package} {r.version}" for r in rows.itertuples()})
    n_warnings = {m: int(rows.loc[rows["model"] == m, "warnings"].sum()) for m in comparison.models}
    warned = [f"{model} {n}" for model, n in n_warnings.items() if n]
    lines = [
        f"{rows['table'].nunique()} tables, {rows.groupby(['table', 'split']).ngroups} splits; "
        f"threads: {' and '.join(map(str, threads))}; {', '.join(versions)}.",
        f"Warnings of the models, not shown: {', '.join(warned) or 'none'}.",
    ]
    if len(threads) > 1:
        lines.append("The seconds were measured with different numbers of threads.")
    return "\n".join([*lines, *(f"{note}." for note in comparison.notes)])


def critical_difference(n_models: int, n_tables: int, level: float = 0.05) -> float:
    """Return the difference of mean ranks that is significant by the Nemenyi test.

    CD = q * sqrt(k (k + 1) / (6 N)) for k models on N tables, q being the studentized range
    statistic for k groups and infinite degrees of freedom, divided by sqrt(2) (Demsar 2006).
    """
    q = studentized_range.ppf(1 - level, n_models, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_models * (n_models + 1) / (6 * n_tables)))


def cliques(ranks: np.ndarray, difference: float) -> list[tuple[int, int]]:
    """Return first and last index of the longest runs of sorted ranks within a difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = int(np.searchsorted(ranks, ranks[first] + difference, side="right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def draw_ranks(losses: pd.DataFrame, path: Path) -> None:
    """Draw the critical-difference diagram of the ranks by log-loss."""
    from matplotlib.figure import Figure

    ranks = mean_ranks(losses).sort_values()
    difference = critical_difference(len(ranks), len(losses))
    title = f"Mean rank by log-loss, {len(losses)} tables"
    if len(ranks) > 2:
        p = friedmanchisquare(*(losses[model] for model in losses)).pvalue
        title += f" (Friedman test: p = {p:.2g})"
    figure = Figure(figsize=(8, 1.6 + 0.28 * len(ranks)), layout="constrained")
    axes = figure.subplots()
    bars = cliques(ranks.to_numpy(), difference)
    left = 0.8 - 0.03 * len(ranks) * len(bars)
    for position, (model, rank) in enumerate(ranks.items()):
        axes.plot([left, rank], [-position, -position], color="0.85", lw=1, zorder=0)
        axes.plot(rank, -position, "o", color="C0")
        axes.annotate(
            f"{model}  {rank:.2f}",
            (rank, -position),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
        )
    for number, (first, last) in enumerate(bars):
        x = left + 0.03 * len(ranks) * number
        axes.plot([x, x], [0.2 - first, -0.2 - last], color="C3", lw=3)
    label = (
        "mean rank (1 is best)\n"
        f"a red bar joins models that differ by less than {difference:.2f} (Nemenyi test, 5%)"
    )
    axes.set(title=title, xlabel=label, xlim=(left - 0.1, len(ranks) + 1), yticks=[])
    axes.set_xticks(range(1, len(ranks) + 1))
    axes.spines[["left", "right", "top"]].set_visible(False)
    figure.savefig(path, dpi=150)


def draw_time(summary: pd.DataFrame, path: Path) -> None:
    """Draw each model's log-loss against the seconds that all its fits took."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for model, row in summary.iterrows():
        point = row["fit s"], row["log-loss / best"]
        axes.plot(*point, "o")
        axes.annotate(str(model), point, xytext=(6, 4), textcoords="offset points")
    axes.set(
        xscale="log",
        xlabel="seconds of all fits",
        ylabel="log-loss / best of the table (geometric mean)",
        title="Quality against time: down and left is better",
    )
    axes.margins(x=0.2, y=0.1)
    figure.savefig(path, dpi=150)


def draw(comparison: Comparison, summary: pd.DataFrame, folder: Path) -> None:
    """Write both pictures into a folder."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "--pictures needs matplotlib, which is not installed: pip install matplotlib"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    draw_ranks(comparison.means("log_loss"), folder / "quality_ranks.png")
    draw_time(summary, folder / "quality_time.png")


def report(
    paths: list[Path],
    picked: list[str] | None = None,
    json_path: Path | None = None,
    pictures: Path | None = None,
) -> str:
    """Return the summary of CSV files as Markdown, and write JSON and pictures if asked."""
    comparison = compare(read_rows(paths), picked)
    summary = summarize(comparison)
    losses = comparison.means("log_loss")[list(summary.index)]
    if json_path is not None:
        figures = {
            "description": description(comparison).split("\n"),
            "summary": summary.to_dict("index"),
            "log_loss": losses.to_dict("index"),
            "critical_difference": critical_difference(len(summary), len(losses)),
        }
        json_path.write_text(json.dumps(figures, indent=1) + "\n")
    if pictures is not None:
        draw(comparison, summary, pictures)
    parts = [description(comparison), summary_markdown(summary), losses_markdown(losses)]
    return "\n\n".join(parts)
