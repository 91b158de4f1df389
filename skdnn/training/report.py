"""What `verbose` prints: a line for each epoch, always of the same columns; a bar on a terminal."""

from __future__ import annotations

import sys
from multiprocessing import parent_process

import numpy as np

from .state import TrainingProgress

COLUMNS = {  # heading: width
    "epoch": 9,
    "loss": 9,
    "val. loss": 9,
    "val. score": 10,
    "learning rate": 13,
    "seconds": 7,
    "time left": 9,
}
BAR_WIDTH = 30
UNKNOWN = "-"


class Report:
    """Lines on stdout for every `verbose`-th epoch and the last; a bar where stderr is a terminal.

    The bar stands below the lines. It is erased before the next line, and on leaving the context.

    Parameters
    ----------
    verbose : int
    n_before : int
        Epochs of earlier trainings, from which the count goes on.
    has_heading : bool, default=True
        Whether a line of headings comes first.
    """

    def __init__(self, verbose: int, n_before: int, *, has_heading: bool = True) -> None:
        self.verbose, self.n_before = verbose, n_before
        self._needs_heading = has_heading
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        # Bars of worker processes would write over each other.
        self._has_bar = bool(verbose) and is_terminal and parent_process() is None
        self._bar = ""

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._show_bar("")

    def begin(self, progress: TrainingProgress) -> None:
        """Show that training begins."""
        self._show_bar(self._draw_bar(progress))

    def add_epoch(self, progress: TrainingProgress, history: dict[str, list[float]]) -> None:
        """Show the epoch that is the last one in the history."""
        if not self.verbose:
            return
        is_last = progress.is_over or bool(progress.ended_by)
        n_left = progress.n_epochs_planned - progress.n_epochs
        left = f"{np.mean(history['seconds'][-progress.n_epochs :]) * n_left:.1f} s"
        self._show_bar("")
        if is_last or (self.n_before + progress.n_epochs) % self.verbose == 0:
            if self._needs_heading:
                _print_line(list(COLUMNS))
                self._needs_heading = False
            cells = [self._count(progress)]
            for name in ("loss", "validation_loss", "validation_score"):
                cells.append(_write_number(history.get(name, [np.nan])[-1]))
            cells += [f"{history['learning_rate'][-1]:.2e}", f"{history['seconds'][-1]:.2f}", left]
            _print_line(cells)
        if not is_last:
            self._show_bar(f"{self._draw_bar(progress)}, {left} left")

    def _count(self, progress: TrainingProgress) -> str:
        n_before = self.n_before
        return f"{n_before + progress.n_epochs}/{n_before + progress.n_epochs_planned}"

    def _draw_bar(self, progress: TrainingProgress) -> str:
        n_done = BAR_WIDTH * progress.n_epochs // progress.n_epochs_planned
        return f"[{'#' * n_done:.<{BAR_WIDTH}}] epoch {self._count(progress)}"

    def _show_bar(self, bar: str) -> None:
        """Write a bar over the last one, on a terminal."""
        if self._has_bar and bar != self._bar:
            erased = f"\r{' ' * len(self._bar)}\r"
            print(f"{erased}{bar}", end="", file=sys.stderr, flush=True)
            self._bar = bar


def _print_line(cells: list[str]) -> None:
    widths = COLUMNS.values()
    line = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    print(line, flush=True)


def _write_number(value: float) -> str:
    if np.isnan(value):
        return UNKNOWN
    return f"{value:.6f}" if abs(value) < 100 else f"{value:.2e}"
