"""Folds: each member holds out rows of its own, never trains on them, and is validated by them.

An ensemble then validates on all rows, and still trains on all of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ._blocks import Selection, position_dtype
from ._explanations import average_logits
from ._network import Network
from ._rows import Rows
from ._sparse import SparseBatch, is_sparse
from ._values import frozen

IN_NO_FOLD = -1
"""In the place of a fold: every member trains on the row, and none is validated by it."""

NOT_TRAINED_ON = -2
"""In the place of a fold: a row without weight, on which no member trains."""


def assign_folds(
    y: np.ndarray, n_folds: int, rng: np.random.Generator, weight: np.ndarray | None = None
) -> np.ndarray:
    """Deal the rows of each class out over the folds, at random and evenly.

    The second class is dealt on from where the first ended: the sizes of folds differ by one at
    most, in each class and in total. A class of one row keeps it for all members to learn from.
    Rows of weight zero are dealt to nobody, and change nothing for the others.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Labels of two classes.
    n_folds : int
        At least 2.
    rng : Generator
    weight : ndarray of shape (n_rows,), default=None
        Of the rows; None stands for ones.

    Returns
    -------
    of_row : ndarray of int of shape (n_rows,)
        The fold of each row, from 0; `IN_NO_FOLD`, or `NOT_TRAINED_ON` for weight zero.
    """
    _check_number(n_folds)
    counts = np.ones(len(y), dtype=bool) if weight is None else weight > 0.0
    of_row, n_dealt = np.full(len(y), NOT_TRAINED_ON, np.min_scalar_type(-n_folds)), 0
    of_row[counts] = IN_NO_FOLD
    for label in np.unique(y):
        of_class = np.flatnonzero(counts & (y == label))
        if len(of_class) > 1:
            of_row[rng.permutation(of_class)] = (n_dealt + np.arange(len(of_class))) % n_folds
            n_dealt += len(of_class)
    return of_row


MOST_FOLDS = 10
"""Folds of so many parts leave a member nine tenths of the rows; more would add little."""

FEWEST_FOLDS = 5
"""An ensemble of fewer members has folds that nobody holds out, lest members learn too little."""


def deal_folds(
    rows: Rows, n_members: int, fraction: float, rng: np.random.Generator
) -> Folds | None:
    """Give each member rows to hold out; None if there are too few to hold any out.

    There are as many folds as members, up to ten. With fewer than five members each holds out
    `fraction` of the rows.
    """
    n_folds = min(n_members, MOST_FOLDS)
    if n_members < FEWEST_FOLDS:
        n_folds = max(2, round(1.0 / fraction))
    of_row = assign_folds(rows.y, n_folds, rng)
    if (of_row == IN_NO_FOLD).all():
        return None
    return Folds(of_row, n_members, n_folds)


@frozen
class HeldOut:
    """The rows that each member holds out, side by side, by their positions among all rows.

    Labels and weights are gathered where they are asked for: both of all rows would take as much as
    several columns of the table.

    Members with fewer of them than others have one repeated, with weight zero.

    Attributes
    ----------
    X : Selection or SparseBatch of shape (n_members, n_samples, n_features)
    rows : Rows
        All rows.
    places : ndarray of int of shape (n_members, n_samples)
        The positions among them of those that each member holds out.
    counts : ndarray of int of shape (n_members,)
        How many these are, without repetitions.
    factors : ndarray of shape (n_members, 1)
        Of the weights: members that hold out the same row share its weight. The sum is n_samples: a
        member's mean loss is its share of the mean loss over all rows that are held out.
    """

    X: Selection | SparseBatch
    rows: Rows
    places: np.ndarray
    counts: np.ndarray
    factors: np.ndarray

    def labels_and_weights(self, block: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return those of a block of samples, each of shape (n_members, n_block)."""
        y, weight, places = self.rows.y, self.rows.sample_weight, self.places[:, block]
        is_own = np.arange(self.places.shape[1])[block] < self.counts[:, np.newaxis]
        own = is_own * self.factors if weight is None else is_own * self.factors * weight[places]
        return y[places], own.astype(y.dtype, copy=False)


@frozen
class Folds:
    """Which rows each member holds out: member m those of fold ``m % n_folds``.

    With more folds than members, nobody holds out the rows of the last ones: all train on them.

    Attributes
    ----------
    of_row : ndarray of int of shape (n_rows,)
        The fold of each row; `IN_NO_FOLD`, or `NOT_TRAINED_ON`.
    n_members : int
    n_folds : int
    """

    of_row: np.ndarray
    n_members: int
    n_folds: int

    def __post_init__(self) -> None:
        _check_number(self.n_folds)
        of_row = np.asarray(self.of_row)
        is_known = (of_row >= NOT_TRAINED_ON) & (of_row < self.n_folds)
        if of_row.dtype.kind != "i" or not is_known.all():
            wrong = np.unique(of_row[~is_known])[:5].tolist()
            raise ValueError(
                f"Folds are numbered by integers from 0 to n_folds - 1 = {self.n_folds - 1}, with "
                f"{IN_NO_FOLD} and {NOT_TRAINED_ON} for none, got {wrong or of_row.dtype}; number "
                "them anew."
            )
        if self.n_training < 1:
            raise ValueError(
                "Members need rows that they do not hold out, but one fold has all the rows; take "
                "more folds, or more rows."
            )

    def __len__(self) -> int:
        return len(self.of_row)

    @property
    def n_training(self) -> int:
        """The number of rows that every member has at least to learn from.

        Folds that no member holds out count too: it is the same for a member alone.
        """
        largest = np.bincount(self.of_row[self.of_row >= 0], minlength=1).max()
        return int(np.count_nonzero(self.of_row != NOT_TRAINED_ON) - largest)

    def of_member(self, member: int) -> int:
        """Return the number of the fold that a member holds out."""
        return member % self.n_folds

    def members_of(self, fold: int) -> slice:
        """Return which members hold out a fold."""
        return slice(fold, self.n_members, self.n_folds)

    def is_trained_on(self, member: int, block: slice = slice(None)) -> np.ndarray:
        """Say of each row whether a member learns from it."""
        of_row = self.of_row[block]
        return (of_row != self.of_member(member)) & (of_row != NOT_TRAINED_ON)

    def count_training(self, member: int) -> int:
        """Return the number of rows that a member learns from."""
        return int(np.count_nonzero(self.is_trained_on(member)))

    def training_index(self, member: int, block: slice = slice(0, None)) -> np.ndarray:
        """Return the positions of the rows, of a block, that a member learns from."""
        return block.start + np.flatnonzero(self.is_trained_on(member, block))

    def validation_index(self, member: int) -> np.ndarray:
        """Return the positions of the rows that a member holds out."""
        return np.flatnonzero(self.of_row == self.of_member(member))

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
        is_trained_on = np.stack([self.is_trained_on(member, block) for member in members])
        if rows.sample_weight is None:
            return is_trained_on.astype(np.float64)
        return np.multiply(is_trained_on, rows.sample_weight[block], dtype=np.float64)

    def hold_out(self, rows: Rows) -> HeldOut:
        """Find the rows that each member holds out.

        Raises
        ------
        ValueError
            If nobody holds out any.
        """
        folds = [self.of_member(member) for member in range(self.n_members)]
        counts = np.array([np.count_nonzero(self.of_row == fold) for fold in folds])
        n_samples = int(counts.max())
        if n_samples == 0:
            raise ValueError(
                "No row is held out by any member, and there is nothing to validate on: no class "
                "has two rows. Take more rows, or train without folds."
            )
        places = np.zeros((self.n_members, n_samples), position_dtype(len(self)))
        factors, weight = np.empty((self.n_members, 1)), rows.sample_weight
        total_weight = 0.0
        for member, (fold, n_rows) in enumerate(zip(folds, counts.tolist(), strict=True)):
            own = self.validation_index(member)
            places[member, :n_rows] = own
            if n_rows:
                places[member, n_rows:] = own[-1]
            factors[member] = 1.0 / len(range(self.n_members)[self.members_of(fold)])
            total = n_rows if weight is None else weight[own].sum(dtype=np.float64)
            total_weight += float(factors[member, 0] * total)
        X = (
            SparseBatch([rows.X[of_member] for of_member in places])
            if is_sparse(rows.X)
            else Selection(rows.X, places)
        )
        return HeldOut(X, rows, places, counts, factors * (n_samples / total_weight))


def out_of_fold_logits(
    network: Network, params: np.ndarray, X: np.ndarray, folds_of_row: np.ndarray, folds: Folds
) -> np.ndarray:
    """Predict each row by the members that did not train on it.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (n_members, n_params)
    X : ndarray or CSR matrix or array of shape (n_samples, n_in)
    folds_of_row : ndarray of int of shape (n_samples,)
        The fold of each row of X, which need not be the rows that `folds` were made for.
    folds : Folds
        Says which member held out which fold.

    Returns
    -------
    logits : ndarray of shape (n_samples,)
        The logit of the mean probability of the members that hold out the row's fold; of all
        members where no one trained on it. Not a number where every member did.
    """
    logits = np.full(X.shape[0], np.nan, params.dtype)
    judges = {fold: folds.members_of(fold) for fold in range(folds.n_folds)}
    for fold, members in {**judges, NOT_TRAINED_ON: slice(None)}.items():
        index, chosen = np.flatnonzero(folds_of_row == fold), params[members]
        if len(index) and len(chosen):
            part = replace(network, n_members=len(chosen))
            rows = X[index] if is_sparse(X) else Selection(X, index[np.newaxis])
            logits[index] = average_logits(part.logits(chosen, rows))
    return logits


def _check_number(n_folds: int) -> None:
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2, got {n_folds!r}; one fold has all the rows.")
