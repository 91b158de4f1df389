"""Folds: each member holds out rows of its own, never trains on them, and is validated on them.

An ensemble then validates on all rows, and still trains on all of them.

What goes to a fold as a whole is a unit: a group, or a row with all its copies, since a network
that has seen one of them knows the others. Where equal rows are observations of their own, see
`are_observations`, every row is a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import log_expit

from .rows import Rows, are_observations, count_labels, number_distinct, position_dtype

IN_NO_FOLD = -1
"""In the place of a fold: every member trains on the row, and none is validated on it."""

MOST_FOLDS = 10
"""Folds at most: a member then trains on nine tenths of the rows, and more would add little."""

FEWEST_FOLDS = 5
"""Members from which on folds have equal size. Fewer members each hold out a fraction of the rows,
since equal folds would leave them too few to learn from."""


class HeldOut(NamedTuple):
    """The rows that each member holds out, side by side: arrays of shape (n_members, n_samples).

    A member with fewer rows than another has one of them repeated, with weight zero.
    """

    places: np.ndarray  # among all rows
    y: np.ndarray
    weight: np.ndarray  # so that a member's mean loss is its share of that over all rows held out


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

    @property
    def n_training(self) -> int:
        """The least number of rows that a member learns from.

        Folds that no member holds out count too, so that it is the same for a member alone.
        """
        sizes = np.bincount(self.of_row[self.of_row >= 0], minlength=len(self.holders))
        return int(len(self.of_row) - max(sizes.max(), (sizes @ self.holders).max()))

    def is_held_out(self, member: int) -> np.ndarray:
        """Say of each row whether a member holds it out."""
        return np.append(self.holders[:, member], False)[self.of_row]

    def training_index(self, member: int) -> np.ndarray:
        """Return the positions of the rows that a member learns from."""
        return np.flatnonzero(~self.is_held_out(member))

    def are_held_out(self, block: slice) -> np.ndarray:
        """Say of each member and row of a block whether it is held out: (n_members, n_rows)."""
        return np.pad(self.holders.T, ((0, 0), (0, 1))).take(self.of_row[block], axis=1)

    @cached_property
    def validation_indices(self) -> list[np.ndarray]:
        """The positions of the rows that each member holds out."""
        dtype, members = position_dtype(len(self.of_row)), range(self.holders.shape[1])
        return [np.flatnonzero(self.is_held_out(member)).astype(dtype) for member in members]

    def hold_out(self, rows: Rows) -> HeldOut:
        """Gather the rows that each member holds out.

        Members that hold out the same row share its weight.

        Raises
        ------
        ValueError
            If the weights of all of them are negligible.
        """
        own = self.validation_indices
        places = np.zeros((len(own), max(map(len, own))), position_dtype(len(rows)))
        weight = np.zeros(places.shape, rows.y.dtype)
        share = np.append(1.0 / np.maximum(self.holders.sum(axis=1), 1), 0.0)[self.of_row]
        share *= rows.weights
        for i, index in enumerate(own):
            places[i, : len(index)], weight[i, : len(index)] = index, share[index]
        total = weight.sum(dtype=np.float64)
        if total == 0.0:
            raise ValueError(
                "sample_weight of all rows that are held out is next to nothing beside that of "
                "others, and there is nothing to validate by. Bring the weights nearer together, "
                "or set early_stopping=False."
            )
        weight *= places.shape[1] / total
        return HeldOut(places, rows.y[places], weight)

    def pool(self, logits: np.ndarray) -> np.ndarray:
        """Return the logit of the mean probability of the members that hold out each row.

        It is NaN where no member holds a row out.

        Parameters
        ----------
        logits : ndarray of shape (n_members, n_samples)
            Of the rows of `hold_out`.
        """
        log_p = np.full((2, len(self.of_row)), -np.inf)
        for index, own in zip(self.validation_indices, logits.astype(np.float64), strict=True):
            z = own[: len(index)]
            log_p[:, index] = np.logaddexp(log_p[:, index], log_expit([-z, z]))
        with np.errstate(invalid="ignore"):
            return log_p[1] - log_p[0]


def assign_folds(rows: Rows, n_members: int, fraction: float, rng: np.random.Generator) -> Folds:
    """Assign rows to the folds of members.

    There are as many folds as members, up to ten, and no more than groups. Less than five members
    hold out `fraction` of the rows each.
    """
    n_groups = None if rows.group is None else int(rows.group.max()) + 1
    holders = make_holders(n_members, n_groups)
    return Folds(_assign(rows, holders, fraction, rng), holders)


def split_validation(rows: Rows, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Hold out a fraction of each class: return the rows to train and to validate on.

    Rows to train on, which are most, are not copied.
    """
    is_training = _assign(rows, make_holders(1), fraction, rng) == IN_NO_FOLD
    training = rows.take(np.flatnonzero(is_training), is_view=True)
    return training, rows.take(np.flatnonzero(~is_training))


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


def _assign(
    rows: Rows, holders: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the fold of each row.

    Units of rows of class 0, of both classes and of class 1 are spread one kind after the other.
    Then no member lacks a class to learn from; a unit that has all rows of one is in no fold.
    """
    dtype = np.min_scalar_type(-len(holders))
    if rows.group is not None:
        return _assign_groups(rows, rows.group, holders, fraction, rng).astype(dtype)
    unit = number_distinct(rows.X)
    n = count_labels(unit, rows.y)
    if are_observations(n):
        unit = np.arange(len(rows))
        n = count_labels(unit, rows.y)
    kind = 1 + (n[1] > 0) * 1 - (n[0] > 0) * 1
    kind[((n > 0) & (n == n.sum(axis=1, keepdims=True))).any(axis=0)] = -1
    of_unit, n_assigned = np.full(len(kind), IN_NO_FOLD, dtype), 0
    for k in range(3):
        of_kind = np.flatnonzero(kind == k)
        folds = _list_folds(holders, fraction, len(of_kind), n_assigned)
        of_unit[rng.permutation(of_kind)] = folds
        n_assigned += int(np.count_nonzero(folds != IN_NO_FOLD))
    return of_unit[unit]


def _list_folds(
    holders: np.ndarray, fraction: float, n_units: int, n_assigned: int = 0
) -> np.ndarray:
    """Return the fold of each of some shuffled units.

    Folds of equal size are filled cyclically, and go on from the units that have a fold already.
    """
    n_folds, n_members = holders.shape
    if n_members >= FEWEST_FOLDS:
        return (n_assigned + np.arange(n_units)) % n_folds
    n_out = min(max(round(fraction * n_units), 1), n_units - 1)
    is_apart = n_out * n_members <= n_units
    sets = np.zeros(n_units, np.intp)
    for member in range(n_members):
        start = member * n_out if is_apart else member * n_units // n_members
        sets[(start + np.arange(n_out)) % n_units] += 1 << member
    return sets - 1


def _assign_groups(
    rows: Rows,
    group: np.ndarray,
    holders: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
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
    of_group = _balance_groups(shares[order], holders, fraction)[order.argsort()]
    if (of_group == IN_NO_FOLD).all():
        raise ValueError(
            f"groups must leave some rows of each class to learn from when one is held out, but of "
            f"{len(shares)} group(s) none does. Take more groups, pass X_val and y_val, or set "
            "early_stopping=False."
        )
    return of_group[group]


def _balance_groups(shares: np.ndarray, holders: np.ndarray, fraction: float) -> np.ndarray:
    """Return the fold of each group, given its share of each class.

    One after the other, each group goes to the fold where it adds least to the squared distance
    between the classes' shares and the size that the fold should have, relative to that size. No
    member may lack a class to learn from: a group that has all rows of one is in no fold.
    """
    of_group = np.full(len(shares), IN_NO_FOLD)
    even = _list_folds(holders, fraction, len(shares)) - IN_NO_FOLD
    folds, counts = np.unique(even, return_counts=True)
    goal = (counts / len(shares))[:, np.newaxis]
    holders = np.pad(holders, ((1, 0), (0, 0)))[folds]  # no member holds out IN_NO_FOLD
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
