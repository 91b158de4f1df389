"""What `verbose` prints: a line for each epoch, always of the same columns."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass
class Report:
    """Lines on stdout for every `verbose`-th epoch and the last.

    Parameters
    ----------
    verbose : int
    n_before : int
        Epochs of earlier trainings, from which the count goes on.
    needs_heading : bool, default=True
        Whether a line of headings comes first.
    """

    verbose: int
    n_before: int
    needs_heading: bool = True

    def add_epoch(self, progress: TrainingProgress, history: dict[str, list[float]]) -> None:
        """Print the epoch that is the last one in the history."""
        n_done, n_planned = progress.n_epochs, progress.n_epochs_planned
        is_last = progress.is_over or bool(progress.ended_by)
        if not self.verbose or not (is_last or (self.n_before + n_done) % self.verbose == 0):
            return
        if self.needs_heading:
            _print_line(list(COLUMNS))
            self.needs_heading = False
        names = ("loss", "validation_loss", "validation_score")
        seconds = np.mean(history["seconds"][-n_done:])
        _print_line(
            [
                f"{self.n_before + n_done}/{self.n_before + n_planned}",
                *(_write_number(history.get(name, [np.nan])[-1]) for name in names),
                f"{history['learning_rate'][-1]:.2e}",
                f"{history['seconds'][-1]:.2f}",
                f"{seconds * (n_planned - n_done):.1f} s",
            ]
        )


def _print_line(cells: list[str]) -> None:
    widths = COLUMNS.values()
    line = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    print(line, flush=True)


def _write_number(value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.6f}" if abs(value) < 100 else f"{value:.2e}"
