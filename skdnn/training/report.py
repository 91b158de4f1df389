"""What a training says: a line for each epoch, why it ended, and remarks on its outcome."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..utils import find_stack_level
from .state import TrainingPlan, TrainingProgress, TrainingState

MAX_HALVINGS = 5
"""How often a member goes on at half the learning rate after a loss that is not finite."""

USELESS = 2.0
"""A model is useless if its loss is this many times that of predicting 1/2 for every row."""

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
        if not is_last and (self.n_before + n_done) % self.verbose:
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


def print_end(
    plan: TrainingPlan, progress: TrainingProgress, kept: np.ndarray, n_before: int
) -> None:
    """Print why and when training stopped, and the epochs of the weights kept."""
    words, epochs = "the weights from before", n_before + np.unique(kept[kept > 0])
    if len(epochs) == 1:
        words = f"epoch {epochs[0]}"
    elif len(epochs):
        words = f"epochs {epochs[0]} to {epochs[-1]}"
    why, n_epochs = _name_end(plan, progress), n_before + progress.n_epochs
    print(f"{why}: stopped after epoch {n_epochs}; kept {words}.", flush=True)


def _name_end(plan: TrainingPlan, progress: TrainingProgress) -> str:
    if progress.ended_by:
        return {
            "interrupt": "Interrupted",
            "callback": "Asked by a callback",
            "max_time": f"max_time={plan.max_time!r} is over",
        }[progress.ended_by]
    if progress.running.any():
        is_at_end = progress.n_epochs >= progress.n_epochs_planned
        return "max_iter is reached" if is_at_end else progress.message
    if (progress.waited >= plan.n_iter_no_change).any():
        return "Early stopping" if progress.keeps_best else "No more progress"
    return "Diverged" if progress.n_diverged.any() else "Converged"


def useless_loss(plan: TrainingPlan) -> float:
    """Return the loss from which on weights are useless, `USELESS` times that of 1/2."""
    return USELESS * float(plan.loss.loss(np.ones(1), np.zeros(1))[0])


def warn_about_end(
    plan: TrainingPlan, state: TrainingState, progress: TrainingProgress, is_bad: np.ndarray
) -> None:
    """Warn if training went wrong, or ended early; `is_bad` says whose weights were rejected."""
    remarks = [*_remark_on_end(plan, state, progress, is_bad)]
    if not is_bad.any():
        remarks += _remark_on_convergence(plan, state, progress)
    if remarks:
        warnings.warn(" ".join(remarks), ConvergenceWarning, stacklevel=find_stack_level())


def _remark_on_end(
    plan: TrainingPlan, state: TrainingState, progress: TrainingProgress, is_bad: np.ndarray
) -> Iterator[str]:
    done = f"{progress.n_epochs} of {progress.n_epochs_planned} epochs"
    if progress.ended_by == "interrupt":
        kept = "best weights so far" if progress.keeps_best else "weights that it had then"
        yield f"Training was interrupted after {done}; the model keeps the {kept}."
    elif progress.ended_by == "max_time":
        yield f"Training ended after {done}, because max_time={plan.max_time!r} seconds were over."
    if is_bad.any():
        epoch = progress.best_epoch[is_bad].min()
        kept = f"those of epoch {epoch}" if epoch else "those from before training"
        end = describe_end(plan, state, progress)
        yield f"Training diverged: {end}. The weights kept are {kept}. {advise(plan)}"
    n_diverged = int(progress.n_diverged.sum())
    if n_diverged:
        yield (
            f"The loss stopped being finite in {n_diverged} epoch{'s' if n_diverged > 1 else ''}: "
            "training went back to the last good weights and on at half the learning rate, up to "
            f"{MAX_HALVINGS} times. {'' if is_bad.any() else advise(plan)}".rstrip()
        )


def _remark_on_convergence(
    plan: TrainingPlan, state: TrainingState, progress: TrainingProgress
) -> Iterator[str]:
    waits_for_a_plateau = np.isfinite(plan.n_iter_no_change) and not plan.schedule.needs_horizon
    if progress.last_loss.max() > useless_loss(plan) and not plan.is_part:
        yield (
            f"Training has not converged: {describe_end(plan, state, progress)}, and answering "
            f"1/2 to everything would cost {useless_loss(plan) / USELESS:.4g}. {advise(plan)} If "
            f"the loss is still falling, raise max_iter={plan.max_iter}."
        )
    elif progress.is_dead:
        kept = f" The weights kept are those of epoch {progress.best_epoch.max()}."
        yield (
            "In the end the network answers the same to every row: its units are dead, or all "
            f"alike as with initialization='zeros'; {describe_end(plan, state, progress)}."
            f"{kept if progress.keeps_best else ''} {advise(plan)}"
        )
    elif progress.message:
        scaling = "" if plan.is_scaled else ", or scale the features"
        yield (
            f"L-BFGS ended without converging: {progress.message}. Raise "
            f"max_iter={plan.max_iter} or max_fun={plan.max_fun}{scaling}."
        )
    elif not progress.ended_by and progress.running.any() and waits_for_a_plateau:
        yield (
            f"The loss was still falling when max_iter={plan.max_iter} epochs were done. Raise "
            f"max_iter, or learning_rate_init={plan.learning_rate_init!r}."
        )


def describe_end(plan: TrainingPlan, state: TrainingState, progress: TrainingProgress) -> str:
    """Return the loss, the epoch and the learning rates that training ended with, in words."""
    rates = state.history.get("learning_rate", [])[-progress.n_epochs or None :]
    rates = rates or [plan.learning_rate_init]
    words = "learning rate" if min(rates) == max(rates) else "learning rates up to"
    is_diverged = progress.n_diverged.any() and not np.isfinite(progress.lowest).all()
    loss = "not finite" if is_diverged else f"{np.max(progress.last_loss):.4g}"
    return f"the loss was {loss} in epoch {progress.n_epochs} at {words} {max(rates):.3g}"


def advise(plan: TrainingPlan) -> str:
    """Return what to change after a training that went wrong."""
    ways = [] if plan.is_scaled else ["scale the features, for example with StandardScaler"]
    if not plan.optimizer.transforms:  # L-BFGS, which has no learning rate
        ways.append("raise alpha")
    else:
        ways.append(f"lower learning_rate_init={plan.learning_rate_init!r}")
    advice = ", or ".join(ways)
    return f"{advice[0].upper()}{advice[1:]}."
