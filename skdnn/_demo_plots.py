"""The picture of the demonstration: how the loss fell, and whether the probabilities are true.

Drawn on matplotlib's Figure itself, so that no window system and no global state is involved.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

N_BINS = 10
FEWEST_ROWS = 20
"""A bin with fewer rows than this has no point: its frequency would be an accident."""

GREY = "#666666"
HIGHLIGHT_COLOR = "#D55E00"
# The colours that Okabe and Ito chose for eyes that confuse red and green.
STYLES = [("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v")]


def draw_report(network, y_train, y_test, predictions, *, highlight):
    """Draw the loss curve beside the reliability diagram.

    Parameters
    ----------
    network : DeepBinaryClassifier
        The fitted network, for its history.
    y_train, y_test : ndarray
        Labels, 0 or 1.
    predictions : dict of str to ndarray of shape (n_test,)
        The probability of class 1 by each model.
    highlight : str
        The model to draw above the others.

    Returns
    -------
    figure : matplotlib.figure.Figure
        The picture, to be saved.
    """
    figure = Figure(figsize=(11.0, 5.4), dpi=130, layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[4, 1])
    draw_loss_curve(figure.add_subplot(grid[:, 0]), network, y_train)
    reliability = figure.add_subplot(grid[0, 1])
    histogram = figure.add_subplot(grid[1, 1], sharex=reliability)
    draw_reliability(reliability, y_test, predictions, highlight)
    draw_histogram(histogram, predictions[highlight], highlight)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E5E5E5", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure


def draw_loss_curve(axes, network, y_train) -> None:
    """Draw the loss of each epoch, that on validation rows too, and what the base rate costs."""
    losses = network.history_["loss"]
    epochs = np.arange(1, len(losses) + 1)
    rate = float(np.mean(y_train))
    base = -(rate * np.log(rate) + (1.0 - rate) * np.log(1.0 - rate))
    axes.axhline(base, color=GREY, linestyle="--", linewidth=1.2)
    axes.annotate(
        f"base rate {base:.3f}",
        (epochs[-1], base),
        xytext=(0, -5),
        textcoords="offset points",
        ha="right",
        va="top",
        color=GREY,
    )
    if "validation_loss" in network.history_:
        validation, (color, _) = network.history_["validation_loss"], STYLES[0]
        axes.plot(epochs, validation, color=color, label="August and September")
        axes.legend(frameon=False)
    axes.plot(epochs, losses, color=HIGHLIGHT_COLOR, marker="o", markersize=4, linewidth=2)
    axes.annotate(
        f"{losses[-1]:.3f}",
        (epochs[-1], losses[-1]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="right",
        color=HIGHLIGHT_COLOR,
        fontweight="bold",
    )
    axes.set(
        title="Learning from January to July",
        xlabel="epoch",
        ylabel="training loss (cross-entropy)",
        ylim=(0.0, 1.08 * max(base, *losses)),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_reliability(axes, y_test, predictions, highlight) -> None:
    """Draw how often it rained against what was said."""
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect")
    styles = iter(STYLES)
    for name, probability in predictions.items():
        is_highlight = name == highlight
        color, marker = (HIGHLIGHT_COLOR, "o") if is_highlight else next(styles)
        said, happened = bin_reliability(y_test, probability)
        axes.plot(
            said,
            happened,
            color=color,
            marker=marker,
            markersize=7 if is_highlight else 5,
            linewidth=2.4 if is_highlight else 1.2,
            zorder=3 if is_highlight else 2,
            clip_on=False,
            label=name,
        )
    axes.set(
        title="Judged on October to December",
        ylabel="how often it rained",
        xlim=(0.0, 1.0),
        ylim=(0.0, 1.0),
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.tick_params(labelbottom=False)
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def bin_reliability(y, probability) -> tuple[np.ndarray, np.ndarray]:
    """Return mean probability and frequency of class 1 in the bins that hold enough rows."""
    bins = np.minimum((probability * N_BINS).astype(int), N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS)
    is_filled = counts >= FEWEST_ROWS
    said, happened = (
        np.bincount(bins, weights=values, minlength=N_BINS)[is_filled] / counts[is_filled]
        for values in (probability, y)
    )
    return said, happened


def draw_histogram(axes, probability, name) -> None:
    """Draw how many test rows were given which probability."""
    edges = np.linspace(0.0, 1.0, N_BINS + 1)
    counts, _ = np.histogram(probability, edges)
    axes.stairs(counts, edges, fill=True, color=HIGHLIGHT_COLOR, alpha=0.6)
    axes.set(xlabel="predicted probability of rain", ylabel="hours", yscale="log", ylim=(1.0, None))
    axes.text(1.0, 0.98, name, transform=axes.transAxes, ha="right", va="top", fontsize=9)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
