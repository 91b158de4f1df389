"""Assignment of rows to folds, class by class: copies of a row, and rows of a group, go together.

A unit is what goes to one fold as a whole: a row with all its copies, since a network that has seen
one of them knows the others. Where the same x bears both labels, or few x are distinct, each copy
is a unit, and a row whose weight stands for several units is cut into parts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .._values import frozen
from .folds import FEWEST_FOLDS, IN_NO_FOLD, MOST_FOLDS, Folds, even_holders
from .identical_rows import Alike
from .rows import Rows

MOST_UNITS = 1_000
"""Units of one weight above which each fold gets an equal share: chance would hardly show."""


@frozen
class FoldRule:
    """How many units of a class go to which fold.

    Five members or more have folds of equal size, and member m holds out fold ``m % n_folds``.
    Fewer members hold out a fraction each, which do not overlap as long as there are units enough:
    there is a fold for each set of members that hold out the same units, numbered by the bits of
    the set, less one.

    Attributes
    ----------
    n_members : int
    fraction : float
        Of each class, that each of less than five members holds out.
    n_most : int
        Folds of equal size, at most.
    """

    n_members: int
    fraction: float
    n_most: int = MOST_FOLDS

    @property
    def is_even(self) -> bool:
        """Whether folds have equal size, and each unit is in one of them."""
        return self.n_members >= FEWEST_FOLDS

    @property
    def n_folds(self) -> int:
        """The number of folds, of which some may be empty."""
        return min(self.n_members, self.n_most) if self.is_even else 2**self.n_members - 1

    @property
    def holders(self) -> np.ndarray:
        """Whether a member holds out a fold, of shape (n_folds, n_members)."""
        if self.is_even:
            return even_holders(self.n_folds, self.n_members)
        sets = np.arange(1, self.n_folds + 1)[:, np.newaxis]
        return (sets >> np.arange(self.n_members)) % 2 == 1

    def assign(self, n_units: int, n_assigned: int = 0) -> np.ndarray:
        """Return the fold of each unit of a shuffled class; a single unit is in none.

        `n_assigned` counts the units of the other class that have a fold: folds of equal size are
        filled in turn.
        """
        if n_units < 2:
            return np.full(n_units, IN_NO_FOLD)
        if self.is_even:
            return (n_assigned + np.arange(n_units)) % self.n_folds
        n_out = min(max(round(self.fraction * n_units), 1), n_units - 1)
        is_apart = n_out * self.n_members <= n_units
        sets = np.zeros(n_units, np.intp)
        for member in range(self.n_members):
            start = member * n_out if is_apart else member * n_units // self.n_members
            sets[(start + np.arange(n_out)) % n_units] += 1 << member
        return sets - 1

    def count(self, folds: np.ndarray) -> np.ndarray:
        """Count the units of each fold, those of no fold first."""
        return np.bincount(folds - IN_NO_FOLD, minlength=self.n_folds + 1)

    def shares(self) -> np.ndarray:
        """Return the share of a large class that each fold gets, that of no fold first."""
        n_units = 1_000 * self.n_folds if self.is_even else 10_000
        return self.count(self.assign(n_units)) / n_units


def assign_folds(
    rows: Rows, n_members: int, fraction: float, rng: np.random.Generator
) -> tuple[Rows, Folds]:
    """Assign rows to the folds of members; return the rows, some cut into parts, and the folds.

    There are as many folds as members, up to ten. Less than five members hold out `fraction` of the
    rows each.
    """
    rule = FoldRule(n_members, fraction)
    if rows.group is not None and rule.is_even:
        rule = FoldRule(n_members, fraction, min(MOST_FOLDS, max(2, int(rows.group.max()) + 1)))
    rows, of_row = _assign(rows, rule, rng)
    return rows, Folds(of_row, n_members, rule.n_folds, rule.holders)


def split_validation(rows: Rows, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Hold out a fraction of each class: return the rows to train and to validate on.

    At least one unit of each class is trained on, and if there are two, at least one is held out.
    Rows to train on, which are most, are not copied.
    """
    rows, of_row = _assign(rows, FoldRule(1, fraction), rng)
    is_training = of_row == IN_NO_FOLD
    return rows.select(np.flatnonzero(is_training)), rows.take(np.flatnonzero(~is_training))


def _assign(rows: Rows, rule: FoldRule, rng: np.random.Generator) -> tuple[Rows, np.ndarray]:
    """Return the rows, some cut into parts, and the fold of each."""
    if rows.group is not None:
        return rows, _assign_groups(rows, rows.group, rule, rng)
    alike = Alike.find(rows)
    if alike is None:
        return rows, _assign_units(rows.y, np.ones(len(rows), np.intp), rule, rng)[0]
    counts = alike.counts.copy()
    counts[(counts > MOST_UNITS) | (alike.has_few_x & alike.is_single)] = 0
    counts[~alike.is_shared] = 1
    if alike.has_few_x:
        # A member that holds out more rows of a label has learned less of it, and its logits lean
        # to the other label: copies get one logit, of the members that hold out any of them.
        rows = replace(rows, logit_index=alike.number)
    is_unit = alike.is_shared | (alike.first == np.arange(len(rows)))
    units = np.flatnonzero(is_unit)
    of_unit, cuts = _assign_units(rows.y[units], counts[units].astype(np.intp), rule, rng)
    of_row = np.empty(len(rows), of_unit.dtype)
    of_row[units] = of_unit
    of_row[~is_unit] = of_row[alike.first[~is_unit]]
    return _cut(rows, of_row, {int(units[unit]): shares for unit, shares in cuts.items()})


def _assign_units(
    y: np.ndarray, counts: np.ndarray, rule: FoldRule, rng: np.random.Generator
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return the fold of each row, and for rows to be cut the share that each fold gets.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
    counts : ndarray of int of shape (n_rows,)
        Units that each row is: 1 keeps it whole, 0 gives each fold its share of it.
    rule : FoldRule
    rng : Generator
    """
    of_row = np.full(len(y), IN_NO_FOLD, np.min_scalar_type(-rule.n_folds))
    cuts = dict.fromkeys(np.flatnonzero(counts == 0).tolist(), rule.shares())
    n_assigned = 0
    for label in np.unique(y):
        of_class = y == label
        folds = rule.assign(int(counts[of_class].sum()), n_assigned)
        several = np.flatnonzero(of_class & (counts > 1)).tolist()
        if several:
            left = rule.count(folds)
            for row in several:
                own = rng.multivariate_hypergeometric(left, counts[row], method="marginals")
                left, cuts[row] = left - own, own / counts[row]
            folds = np.repeat(np.arange(rule.n_folds + 1) + IN_NO_FOLD, left)
        of_row[rng.permutation(np.flatnonzero(of_class & (counts == 1)))] = folds
        n_assigned += int(np.count_nonzero(folds != IN_NO_FOLD))
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


def _assign_groups(
    rows: Rows, group: np.ndarray, rule: FoldRule, rng: np.random.Generator
) -> np.ndarray:
    """Return the fold of each row, the same for all rows of a group.

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
    of_group = _balance_groups(shares[order], rule)[order.argsort()]
    if (of_group == IN_NO_FOLD).all():
        raise ValueError(
            f"groups must leave some rows of each class to learn from when one is held out, but of "
            f"{len(shares)} group(s) none does. Take more groups, pass X_val and y_val, or set "
            "early_stopping=False."
        )
    return of_group.astype(np.min_scalar_type(-rule.n_folds))[group]


def _balance_groups(shares: np.ndarray, rule: FoldRule) -> np.ndarray:
    """Return the fold of each group, given its share of each class.

    One after the other, each group goes to the fold where it adds least to the squared distance
    between the classes' shares and the size that the fold should have, relative to that size. No
    member may be left without a class to learn from: a group that has all of one is in no fold.
    """
    of_group = np.full(len(shares), IN_NO_FOLD)
    goal = rule.count(rule.assign(len(shares))) / len(shares)
    folds = np.flatnonzero(goal)
    goal = goal[folds, np.newaxis]
    holders = np.vstack([np.zeros(rule.n_members, bool), rule.holders])[folds]
    assigned = np.zeros((len(folds), shares.shape[1]))
    held_out = np.zeros((rule.n_members, shares.shape[1]))
    for number, own in enumerate(shares):
        has_all = ((own > 0.0) & (held_out + own > 1.0 - 1e-9)).any(axis=1)  # (n_members,)
        growth = (own * (2.0 * (assigned - goal) + own)).sum(axis=1) / goal[:, 0]
        growth[holders @ has_all] = np.inf
        best = growth.argmin()
        if growth[best] < np.inf:
            of_group[number] = folds[best] + IN_NO_FOLD
            assigned[best] += own
            held_out[holders[best]] += own
    return of_group
