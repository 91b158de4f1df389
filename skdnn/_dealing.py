"""Who holds out which rows: dealt by class, and rows that are alike, or of one group, together.

What is dealt are units. A row is one; copies of a row are one together, since a network that has
seen one of them knows the others. Where the same x bears both labels, or few x are distinct, copies
are observations of their own: each is a unit, and a row whose weight stands for several is cut into
parts of as many.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ._alike import Alike
from ._folds import FEWEST_FOLDS, IN_NO_FOLD, MOST_FOLDS, Folds
from ._rows import Rows
from ._values import frozen

MOST_UNITS = 1_000
"""Units that a weight stands for, above which it is shared evenly: chance would hardly show."""


@frozen
class Deck:
    """How many units of a class go to whom.

    Five members or more have equal folds, member m the fold ``m % n_folds``. Fewer members hold out
    a fraction each, apart from each other as long as there are units enough: their folds are
    numbered by the sets of members that hold out the same units, in binary, less one.

    Attributes
    ----------
    n_members : int
    fraction : float
        Of each class, that each of less than five members holds out.
    n_most : int
        Equal folds, at most.
    """

    n_members: int
    fraction: float
    n_most: int = MOST_FOLDS

    @property
    def is_even(self) -> bool:
        """Whether there are equal folds, and each unit is in one."""
        return self.n_members >= FEWEST_FOLDS

    @property
    def n_folds(self) -> int:
        """The number of folds, of which some may be empty."""
        return min(self.n_members, self.n_most) if self.is_even else 2**self.n_members - 1

    @property
    def judges(self) -> np.ndarray | None:
        """Which members hold out which fold; None for the rule of equal folds."""
        if self.is_even:
            return None
        sets = np.arange(1, self.n_folds + 1)[:, np.newaxis]
        return (sets >> np.arange(self.n_members)) % 2 == 1

    def deal(self, n_units: int, n_dealt: int = 0) -> np.ndarray:
        """Return the fold of each unit of a shuffled class; one alone is in none.

        `n_dealt` units of the other class have gone before: equal folds are filled in turn.
        """
        if n_units < 2:
            return np.full(n_units, IN_NO_FOLD)
        if self.is_even:
            return (n_dealt + np.arange(n_units)) % self.n_folds
        n_out = min(max(round(self.fraction * n_units), 1), n_units - 1)
        is_apart = n_out * self.n_members <= n_units
        holders = np.zeros(n_units, np.intp)
        for member in range(self.n_members):
            start = member * n_out if is_apart else member * n_units // self.n_members
            holders[(start + np.arange(n_out)) % n_units] += 1 << member
        return holders - 1

    def count(self, folds: np.ndarray) -> np.ndarray:
        """Count units by their folds, those in none first."""
        return np.bincount(folds - IN_NO_FOLD, minlength=self.n_folds + 1)

    def shares(self) -> np.ndarray:
        """Return which share of a large class goes to each fold, to none first."""
        n_units = 1_000 * self.n_folds if self.is_even else 10_000
        return self.count(self.deal(n_units)) / n_units


def deal_folds(
    rows: Rows, n_members: int, fraction: float, rng: np.random.Generator
) -> tuple[Rows, Folds]:
    """Give each member rows to hold out; return the rows, some cut into parts, and the folds.

    There are as many folds as members, up to ten. Less than five members hold out `fraction` of the
    rows each.
    """
    deck = Deck(n_members, fraction)
    if rows.group is not None and deck.is_even:
        deck = Deck(n_members, fraction, min(MOST_FOLDS, max(2, int(rows.group.max()) + 1)))
    rows, of_row = _deal(rows, deck, rng)
    return rows, Folds(of_row, n_members, deck.n_folds, deck.judges)


def split_validation(rows: Rows, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Hold out a fraction of each class: return the rows to train and to validate on.

    A class keeps at least one unit to learn from, and gives at least one away if it has two. Rows
    to train on, which are most, stay where they are.
    """
    rows, of_row = _deal(rows, Deck(1, fraction), rng)
    is_training = of_row == IN_NO_FOLD
    return rows.select(np.flatnonzero(is_training)), rows.take(np.flatnonzero(~is_training))


def _deal(rows: Rows, deck: Deck, rng: np.random.Generator) -> tuple[Rows, np.ndarray]:
    """Return the rows, some cut into parts, and the fold of each."""
    if rows.group is not None:
        return rows, _deal_groups(rows, rows.group, deck, rng)
    alike = Alike.find(rows)
    if alike is None:
        return rows, _deal_units(rows.y, np.ones(len(rows), np.intp), deck, rng)[0]
    counts = alike.counts.copy()
    counts[(counts > MOST_UNITS) | (alike.is_least & alike.is_single)] = 0
    counts[~alike.is_shared] = 1
    if alike.is_least:
        # A member that holds out more rows of one label has learned less of it: by its own logits
        # an x would seem to be of the other one, in the rows of that label.
        rows = replace(rows, judged_as=alike.number)
    is_unit = alike.is_shared | (alike.first == np.arange(len(rows)))
    units = np.flatnonzero(is_unit)
    of_unit, cuts = _deal_units(rows.y[units], counts[units].astype(np.intp), deck, rng)
    of_row = np.empty(len(rows), of_unit.dtype)
    of_row[units] = of_unit
    of_row[~is_unit] = of_row[alike.first[~is_unit]]
    return _cut(rows, of_row, {int(units[unit]): shares for unit, shares in cuts.items()})


def _deal_units(
    y: np.ndarray, counts: np.ndarray, deck: Deck, rng: np.random.Generator
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return the fold of each row, and of those to be cut which share goes to each fold.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
    counts : ndarray of int of shape (n_rows,)
        Units that each row is: 1 keeps it whole, 0 shares it evenly.
    deck : Deck
    rng : Generator
    """
    of_row = np.full(len(y), IN_NO_FOLD, np.min_scalar_type(-deck.n_folds))
    cuts = dict.fromkeys(np.flatnonzero(counts == 0).tolist(), deck.shares())
    n_dealt = 0
    for label in np.unique(y):
        of_class = y == label
        folds = deck.deal(int(counts[of_class].sum()), n_dealt)
        several = np.flatnonzero(of_class & (counts > 1)).tolist()
        if several:
            left = deck.count(folds)
            for row in several:
                own = rng.multivariate_hypergeometric(left, counts[row], method="marginals")
                left, cuts[row] = left - own, own / counts[row]
            folds = np.repeat(np.arange(deck.n_folds + 1) + IN_NO_FOLD, left)
        of_row[rng.permutation(np.flatnonzero(of_class & (counts == 1)))] = folds
        n_dealt += int(np.count_nonzero(folds != IN_NO_FOLD))
    return of_row, cuts


def _cut(rows: Rows, of_row: np.ndarray, cuts: dict[int, np.ndarray]) -> tuple[Rows, np.ndarray]:
    """Cut rows into parts, one for each fold that has a share; return all, and their folds."""
    if not cuts:
        return rows, of_row
    n_parts = np.ones(len(rows), np.intp)
    for row, shares in cuts.items():
        n_parts[row] = np.count_nonzero(shares)
    index = np.repeat(np.arange(len(rows)), n_parts)
    starts = np.cumsum(n_parts) - n_parts
    share, folds = np.ones(len(index)), of_row[index]
    for row, shares in cuts.items():
        parts = slice(starts[row], starts[row] + n_parts[row])
        [found] = np.nonzero(shares)
        share[parts], folds[parts] = shares[found], found + IN_NO_FOLD
    return rows.cut(index, share), folds


def _deal_groups(rows: Rows, group: np.ndarray, deck: Deck, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each row, the same for all rows of a group.

    One group after the other goes where the classes' shares come nearest to what they should be,
    those with the most of a class first. No member may be left without a class to learn from: a
    group that has all of one is held out by nobody.

    Raises
    ------
    ValueError
        If no group can be held out.
    """
    weight = np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight
    of_class = [
        np.bincount(group, np.where(rows.y == label, weight, 0.0)) for label in np.unique(rows.y)
    ]
    shares = np.stack([total / total.sum() for total in of_class], axis=1)
    goal = (deck.count(deck.deal(len(shares))) / len(shares)).tolist()
    judges: list[Any] = [[], *Folds.find_judges(deck.n_folds, deck.n_members, deck.judges)]
    order = rng.permutation(len(shares))
    order = order[np.argsort(-shares.max(axis=1)[order], kind="stable")]
    n_classes = shares.shape[1]
    dealt = [[0.0] * n_classes for _ in goal]  # of each class to each fold
    held_out = [[0.0] * n_classes for _ in range(deck.n_members)]
    fold_of_group = np.full(len(shares), IN_NO_FOLD)
    folds = [fold for fold, its_goal in enumerate(goal) if its_goal > 0.0]

    def takes_all(fold: int, own: list[float]) -> bool:
        return any(
            share > 0.0 and held_out[member][c] + share > 1.0 - 1e-9
            for member in judges[fold]
            for c, share in enumerate(own)
        )

    def cost(fold: int, own: list[float]) -> float:
        """Say by how much the squared distance to the goal grows, relative to it."""
        growth = (
            share * (2.0 * (before - goal[fold]) + share)
            for share, before in zip(own, dealt[fold], strict=True)
        )
        return sum(growth) / goal[fold]

    for number in order.tolist():
        own = shares[number].tolist()
        free = [fold for fold in folds if not takes_all(fold, own)]
        if not free:
            continue
        best = min(free, key=partial(cost, own=own))
        fold_of_group[number] = best + IN_NO_FOLD
        for c, share in enumerate(own):
            dealt[best][c] += share
            for member in judges[best]:
                held_out[member][c] += share
    if (fold_of_group == IN_NO_FOLD).all():
        raise ValueError(
            f"groups must leave some rows of each class to learn from when one is held out, but of "
            f"{len(shares)} group(s) none does. Take more groups, pass X_val and y_val, or set "
            "early_stopping=False."
        )
    return fold_of_group.astype(np.min_scalar_type(-deck.n_folds))[group]
