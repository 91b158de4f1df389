"""Rows to learn from, with labels, weights and groups, and who of the members holds out which.

Each member leaves some rows out of its training, and is validated on them: an ensemble validates on
all rows, and still trains on all of them. What is held out as a whole is a unit: a group, or a row
with all its copies, since a network that has seen one of them knows the others. Where equal rows
are observations of their own, see `are_observations`, every row is a unit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..utils import cut_rows
from .state import TrainingPlan, TrainingState, make_stream

MOST_LEVELS, COPIES_OF_LEVEL = 64, 5
"""Up to so many distinct x, each of so many copies on average, are levels: new rows will hardly
differ from all of them, and each copy is an observation."""

SHARE_OF_MIXED = 0.1
"""Of the x that stand there more than once, those that bear both labels: from this share on, copies
are observations too. Rows that somebody has copied bear one label."""

MOST_COUNTED = 10_000
"""Rows that weights are turned into, at most about; a row then stands for several."""

NOBODY = 0
"""The first set of members: every member trains on the row, and none is validated on it."""

MOST_FOLDS = 10
"""Folds at most: a member then trains on nine tenths of the rows, and more would add little."""

FEWEST_FOLDS = 5
"""Members from which on folds have equal size. Fewer members each hold out a fraction of the rows,
since equal folds would leave them too few to learn from."""


@dataclass(frozen=True)
class Rows:
    """A table in the dtype of training, with labels and weights.

    Attributes
    ----------
    X : ndarray, or CSR matrix or array, of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        0.0 or 1.0.
    sample_weight : ndarray of shape (n_samples,) or None
        None stands for ones. In float64, until `normalize_weights` brings them into its range.
    place : ndarray of int of shape (n_given,) or None
        Where each row of the table that these were taken from now stands: its position, or -1 if
        it is not among them. None stands for a table as it was given.
    group : ndarray of int of shape (n_samples,) or None
        The number of the group that each row belongs to.
    is_held_out : ndarray of bool of shape (n_members, n_samples) or None
        Which rows each member leaves out of its training, to be validated on them; see `hold_out`.
        None stands for none.
    """

    X: Any
    y: np.ndarray
    sample_weight: np.ndarray | None = None
    place: np.ndarray | None = None
    group: np.ndarray | None = None
    is_held_out: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def weights(self) -> np.ndarray:
        """The weights, or ones if there are none."""
        return np.ones(len(self)) if self.sample_weight is None else self.sample_weight

    def take(self, index: np.ndarray) -> Rows:
        """Return the rows at these positions; the place of a row taken twice is the last one."""
        moved_to = np.full(len(self), -1, np.min_scalar_type(-1 - len(index)))
        moved_to[index] = np.arange(len(index))
        weight, group = (None if a is None else a[index] for a in (self.sample_weight, self.group))
        return Rows(self.X[index], self.y[index], weight, self._follow(moved_to), group)

    def _follow(self, moved_to: np.ndarray) -> np.ndarray:
        """Return the place of each given row when the one at i has moved to `moved_to[i]`."""
        if self.place is None:
            return moved_to
        return np.append(moved_to, -1)[self.place]  # position -1 reads the last entry, which is -1

    def with_groups(self, group: np.ndarray) -> Rows:
        """Return the rows with the number of the group of each one that was given."""
        if self.place is not None:
            is_here = self.place >= 0
            group_given, group = group, np.empty(len(self), group.dtype)
            group[self.place[is_here]] = group_given[is_here]
        return replace(self, group=np.unique(group, return_inverse=True)[1])

    def drop_weightless(self) -> Rows:
        """Leave out rows of weight zero, which must change nothing, not even the random numbers."""
        if self.sample_weight is None or self.sample_weight.all():
            return self
        return self.take(np.flatnonzero(self.sample_weight))

    def merge_copies(self) -> Rows:
        """Merge identical rows into one, with the sum of their weights, unless each is observed.

        Where all rows form one batch the cost stays the same function, and a row of weight k is the
        same as k rows to the last bit, under dropout too. The order depends on the values of the
        rows alone. Where equal rows are observations of their own, see `are_observations`, a row
        whose weight is a whole number k becomes k rows: a table with counts for weights then is the
        table that was counted.
        """
        labels = [self.y] if self.group is None else [self.y, self.group]
        parts = [row_bytes(self.X), *(map(np.generic.tobytes, label) for label in labels)]
        keys = np.fromiter(map(b"".join, zip(*parts, strict=True)), object, len(self))
        _, first, place = np.unique(keys, return_index=True, return_inverse=True)
        weight, times = self.weights, np.ones(len(self), np.intp)
        if (weight == np.rint(weight)).all():
            share = MOST_COUNTED / max(weight.sum(), MOST_COUNTED)
            times = np.maximum(weight * share, 1.0).astype(np.intp)
        if are_observations(count_labels(number_distinct(self.X), self.y, times)):
            order = np.lexsort((weight, place))
            index = np.repeat(order, times[order])
            return replace(self.take(index), sample_weight=(weight / times)[index])
        weight = np.bincount(place, weights=weight).astype(np.float64)
        return replace(self.take(first), sample_weight=weight, place=self._follow(place))

    def normalize_weights(self) -> Rows:
        """Scale the weights to mean 1; equal weights become None, the same as no weights."""
        weight = self.sample_weight
        if weight is None or weight.min() == weight.max():
            return replace(self, sample_weight=None)
        scaled = weight / weight.max().astype(np.float64)  # whose sum is in range
        scaled /= scaled.mean()
        return replace(self, sample_weight=scaled.astype(self.X.dtype, copy=False))


def are_observations(n: np.ndarray) -> bool:
    """Say whether equal rows are observations of their own, and not copies of one.

    New rows will often be equal to known ones then, and rows that are held out are to be so too.

    Parameters
    ----------
    n : ndarray of shape (2, n_distinct)
        Rows of each class by their x.
    """
    n_copies = n.sum(axis=0)
    n_copied, n_mixed = np.count_nonzero(n_copies > 1), np.count_nonzero(n.all(axis=0))
    are_levels = len(n_copies) <= MOST_LEVELS and n_copies.mean() >= COPIES_OF_LEVEL
    return bool(are_levels or n_mixed > SHARE_OF_MIXED * n_copied)


def count_labels(number: np.ndarray, y: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
    """Return how many rows of each class have each number: (2, n_numbers)."""
    place, n_places = 2 * number + y.astype(np.intp), 2 * (number.max() + 1)
    return np.bincount(place, times, minlength=n_places).reshape(-1, 2).T


def number_distinct(X: Any) -> np.ndarray:
    """Return a number for each row, the same for equal rows, in the order in which they come.

    Rows are compared by hashes of 64 bits: in a table of a million rows, two different ones have
    the same hash with a probability of about 10^-7.
    """
    hashes = np.fromiter(map(hash, row_bytes(X)), np.int64, X.shape[0])
    ordered = np.sort(hashes)  # takes less memory than what follows
    if (ordered[1:] != ordered[:-1]).all():
        return np.arange(len(hashes))
    _, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    return np.unique(first[number], return_inverse=True)[1]


def row_bytes(X: Any) -> Iterator[bytes]:
    """Yield the bytes of each row of a table; those of equal rows are equal, of -0 and 0 too."""
    if issparse(X):
        if not X.has_canonical_format or not X.data.all():
            X = X.copy()
            X.sum_duplicates()
            X.eliminate_zeros()
        for start, stop in pairwise(X.indptr):
            yield X.indices[start:stop].tobytes() + X.data[start:stop].tobytes()
        return
    size = X.shape[1] * X.dtype.itemsize
    for block in cut_rows(*X.shape):
        content = (X[block] + 0.0).tobytes()
        for i in range(block.stop - block.start):
            yield content[i * size : (i + 1) * size]


def checksum(*parts: Any) -> int:
    """Return the CRC-32 of arrays and bytes, in their order; None stands for nothing."""
    value = 0
    for part in parts:
        is_bytes = part is None or isinstance(part, bytes)
        content: Any = (part or b"") if is_bytes else np.ascontiguousarray(part)
        value = zlib.crc32(content, value)
    return value


def hold_out(
    parameters: Any, plan: TrainingPlan, state: TrainingState, rows: Rows, given: Rows | None
) -> tuple[Rows, Rows | None]:
    """Return the rows to train on, and those to validate on if there are to be any.

    Members of an ensemble leave out rows of their own, and both are the same rows; see
    `Rows.is_held_out`. A single network, and all members under L-BFGS, validate on a copy of the
    same rows. Nothing is held out where each class is all in one row, or in copies of it.
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
        held_out = rows.take(np.flatnonzero(is_held_out[0]))
        if len(rows) - len(held_out) <= plan.batch_size:  # one batch, which is left in order
            return rows.take(np.flatnonzero(~is_held_out[0])), held_out
        return replace(rows, is_held_out=is_held_out), held_out
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
    kind = 1 + (n[1] > 0).astype(np.int8) - (n[0] > 0)
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
