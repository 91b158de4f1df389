"""Who holds out which rows: each member leaves some out of its training, and is validated on them.

An ensemble then validates on all rows, and still trains on all of them.

What is held out as a whole is a unit: a group, or a row with all its copies, since a network that
has seen one of them knows the others. Where equal rows are observations of their own, see
`are_observations`, every row is a unit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .rows import Rows, are_observations, count_labels, number_distinct
from .state import TrainingPlan, TrainingState, make_stream

NOBODY = 0
"""The first set of members: every member trains on the row, and none is validated on it."""

MOST_FOLDS = 10
"""Folds at most: a member then trains on nine tenths of the rows, and more would add little."""

FEWEST_FOLDS = 5
"""Members from which on folds have equal size. Fewer members each hold out a fraction of the rows,
since equal folds would leave them too few to learn from."""


def hold_out(
    parameters: Any, plan: TrainingPlan, state: TrainingState, rows: Rows, given: Rows | None
) -> tuple[Rows, Rows | None]:
    """Return the rows to train on, and those to validate on if there are to be any.

    Members of an ensemble leave out rows of their own, and both are the same rows; see
    `Rows.is_held_out`. Nothing is held out where each class is all in one row, or in copies of it.
    """
    if given is not None or not plan.stops_early:
        return rows, given
    rng = make_stream(state.seed, "split")  # a warm start splits the same rows again
    is_alone = plan.network.n_members == 1 or parameters.solver == "lbfgs"
    n_members = 1 if is_alone else plan.network.n_members
    is_held_out = assign_folds(rows, n_members, parameters.validation_fraction, rng)
    if not is_held_out.any():
        return rows, None
    if is_alone:
        training = rows.take(np.flatnonzero(~is_held_out[0]), is_view=True)
        return training, rows.take(np.flatnonzero(is_held_out[0]))
    rows = replace(rows, is_held_out=is_held_out)
    return rows, rows


def assign_folds(
    rows: Rows, n_members: int, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Say of each member and row whether it is held out: bool of shape (n_members, n_rows).

    There are as many folds as members, up to ten, and no more than groups. Less than five members
    hold out `fraction` of the rows each.

    Units of rows of class 0, of both classes and of class 1 are spread one kind after the other.
    Then no member lacks a class to learn from; a unit that has all rows of one is in no fold.
    """
    if rows.group is not None:
        return _assign_groups(rows, rows.group, n_members, fraction, rng)
    sets, unit = _list_sets(n_members, MOST_FOLDS), number_distinct(rows.X)
    n = count_labels(unit, rows.y)
    if are_observations(n):
        unit = np.arange(len(rows))
        n = count_labels(unit, rows.y)
    kind = 1 + (n[1] > 0) * 1 - (n[0] > 0) * 1
    kind[((n > 0) & (n == n.sum(axis=1, keepdims=True))).any(axis=0)] = -1
    of_unit, n_assigned = np.full(len(kind), NOBODY, np.min_scalar_type(len(sets))), 0
    for k in range(3):
        of_kind = np.flatnonzero(kind == k)
        of_unit[rng.permutation(of_kind)] = _spread(sets, fraction, len(of_kind), n_assigned)
        n_assigned += len(of_kind)
    return sets.T[:, of_unit[unit]]


def _list_sets(n_members: int, most_folds: int) -> np.ndarray:
    """Return sets of members that hold out the same rows, as bool of shape (n_sets, n_members).

    The first one is empty. Of five members or more, member m holds out fold ``m % n_folds``. Fewer
    members hold out parts that may overlap: set i has the members that the bits of i say.
    """
    members = np.arange(n_members)
    if n_members < FEWEST_FOLDS:
        return (np.arange(2**n_members)[:, np.newaxis] >> members) % 2 == 1
    n_folds = min(n_members, most_folds)
    return members % n_folds == np.arange(-1, n_folds)[:, np.newaxis]


def _spread(sets: np.ndarray, fraction: float, n_units: int, n_assigned: int = 0) -> np.ndarray:
    """Return the set of members that holds out each of some shuffled units, by its number.

    Folds of equal size are filled cyclically, and go on from the units that have one already.
    """
    n_members = sets.shape[1]
    if n_members >= FEWEST_FOLDS:
        return 1 + (n_assigned + np.arange(n_units)) % (len(sets) - 1)
    n_out = min(max(round(fraction * n_units), 1), n_units - 1)
    is_apart = n_out * n_members <= n_units
    numbers = np.full(n_units, NOBODY)
    for member in range(n_members):
        start = member * n_out if is_apart else member * n_units // n_members
        numbers[(start + np.arange(n_out)) % n_units] += 1 << member
    return numbers


def _assign_groups(
    rows: Rows, group: np.ndarray, n_members: int, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Say of each member and row whether it is held out, the same of all rows of a group.

    Raises
    ------
    ValueError
        If no group can be held out.
    """
    of_class = [
        np.bincount(group, np.where(rows.y == label, rows.weights, 0.0))
        for label in np.unique(rows.y)
    ]
    shares = np.stack([total / total.sum() for total in of_class], axis=1)
    order = rng.permutation(len(shares))
    order = order[np.argsort(-shares.max(axis=1)[order], kind="stable")]
    sets = _list_sets(n_members, min(MOST_FOLDS, max(2, len(shares))))
    of_group = _balance_groups(shares[order], sets, fraction)[order.argsort()]
    if (of_group == NOBODY).all():
        raise ValueError(
            f"groups must leave some rows of each class to learn from when one is held out, but of "
            f"{len(shares)} group(s) none does. Take more groups, pass X_val and y_val, or set "
            "early_stopping=False."
        )
    return sets.T[:, of_group[group]]


def _balance_groups(shares: np.ndarray, sets: np.ndarray, fraction: float) -> np.ndarray:
    """Return the set of members that holds out each group, given its share of each class.

    One after the other, each group goes to the fold where it adds least to the squared distance
    between the classes' shares and the size that the fold should have, relative to that size. No
    member may lack a class to learn from: a group that has all rows of one is in no fold.
    """
    of_group = np.full(len(shares), NOBODY)
    folds, counts = np.unique(_spread(sets, fraction, len(shares)), return_counts=True)
    goal = (counts / len(shares))[:, np.newaxis]
    holders = sets[folds]
    assigned = np.zeros((len(folds), shares.shape[1]))
    held_out = np.zeros((holders.shape[1], shares.shape[1]))
    for number, own in enumerate(shares):
        has_all = ((own > 0.0) & (held_out + own > 1.0 - 1e-9)).any(axis=1)  # (n_members,)
        growth = (own * (2.0 * (assigned - goal) + own)).sum(axis=1) / goal[:, 0]
        growth[holders @ has_all] = np.inf
        best = growth.argmin()
        if growth[best] < np.inf:
            of_group[number] = folds[best]
            assigned[best] += own
            held_out[holders[best]] += own
    return of_group
