"""EarlyStopping: when a member has waited long enough for progress."""

import numpy as np
import pytest

from skdnn.training.progress import EarlyStopping


def follow(losses, **arguments):
    """Show it one loss after the other; return it and the first epoch in which it is exhausted."""
    early_stopping = EarlyStopping(1, **arguments)
    for epoch, loss in enumerate(losses):
        early_stopping.update(np.array([loss]))
        if early_stopping.exhausted[0]:
            return early_stopping, epoch
    return early_stopping, None


@pytest.mark.parametrize(
    ("losses", "stops_in"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.0], None),
        ([5.0, 5.0, 5.0, 5.0], 2),
        ([5.0, 6.0, 4.0, 4.5, 4.5], 4),
        ([5.0, 4.9, 4.8, 4.7], 2),  # every step is compared with the best just before it
        ([5.0, np.nan, np.nan, 5.0, 5.0], 4),  # what is not a number counts for nothing
        ([5.0, np.inf, 4.0, 3.0], None),
    ],
)
def test_patience_ends_after_epochs_without_enough_progress(losses, stops_in):
    """By at least 0.15 below the best, or two epochs of waiting are counted."""
    assert follow(losses, tol=0.15, n_iter_no_change=2)[1] == stops_in


def test_patience_counts_progress_of_exactly_tol():
    assert follow([1.0, 0.5, 0.0], tol=0.5, n_iter_no_change=1)[1] is None


def test_patience_remembers_the_best_even_where_it_is_no_progress():
    """A loss a little lower than the best is a new best, and still an epoch of waiting."""
    early_stopping, epoch = follow([1.0, 0.99, 0.98, 0.985], tol=0.1, n_iter_no_change=3)
    assert epoch == 3
    assert early_stopping.best.tolist() == [0.98]


def test_patience_without_end_never_is_exhausted():
    assert follow([1.0] * 100, tol=0.1, n_iter_no_change=np.inf)[1] is None


def test_patience_knows_no_best_among_losses_that_are_not_finite():
    early_stopping, _ = follow([np.nan, np.inf], tol=0.1, n_iter_no_change=5)
    assert early_stopping.best.tolist() == [np.inf]


def test_patience_follows_each_member_by_itself():
    early_stopping = EarlyStopping(3, tol=0.0, n_iter_no_change=2)
    for loss in ([3.0, 3.0, 3.0], [4.0, 2.0, 4.0], [4.0, 1.0, 2.0]):
        early_stopping.update(np.array(loss))
    assert early_stopping.best.tolist() == [3.0, 1.0, 2.0]
    assert early_stopping.exhausted.tolist() == [True, False, False]


def test_patience_takes_no_more_notice_of_a_member_that_has_stopped():
    early_stopping = EarlyStopping(2, tol=0.0, n_iter_no_change=1)
    early_stopping.update(np.array([1.0, 1.0]))
    early_stopping.running[0] = False
    early_stopping.update(np.array([0.5, 0.5]))
    assert early_stopping.best.tolist() == [1.0, 0.5]
    early_stopping.update(np.array([9.0, 9.0]))
    assert early_stopping.exhausted.tolist() == [False, True]
