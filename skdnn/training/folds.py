"""Folds: each member holds out rows of its own, never trains on them, and is validated on them.

An ensemble then validates on all rows, and still trains on all of them.

Rows are assigned to folds class by class; copies of a row, and rows of a group, go to the same
fold. A unit is what is assigned as a whole: a row with all its copies, since a network that has
seen one of them knows the others. Where the same x has both labels, or few x are distinct, each
copy is a unit, and a row whose weight is that of several units is cut into parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..utils import ROUNDING
from .prediction import join_logits
from .rows import Rows, position_dtype, row_bytes

IN_NO_FOLD = -1
"""In the place of a fold: every member trains on the row, and none is validated on it."""

MOST_FOLDS = 10
"""Folds at most: a member then trains on nine tenths of the rows, and more would add little."""

POOLED_AT_ONCE = 1 << 15
"""Logits that are pooled at once, since that takes several arrays of the same size."""

FEWEST_FOLDS = 5
"""Members from which on folds have equal size. Fewer members each hold out a fraction of the rows,
since equal folds would leave them too few to learn from."""

FEW_X = 16
"""Number of distinct x below which they are few: a fold would have all copies of one."""

MOST_X, COPIES_OF_X = 64, 8
"""Up to so many distinct x are few too, if each has so many copies on average: new rows will hardly
differ from all of them, and a fold would have all copies of several."""

MOST_COUNTED = 1_000
"""Largest number of units in the least weight; weights that need more have no unit."""

MOST_UNITS = 1_000
"""Units of one row above which each fold gets an equal share, close to what chance would give."""

MOST_UNITS_IN_ALL = 10_000_000
"""Units of all rows above which each row of several units is shared equally by all folds."""

SHARES = 10_080
"""Units from which shares of folds are computed; every number of folds up to 10 divides it."""


@dataclass(frozen=True)
class HeldOut:
    """The rows that each member holds out, side by side, by their positions among all rows.

    Labels and weights are gathered when they are needed: those of all rows would take as much
    memory as several columns of the table. A member with fewer rows than another has its last one
    repeated, with weight zero.

    Attributes
    ----------
    rows : Rows
        All rows.
    places : ndarray of int of shape (n_members, n_samples)
        The positions among them of those that each member holds out.
    counts : ndarray of int of shape (n_members,)
        How many these are, without repetitions.
    of_row : ndarray of int of shape (n_rows,)
        The fold of each row.
    factors : ndarray of shape (n_folds,)
        What the weights of a fold are multiplied by: members that hold out the same row share its
        weight, and the weights sum to n_samples, so that a member's mean loss is its share of the
        mean loss over all rows held out.
    """

    rows: Rows
    places: np.ndarray
    counts: np.ndarray
    of_row: np.ndarray
    factors: np.ndarray

    @cached_property
    def labels(self) -> np.ndarray:
        """The labels of the samples: (n_members, n_samples)."""
        return self.rows.y[self.places]

    @cached_property
    def weights(self) -> np.ndarray:
        """How much the samples count for their member: (n_members, n_samples)."""
        weight = self.rows.sample_weight
        is_own = np.arange(self.places.shape[1]) < self.counts[:, np.newaxis]
        own = is_own * self.factors[self.of_row[self.places]]
        if weight is not None:
            own *= weight[self.places]
        return own.astype(self.rows.y.dtype, copy=False)

    def row_weights(self) -> np.ndarray:
        """Return the weight of each row of the table: zero where no member holds it out."""
        weight = self.weights.ravel()
        return np.bincount(self.places.ravel(), weight, minlength=len(self.rows))

    def pool(self, logits: np.ndarray) -> np.ndarray:
        """Return the logit of the mean probability of the members that hold a row out.

        Rows of the same `logit_index` have the same one. It is NaN where no member holds a row out.

        Parameters
        ----------
        logits : ndarray of shape (n_members, n_samples)
        """
        number, rows = self.rows.logit_index, self.rows
        pooled = np.full(len(rows) if number is None else int(number.max()) + 1, np.nan)
        of_place = self.places if number is None else number[self.places]
        is_own = np.arange(self.places.shape[1]) < self.counts[:, np.newaxis]
        for start in range(0, len(pooled), POOLED_AT_ONCE):
            is_next = is_own & (of_place >= start) & (of_place < start + POOLED_AT_ONCE)
            places = self.places[is_next]
            weight = self.factors[self.of_row[places]]
            if rows.sample_weight is not None:
                weight = np.maximum(weight * rows.sample_weight[places], np.finfo(np.float32).tiny)
            found, joined = join_logits(of_place[is_next], logits[is_next], weight)
            pooled[found] = joined
        return pooled if number is None else pooled[number]


@dataclass(frozen=True)
class Folds:
    """Which rows each member holds out.

    All members train on the rows of a fold that no member holds out.

    Attributes
    ----------
    of_row : ndarray of int of shape (n_rows,)
        The fold of each row, or `IN_NO_FOLD`.
    holders : ndarray of bool of shape (n_folds, n_members)
        Whether a member holds out a fold.
    """

    of_row: np.ndarray
    holders: np.ndarray

    def __len__(self) -> int:
        return len(self.of_row)

    @property
    def n_folds(self) -> int:
        """The number of folds, of which some may be empty."""
        return self.holders.shape[0]

    @property
    def n_members(self) -> int:
        """The number of members."""
        return self.holders.shape[1]

    @property
    def n_training(self) -> int:
        """The least number of rows that a member learns from.

        Folds that no member holds out count too, so that it is the same for a member alone.
        """
        sizes = np.bincount(self.of_row[self.of_row >= 0], minlength=self.n_folds)
        return int(len(self) - max(sizes.max(), (sizes @ self.holders).max()))

    def is_held_out(self, member: int) -> np.ndarray:
        """Say of each row whether a member holds it out."""
        return np.append(self.holders[:, member], False)[self.of_row]

    def training_index(self, member: int) -> np.ndarray:
        """Return the positions of the rows that a member learns from."""
        return np.flatnonzero(~self.is_held_out(member))

    def validation_index(self, member: int) -> np.ndarray:
        """Return the positions of the rows that a member holds out."""
        return np.flatnonzero(self.is_held_out(member))

    def training_weights(self, rows: Rows, block: slice = slice(None)) -> np.ndarray:
        """Return (n_members, n_rows) weights of a block of rows: zero for rows held out."""
        is_held_out = np.pad(self.holders.T, ((0, 0), (0, 1))).take(self.of_row[block], axis=1)
        weight = 1.0 if rows.sample_weight is None else rows.sample_weight[block]
        return np.multiply(~is_held_out, weight, dtype=np.float64)

    def hold_out(self, rows: Rows) -> HeldOut:
        """Find the rows that each member holds out.

        Raises
        ------
        ValueError
            If the weights of all of them are negligible.
        """
        own = [self.validation_index(member) for member in range(self.n_members)]
        counts = np.array([len(index) for index in own])
        n_samples = int(counts.max())
        places = np.zeros((self.n_members, n_samples), position_dtype(len(self)))
        factors, total_weight = 1.0 / np.maximum(self.holders.sum(axis=1), 1), 0.0
        for of_member, index in zip(places, own, strict=True):
            of_member[: len(index)] = index
            of_member[len(index) :] = index[-1:]
            weight = 1.0 if rows.sample_weight is None else rows.sample_weight[index]
            total_weight += float((factors[self.of_row[index]] * weight).sum(dtype=np.float64))
        if total_weight == 0.0:
            raise ValueError(
                "sample_weight of all rows that are held out is next to nothing beside that of "
                "others, and there is nothing to validate by. Bring the weights nearer together, "
                "or set early_stopping=False."
            )
        factors *= n_samples / total_weight
        return HeldOut(rows, places, counts, self.of_row, factors)


def make_holders(n_members: int, n_groups: int | None = None) -> np.ndarray:
    """Say which member holds out which fold, in shape (n_folds, n_members).

    Of five members or more, member m holds out fold ``m % n_folds``. Fewer members hold out parts
    that may overlap: there is a fold for each set of members that hold out the same rows, numbered
    by the bits of the set, less one.
    """
    if n_members < FEWEST_FOLDS:
        sets = np.arange(1, 2**n_members)[:, np.newaxis]
        return (sets >> np.arange(n_members)) % 2 == 1
    n_folds = min(n_members, MOST_FOLDS)
    if n_groups is not None:
        n_folds = min(n_folds, max(2, n_groups))
    return np.arange(n_members) % n_folds == np.arange(n_folds)[:, np.newaxis]


def assign_folds(
    rows: Rows, n_members: int, fraction: float, rng: np.random.Generator
) -> tuple[Rows, Folds]:
    """Assign rows to the folds of members; return the rows, some cut into parts, and the folds.

    There are as many folds as members, up to ten, and no more than groups. Less than five members
    hold out `fraction` of the rows each.
    """
    n_groups = None if rows.group is None else int(rows.group.max()) + 1
    sizes = FoldSizes(make_holders(n_members, n_groups), fraction)
    rows, of_row = _assign(rows, sizes, rng)
    return rows, Folds(of_row, sizes.holders)


def split_validation(rows: Rows, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Hold out a fraction of each class: return the rows to train and to validate on.

    At least one unit of each class is trained on, and if there are two, at least one is held out.
    Rows to train on, which are most, are not copied.
    """
    rows, of_row = _assign(rows, FoldSizes(make_holders(1), fraction), rng)
    is_training = of_row == IN_NO_FOLD
    training = rows.take(np.flatnonzero(is_training), is_view=True)
    return training, rows.take(np.flatnonzero(~is_training))


@dataclass(frozen=True)
class FoldSizes:
    """How many units of a class go to which fold.

    Attributes
    ----------
    holders : ndarray of bool of shape (n_folds, n_members)
        Whether a member holds out a fold; see `make_holders`.
    fraction : float
        Of each class, that each of less than five members holds out.
    """

    holders: np.ndarray
    fraction: float

    def list_folds(self, n_units: int, n_assigned: int = 0) -> np.ndarray:
        """Return the fold of each unit of a shuffled class; a single unit is in none.

        `n_assigned` is the number of units of the other class that have a fold: folds of equal size
        are filled cyclically, and continue from there.
        """
        n_folds, n_members = self.holders.shape
        if n_units < 2:
            return np.full(n_units, IN_NO_FOLD)
        if n_members >= FEWEST_FOLDS:
            return (n_assigned + np.arange(n_units)) % n_folds
        n_out = min(max(round(self.fraction * n_units), 1), n_units - 1)
        is_apart = n_out * n_members <= n_units
        sets = np.zeros(n_units, np.intp)
        for member in range(n_members):
            start = member * n_out if is_apart else member * n_units // n_members
            sets[(start + np.arange(n_out)) % n_units] += 1 << member
        return sets - 1

    def shares(self, n_units: int = SHARES) -> np.ndarray:
        """Return the share of each fold, of none first, in a class of so many units."""
        folds = self.list_folds(n_units) - IN_NO_FOLD
        return np.bincount(folds, minlength=len(self.holders) + 1) / n_units


def _assign(rows: Rows, sizes: FoldSizes, rng: np.random.Generator) -> tuple[Rows, np.ndarray]:
    """Return the rows, some cut into parts, and the fold of each."""
    dtype, n_folds = np.min_scalar_type(-len(sizes.holders)), len(sizes.holders)
    if rows.group is not None:
        return rows, _assign_groups(rows, rows.group, sizes, rng).astype(dtype)
    rows, first, n_units = _find_units(rows)
    row_of_unit = np.repeat(np.arange(len(rows), dtype=first.dtype), n_units)
    of_unit = np.empty(len(row_of_unit), dtype)
    n_assigned = 0
    for label in np.unique(rows.y):
        of_class = np.flatnonzero(rows.y[row_of_unit] == label)
        folds = sizes.list_folds(len(of_class), n_assigned)
        of_unit[rng.permutation(of_class)] = folds
        n_assigned += int(np.count_nonzero(folds != IN_NO_FOLD))
    if (n_units[first] == 1).all():
        of_row = np.empty(len(rows), dtype)
        of_row[row_of_unit] = of_unit
        return rows, of_row[first]
    # A row has a part for each fold that one of its units is in.
    places = row_of_unit * (n_folds + 1) + (of_unit - IN_NO_FOLD)
    parts = np.bincount(places, minlength=len(rows) * (n_folds + 1)).reshape(len(rows), -1)
    parts = parts / np.maximum(n_units, 1)[:, np.newaxis]
    parts[n_units == 0] = sizes.shares()
    parts = parts[first]
    index, folds = np.nonzero(parts)
    return rows.cut(index, parts[index, folds]), (folds + IN_NO_FOLD).astype(dtype)


def _find_units(rows: Rows) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Return the rows, the first row of the unit of each one, and how many units each one is.

    A row of no units is in the unit of another row, or else is shared by all folds.
    """
    copies, own = Copies.find(rows), np.arange(len(rows), dtype=position_dtype(len(rows)))
    if copies is None:
        return rows, own, np.ones(len(rows), np.int8)
    n_units = copies.n_units.copy()
    if copies.are_few:
        # A member that holds out more rows of a label has trained on fewer, and its logits lean
        # to the other: copies get one logit, of all members that hold out any of them.
        rows = replace(rows, logit_index=copies.first)
        n_units[copies.is_single] = 0
    n_units[n_units > MOST_UNITS] = 0
    first = np.where(copies.are_apart, own, copies.first)
    n_units[~copies.are_apart] = (first == own)[~copies.are_apart]
    if n_units.sum() > MOST_UNITS_IN_ALL:
        n_units[n_units > 1] = 0
    return rows, first, n_units.astype(np.intp)


def repeat_counted(rows: Rows, n_most: int) -> Rows:
    """Turn weights into copies where each copy is a unit: the inverse of merging.

    A table with counts for weights then takes as many steps as the table that was counted. There
    are about `n_most` rows at most; where there are more units, each copy is several.
    """
    copies = Copies.find(rows)
    if copies is None:
        return rows
    n_copies = np.where(copies.are_apart, copies.n_units, 1.0)
    n_copies *= min(1.0, n_most / n_copies.sum())
    times = np.maximum(np.rint(n_copies), 1.0).astype(np.intp)
    if (times == 1).all():
        return rows
    index = np.repeat(np.arange(len(rows)), times)
    return rows.cut(index, 1.0 / times[index])


class Copies(NamedTuple):
    """Which rows have the same x, and whether each of them is a unit.

    Attributes
    ----------
    first : ndarray of int of shape (n_rows,)
        The position of the first row with the same x.
    is_single : ndarray of bool of shape (n_rows,)
        Whether no other row has the same x and label.
    n_units : ndarray of shape (n_rows,)
        How many units each row is by its weight; 0 where the weights have no unit.
    are_few : bool
        Whether less than `FEW_X` x are distinct.
    are_apart : ndarray of bool of shape (n_rows,)
        Whether each copy of a row is a unit of its own.
    """

    first: np.ndarray
    is_single: np.ndarray
    n_units: np.ndarray
    are_few: bool
    are_apart: np.ndarray

    @classmethod
    def find(cls, rows: Rows) -> Copies | None:
        """Compare the rows of a table; None if all are different and many."""
        n_rows, first = len(rows), find_first_identical(rows.X)
        n_distinct = int(np.count_nonzero(first == np.arange(n_rows)))
        if n_distinct == n_rows > MOST_X:
            return None
        n_copies = np.stack(
            [np.bincount(first[rows.y == y], minlength=n_rows)[first] for y in (0.0, 1.0)]
        )
        is_single = np.where(rows.y == 1.0, n_copies[1], n_copies[0]) == 1
        n_units = count_units(rows, is_single)
        are_few = n_distinct < FEW_X
        are_often = bool(np.maximum(n_units, 1.0).sum() >= COPIES_OF_X * n_distinct)
        is_observed = are_few or (n_distinct <= MOST_X and are_often)
        are_apart = (n_copies > 0).all(axis=0) | np.full(n_rows, is_observed)
        return cls(first, is_single, n_units, are_few, are_apart)


def find_first_identical(X: Any) -> np.ndarray:
    """Return the position of the first row that is equal to each one.

    Rows are compared by hashes of 64 bits: in a table of a million rows, two different ones have
    the same hash with a probability of about 10^-7.
    """
    hashes = np.fromiter(map(hash, row_bytes(X)), np.int64, X.shape[0])
    ordered = np.sort(hashes)  # takes less memory than what follows
    if (ordered[1:] != ordered[:-1]).all():
        return np.arange(len(hashes))
    _, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    return first[number]


def count_units(rows: Rows, is_single: np.ndarray) -> np.ndarray:
    """Return how many units each row is by its weight; 0 where the weights have no unit.

    The weights of a class are multiples of some unit, of any size. Where they have none, a row with
    copies is one unit, and how many units a single row is remains unknown.
    """
    counts = np.ones(len(rows))
    if rows.sample_weight is None:
        return counts
    for label in np.unique(rows.y):
        of_class = rows.y == label
        weight = rows.sample_weight[of_class]
        unit = find_unit(np.unique(weight))
        counts[of_class] = ~is_single[of_class] if unit is None else np.rint(weight / unit)
    return counts


def find_unit(weights: np.ndarray, rounding: float = ROUNDING) -> float | None:
    """Return the largest unit that all weights, in ascending order, are whole multiples of.

    The least weight is `MOST_COUNTED` units at most; with more, None.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        units = weights[0] / np.arange(1, MOST_COUNTED + 1)
        some_are_whole = _are_whole(weights[:100] / units[:, np.newaxis], rounding).all(axis=1)
        for unit in units[some_are_whole].tolist():
            if _are_whole(weights / unit, rounding).all():
                return unit
    return None


def _are_whole(numbers: np.ndarray, rounding: float) -> np.ndarray:
    return np.abs(numbers - np.rint(numbers)) <= rounding * numbers


def _assign_groups(
    rows: Rows, group: np.ndarray, sizes: FoldSizes, rng: np.random.Generator
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
    of_group = _balance_groups(shares[order], sizes)[order.argsort()]
    if (of_group == IN_NO_FOLD).all():
        raise ValueError(
            f"groups must leave some rows of each class to learn from when one is held out, but of "
            f"{len(shares)} group(s) none does. Take more groups, pass X_val and y_val, or set "
            "early_stopping=False."
        )
    return of_group[group]


def _balance_groups(shares: np.ndarray, sizes: FoldSizes) -> np.ndarray:
    """Return the fold of each group, given its share of each class.

    One after the other, each group goes to the fold where it adds least to the squared distance
    between the classes' shares and the size that the fold should have, relative to that size. No
    member may lack a class to learn from: a group that has all rows of one is in no fold.
    """
    of_group = np.full(len(shares), IN_NO_FOLD)
    goal = sizes.shares(len(shares))
    folds = np.flatnonzero(goal)
    goal = goal[folds, np.newaxis]
    holders = np.pad(sizes.holders, ((1, 0), (0, 0)))[folds]  # no member holds out IN_NO_FOLD
    assigned = np.zeros((len(folds), shares.shape[1]))
    held_out = np.zeros((holders.shape[1], shares.shape[1]))
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
