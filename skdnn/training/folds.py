"""Folds: each member holds out rows of its own, never trains on them, and is validated by them.

An ensemble then validates on all rows, and still trains on all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .calibration import join_logits
from .rows import Rows, position_dtype

IN_NO_FOLD = -1
"""In the place of a fold: every member trains on the row, and none is validated by it."""

MOST_FOLDS = 10
"""Folds of so many parts leave a member nine tenths of the rows; more would add little."""

POOLED_AT_ONCE = 1 << 15
"""Logits that are pooled at once, which takes several arrays of as many."""

FEWEST_FOLDS = 5
"""Members from which on folds have equal size. Fewer members hold out a fraction of the rows each,
lest they learn too little."""


@dataclass(frozen=True)
class HeldOut:
    """The rows that each member holds out, side by side, by their positions among all rows.

    Labels and weights are gathered where they are asked for: both of all rows would take as much as
    several columns of the table.

    Members with fewer of them than others have one repeated, with weight zero.

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
        Of the weights of a fold: members that hold out the same row share it. The weights sum to
        n_samples: a member's mean loss is its share of the mean loss over all rows held out.
    """

    rows: Rows
    places: np.ndarray
    counts: np.ndarray
    of_row: np.ndarray
    factors: np.ndarray

    def labels_and_weights(self, block: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return those of a block of samples, each of shape (n_members, n_block)."""
        y, weight, places = self.rows.y, self.rows.sample_weight, self.places[:, block]
        is_own = np.arange(self.places.shape[1])[block] < self.counts[:, np.newaxis]
        own = is_own * self.factors[self.of_row[places]]
        if weight is not None:
            own *= weight[places]
        return y[places], own.astype(y.dtype, copy=False)

    def row_weights(self) -> np.ndarray:
        """Return how much each of all rows counts: nothing where no member holds it out."""
        _, weight = self.labels_and_weights(slice(None))
        return np.bincount(self.places.ravel(), weight.ravel(), minlength=len(self.rows))

    def pool(self, logits: np.ndarray) -> np.ndarray:
        """Return the logit of the mean probability of the members that hold a row out.

        Rows of one `logit_index` have one. It is not a number where no member holds a row out.

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

    All members train on the rows of a fold that nobody holds out.

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
        """The number of rows that every member has at least to learn from.

        Folds that no member holds out count too: it is the same for a member alone.
        """
        sizes = np.bincount(self.of_row[self.of_row >= 0], minlength=self.n_folds)
        return int(len(self) - max(sizes.max(), (sizes @ self.holders).max()))

    def is_held_out(self, member: int, block: slice = slice(None)) -> np.ndarray:
        """Say of each row of a block whether a member holds it out."""
        return np.append(self.holders[:, member], False)[self.of_row[block]]

    def training_index(self, member: int, block: slice = slice(0, None)) -> np.ndarray:
        """Return the positions of the rows, of a block, that a member learns from."""
        return block.start + np.flatnonzero(~self.is_held_out(member, block))

    def validation_index(self, member: int) -> np.ndarray:
        """Return the positions of the rows that a member holds out."""
        return np.flatnonzero(self.is_held_out(member))

    def training_weights(self, rows: Rows, members: range | None = None) -> np.ndarray:
        """Return the weights of some members or all: zero for rows held out, and with mean 1.

        The shape is (n_members, n_rows). The mean loss by them over all rows is the mean loss over
        those that the member learns from.
        """
        weights = self.unscaled_weights(rows, members)
        return weights / weights.mean(axis=1, keepdims=True)

    def unscaled_weights(
        self, rows: Rows, members: range | None = None, block: slice = slice(None)
    ) -> np.ndarray:
        """Return the weights of a block of rows: zero for rows held out, else as they are."""
        members = range(self.n_members) if members is None else members
        is_trained_on = np.stack([~self.is_held_out(member, block) for member in members])
        if rows.sample_weight is None:
            return is_trained_on.astype(np.float64)
        return np.multiply(is_trained_on, rows.sample_weight[block], dtype=np.float64)

    def hold_out(self, rows: Rows) -> HeldOut:
        """Find the rows that each member holds out.

        Raises
        ------
        ValueError
            If none of them has a weight that counts beside the others.
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
