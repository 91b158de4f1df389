"""The end of a training: the weights to keep, and warnings about them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..utils import find_stack_level
from .state import TrainingPlan, TrainingProgress, TrainingState

MAX_HALVINGS = 5
"""How often a member goes on at half the learning rate after a loss that is not finite."""

USELESS = 2.0
"""A model is useless if its loss is this many times that of predicting 1/2 for every row."""


def select_weights(plan: TrainingPlan, state: TrainingState, progress: TrainingProgress) -> None:
    """Choose the weights to keep, and warn if training went wrong.

    Weights that diverged are replaced by better ones. For a part of a stream only the loss has to
    be finite, since losses of different parts do not compare.

    Raises
    ------
    ValueError
        If a member never had a finite loss, so that there are no weights to keep.

    Warns
    -----
    ConvergenceWarning
        If training diverged, was cut short, or ended while the loss was still falling.
    """
    chosen, epoch = state.weights.copy(), progress.last_epoch
    if progress.keeps_best:
        chosen, epoch = progress.best, progress.best_epoch
    is_bad, end = _has_diverged(plan, progress, chosen), _describe_end(plan, state, progress)
    has_nothing = progress.n_epochs > 0 and not np.isfinite(progress.lowest).all()
    if has_nothing or (plan.is_part and is_bad.any()):
        raise ValueError(
            f"Training diverged: {end}. No better weights can be kept. {_advise(plan)}"
        )
    progress.has_diverged = bool(is_bad.any())
    state.final_params = np.where(is_bad[:, np.newaxis], progress.best, chosen)
    epoch = np.where(is_bad, progress.best_epoch, epoch)
    n_before = state.n_epochs - progress.n_epochs
    if epoch.any():  # else training gained nothing
        state.best_iter = n_before + int(epoch.max())
    if plan.verbose and not plan.is_part:
        print(_describe_stop(plan, progress, epoch, n_before), flush=True)
    remarks = [*_remarks_on_the_end(plan, progress, is_bad, end)]
    if not progress.has_diverged:
        remarks += _remarks_on_convergence(plan, progress, end)
    if remarks:
        warnings.warn(" ".join(remarks), ConvergenceWarning, stacklevel=find_stack_level())


def _describe_stop(
    plan: TrainingPlan, progress: TrainingProgress, kept: np.ndarray, n_before: int
) -> str:
    """Return the line about why and when training stopped, and the epochs of the weights kept."""
    words, epochs = "the weights from before", n_before + np.unique(kept[kept > 0])
    if len(epochs) == 1:
        words = f"epoch {epochs[0]}"
    elif len(epochs):
        words = f"epochs {epochs[0]} to {epochs[-1]}"
    why, n_epochs = _name_end(plan, progress), n_before + progress.n_epochs
    return f"{why}: stopped after epoch {n_epochs}; kept {words}."


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


def _has_diverged(plan: TrainingPlan, progress: TrainingProgress, chosen: np.ndarray) -> np.ndarray:
    """Say of each member whether its last weights, or those chosen, are of no use."""
    is_bad = ~np.isfinite(chosen).all(axis=1)
    if progress.n_epochs:
        is_bad |= ~np.isfinite(progress.last_loss)
    if not plan.is_part:
        # Huge weights show in the penalty where activations saturate.
        is_high = progress.last_cost > useless_loss(plan)
        is_bad |= is_high & (progress.last_cost > 2.0 * progress.best_cost)
    return is_bad


def _remarks_on_the_end(
    plan: TrainingPlan, progress: TrainingProgress, is_bad: np.ndarray, end: str
) -> Iterator[str]:
    done = f"{progress.n_epochs} of {progress.n_epochs_planned} epochs"
    if progress.ended_by == "interrupt":
        kept = "best weights so far" if progress.keeps_best else "weights that it had then"
        yield f"Training was interrupted after {done}; the model keeps the {kept}."
    elif progress.ended_by == "max_time":
        yield f"Training ended after {done}, because max_time={plan.max_time!r} seconds were over."
    n_diverged, advice = int(progress.n_diverged.sum()), _advise(plan)
    if is_bad.any():
        epoch = progress.best_epoch[is_bad].min()
        kept = f"those of epoch {epoch}" if epoch else "those from before training"
        yield f"Training diverged: {end}. The weights kept are {kept}. {advice}"
    if n_diverged:
        yield (
            f"The loss stopped being finite in {n_diverged} epoch{'s' if n_diverged > 1 else ''}: "
            "training went back to the last good weights and on at half the learning rate, up to "
            f"{MAX_HALVINGS} times. {'' if is_bad.any() else advice}".rstrip()
        )


def _remarks_on_convergence(
    plan: TrainingPlan, progress: TrainingProgress, end: str
) -> Iterator[str]:
    waits_for_a_plateau = np.isfinite(plan.n_iter_no_change) and not plan.schedule.needs_horizon
    if progress.last_loss.max() > useless_loss(plan) and not plan.is_part:
        yield (
            f"Training has not converged: {end}, and answering 1/2 to everything would cost "
            f"{useless_loss(plan) / USELESS:.4g}. {_advise(plan)} If the loss is still falling, "
            f"raise max_iter={plan.max_iter}."
        )
    elif progress.is_dead:
        kept = f" The weights kept are those of epoch {progress.best_epoch.max()}."
        yield (
            "In the end the network answers the same to every row: its units are dead, or all "
            f"alike as with initialization='zeros'; {end}.{kept if progress.keeps_best else ''} "
            f"{_advise(plan)}"
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


def _describe_end(plan: TrainingPlan, state: TrainingState, progress: TrainingProgress) -> str:
    rates = state.history.get("learning_rate", [])[-progress.n_epochs or None :]
    rates = rates or [plan.learning_rate_init]
    words = "learning rate" if min(rates) == max(rates) else "learning rates up to"
    is_diverged = progress.n_diverged.any() and not np.isfinite(progress.lowest).all()
    loss = "not finite" if is_diverged else f"{np.max(progress.last_loss):.4g}"
    return f"the loss was {loss} in epoch {progress.n_epochs} at {words} {max(rates):.3g}"


def _advise(plan: TrainingPlan) -> str:
    ways = [] if plan.is_scaled else ["scale the features, for example with StandardScaler"]
    if not plan.optimizer.transforms:  # L-BFGS, which has no learning rate
        ways.append("raise alpha")
    else:
        ways.append(f"lower learning_rate_init={plan.learning_rate_init!r}")
    advice = ", or ".join(ways)
    return f"{advice[0].upper()}{advice[1:]}."
