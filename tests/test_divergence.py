"""What becomes of members that diverge: epochs that they lose, and weights that they go back to."""

import warnings
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from tables import pose_training
from trainings import ScriptedLoss, even_folds, noisy_rows, train_by_script

from skdnn._trainer import Trainer, Validation
from skdnn._training import train
from skdnn.training.fold_assignment import split_validation
from skdnn.training.progress import MAX_HALVINGS
from skdnn.training.rows import Rows

pytestmark = pytest.mark.usefixtures("one_worker")  # the scripts are of all members


def n_steps(params):
    """Return the last parameter of each member, the bias: one for each step of 1."""
    return params[:, -1].tolist()


@pytest.mark.parametrize("afterwards", [5.0, np.inf, np.nan])
@pytest.mark.parametrize("with_validation", [False, True])
def test_member_that_has_stopped_cannot_diverge_any_more(afterwards, with_validation):
    """Whatever its loss becomes, it keeps its weights, and the others train on in peace."""
    script = [[0.6, 0.6], [0.6, 0.5], [0.6, 0.4], [afterwards, 0.3], [afterwards, 0.3]]
    script += [[afterwards, 0.3]] * 2
    kept, state = train_by_script(script, n_iter_no_change=2, with_validation=with_validation)
    assert kept == ([1.0, 4.0] if with_validation else [3.0, 6.0])
    assert len(state.history["loss"]) == 6


def test_weights_that_diverged_are_replaced_by_the_best_so_far():
    """The training loss of an epoch describes the weights that the epoch began with."""
    with pytest.warns(ConvergenceWarning, match=r"loss was 50 in epoch 4.* epoch 1"):
        kept, _ = train_by_script([[0.6], [0.5], [2.0], [50.0]])
    assert kept == [1.0]


def test_only_members_that_diverged_lose_their_weights():
    with pytest.warns(ConvergenceWarning, match="diverged"):
        kept, _ = train_by_script([[0.6, 0.6], [0.5, 0.5], [50.0, 0.4]])
    assert kept == [1.0, 3.0]


# Losing an epoch: back to where it began, and on at half the learning rate.

BAD = pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
VALIDATION = pytest.mark.parametrize("with_validation", [False, True])


@BAD
@VALIDATION
def test_epoch_whose_loss_is_not_finite_is_taken_back_and_the_rate_halved(bad, with_validation):
    """Two steps of 1, one that is lost, one of 1/2, another one lost, and one of 1/4."""
    script = [[0.6], [0.5], [bad], [0.4], [bad], [0.3]]
    message = r"stopped being finite in 2 epochs.*half the learning rate.*StandardScaler"
    with pytest.warns(ConvergenceWarning, match=message):
        kept, state = train_by_script(script, with_validation=with_validation)
    assert kept == [2.75]
    assert n_steps(state.params) == [2.75]
    assert state.rate_factor.tolist() == [[0.25]]
    assert state.progress.n_diverged.tolist() == [2]
    np.testing.assert_array_equal(state.history["loss"], [0.6, 0.5, np.nan, 0.4, np.nan, 0.3])
    assert state.history["learning_rate"] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]


@BAD
def test_lost_epoch_of_one_member_leaves_the_others_alone(bad):
    script = [[0.6, 0.6, 0.6], [0.5, bad, 0.5], [0.4, 0.4, bad], [0.3, 0.3, 0.3]]
    with pytest.warns(ConvergenceWarning, match="stopped being finite in 2 epochs"):
        kept, state = train_by_script(script)
    assert kept == [4.0, 2.0, 2.5]
    assert state.rate_factor.tolist() == [[1.0], [0.5], [0.5]]
    assert state.progress.n_diverged.tolist() == [0, 1, 1]
    np.testing.assert_allclose(state.history["loss"], [0.6, 0.5, 0.4, 0.3])


def test_epoch_is_lost_if_only_the_validation_loss_is_not_finite():
    script = [[0.6], [0.5], [0.4]]
    calls = [[np.inf], [0.6], [0.6], [0.5], [np.nan], [0.4], [0.4]]
    with pytest.warns(ConvergenceWarning, match="stopped being finite in 1 epoch"):
        kept, _ = train_by_script(script, with_validation=True, loss=ScriptedLoss(calls))
    assert kept == [1.5]


def test_lost_epoch_neither_counts_as_waiting_nor_as_the_best():
    """Two epochs of waiting are two that were not lost."""
    script = [[0.6], [0.6], [np.nan], [np.nan], [0.6], [0.1]]
    with pytest.warns(ConvergenceWarning, match="stopped being finite in 2 epochs"):
        kept, state = train_by_script(script, n_iter_no_change=2)
    assert kept == [2.25]
    assert len(state.history["loss"]) == 5
    assert state.progress.best_epoch.tolist() == [
        0
    ]  # the loss of epoch 1 is that of the first weights


@BAD
@VALIDATION
def test_member_that_loses_too_many_epochs_ends_at_its_best(bad, with_validation):
    """The last epoch, whose loss is finite again, is none of its own any more."""
    script = [[0.6, 0.6], [0.5, 0.5], *[[bad, 0.4]] * (MAX_HALVINGS + 1), [0.1, 0.3]]
    with pytest.warns(ConvergenceWarning, match=f"finite in {MAX_HALVINGS + 1} epochs"):
        kept, state = train_by_script(script, with_validation=with_validation)
    assert kept == ([2.0, 9.0] if with_validation else [1.0, 9.0])
    assert state.progress.running.tolist() == [False, True]
    assert state.history["loss"][-1] == 0.3


def test_training_ends_when_all_members_lost_too_many_epochs():
    script = [[0.6], [0.5], *[[np.nan]] * (MAX_HALVINGS + 1), [0.1], [0.1]]
    with pytest.warns(ConvergenceWarning, match="stopped being finite"):
        kept, state = train_by_script(script)
    assert kept == [1.0]
    assert len(state.history["loss"]) == 2 + MAX_HALVINGS + 1


@BAD
@VALIDATION
@pytest.mark.parametrize("before", [0.7, np.inf])
def test_loss_that_is_never_finite_raises(bad, with_validation, before):
    message = r"diverged.*in epoch 6 at learning rate.*No better weights.*learning_rate_init=1\.0"
    with pytest.raises(ValueError, match=message):
        train_by_script([[bad]] * 10, with_validation=with_validation, before=before)


@BAD
def test_loss_that_is_not_finite_in_the_first_epoch_only_costs_that_epoch(bad):
    with pytest.warns(ConvergenceWarning, match="stopped being finite in 1 epoch"):
        kept, _ = train_by_script([[bad], [0.6], [0.5]])
    assert kept == [1.0]


def test_weights_that_are_not_finite_lose_the_epoch_too():
    """A step can ruin the weights after the last loss of an epoch was measured."""

    @dataclass
    class Explosive(ScriptedLoss):
        def gradient(self, y_true, logits, sample_weight, gradient_out, xp=np):
            gradient_out.fill(-np.inf if self.n_calls == 2 else -1.0 / logits.shape[1])
            return gradient_out

    loss = Explosive([[np.inf], [0.6], [0.5], [0.4]])
    with pytest.warns(ConvergenceWarning, match="stopped being finite in 1 epoch"):
        kept, state = train_by_script([[0.6], [0.5], [0.4]], loss=loss)
    assert kept == [1.5]
    assert np.isfinite(state.params).all()


def test_lost_epoch_takes_the_optimizer_back_too():
    """The velocity that a lost epoch gave is lost with it."""
    rows = noisy_rows()
    plan, state = pose_training(rows, members=(0, 1), solver="sgd", batch_size=20, ema_decay=0.9)
    trainer = Trainer(plan, state, rows)
    state.ema_params = state.params.copy()
    trainer = Trainer(plan, state, rows)
    trainer.run_epoch(0, 9)
    before = deepcopy((state.params, state.ema_params, state.optimizer["arrays"]))
    trainer.save_checkpoint()
    trainer.run_epoch(3, 9)
    after = deepcopy((state.params, state.ema_params, state.optimizer["arrays"]))
    trainer.restore_checkpoint(np.array([True, False]))
    now = (state.params, state.ema_params, state.optimizer["arrays"])
    for now_, before_, after_ in zip(*map(list_arrays, (now, before, after)), strict=True):
        np.testing.assert_array_equal(now_[0], before_[0])
        np.testing.assert_array_equal(now_[1], after_[1])
        assert not np.array_equal(now_[0], after_[0])


@pytest.mark.parametrize("with_validation", [False, True])
def test_members_that_lose_epochs_together_equal_members_that_lose_them_alone(with_validation):
    """At rates at which some do and others do not."""
    rows = noisy_rows(100).astype(np.float32)
    train_rows, held_out = split_validation(rows, 0.3, np.random.default_rng(0))
    numbers_of_lost = set()

    def train_members(members, rate):
        plan, state = pose_training(
            train_rows,
            members=members,
            dtype=np.float32,
            hidden_layer_sizes=(8, 8, 8),
            solver="sgd",
            batch_size=8,
            learning_rate_init=rate,
            max_iter=10,
            early_stopping=with_validation,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                train(plan, state, train_rows, Validation(held_out) if with_validation else None)
            except ValueError as error:
                assert "diverged" in str(error)  # noqa: PT017
                return None
        return state

    for rate in (3.0, 10.0, 30.0, 1e2, 1e3, 1e4):
        alone = [train_members((member,), rate) for member in range(4)]
        survivors = [member for member, state in enumerate(alone) if state is not None]
        assert (train_members(range(4), rate) is None) == (len(survivors) < 4)
        if survivors:
            together = train_members(survivors, rate)
            for place, member in enumerate(survivors):
                np.testing.assert_array_equal(
                    together.final_params[place], alone[member].final_params[0]
                )
                assert together.progress.n_diverged[place] == alone[member].progress.n_diverged[0]
                np.testing.assert_array_equal(
                    together.rate_factor[place], alone[member].rate_factor[0]
                )
            numbers_of_lost |= {tuple(together.progress.n_diverged.tolist())}
    assert any(len(set(numbers)) > 1 for numbers in numbers_of_lost), (
        "some should lose and some not"
    )


def list_arrays(parts):
    params, average, arrays = parts
    return [params, average, *(a for by_name in arrays.values() for a in by_name.values())]


# Adaptive rates


def test_adaptive_divides_the_rate_by_five_on_a_plateau():
    """After two epochs without progress, and again after two more."""
    script = [[0.6], [0.5], *[[0.5]] * 5]
    with pytest.warns(ConvergenceWarning, match="max_iter=7"):
        _, state = train_by_script(script, learning_rate="adaptive", n_iter_no_change=2)
    expected = [1.0, 1.0, 1.0, 1.0, 0.2, 0.2, 0.04]
    np.testing.assert_allclose(state.history["learning_rate"], expected)


def test_adaptive_lowers_the_rate_of_the_member_on_a_plateau_only():
    script = [[0.6, 0.60], [0.6, 0.55], [0.6, 0.50], [0.6, 0.45]]
    with pytest.warns(ConvergenceWarning, match="still falling"):
        kept, state = train_by_script(script, learning_rate="adaptive", n_iter_no_change=2)
    np.testing.assert_allclose(state.rate_factor, [[0.2], [1.0]])
    np.testing.assert_allclose(kept, [3.2, 4.0])


def test_adaptive_stops_when_the_rate_has_become_too_small():
    """At a millionth of the first rate here: nine divisions by five."""
    _, state = train_by_script([[0.5]] * 100, learning_rate="adaptive", n_iter_no_change=1)
    assert len(state.history["loss"]) == 11
    np.testing.assert_allclose(state.rate_factor, [[5.0**-9]])


def test_member_whose_loss_is_not_finite_leaves_the_others_to_train_on():
    """Its last weights were never judged, and those of its only good epoch are kept."""
    script = [[0.6, 0.6], [0.5, np.nan], [0.4, np.nan], [0.3, np.nan]]
    with pytest.warns(ConvergenceWarning, match="diverged"):
        kept, state = train_by_script(script)
    assert kept == [4.0, 0.0]
    np.testing.assert_allclose(state.history["loss"], [0.6, 0.5, 0.4, 0.3])


def test_loss_that_stays_high_and_wavers_is_not_called_divergence():
    with pytest.warns(ConvergenceWarning, match="has not converged"):
        kept, _ = train_by_script([[1.60], [1.54], [1.55]])
    assert kept == [3.0]


# Members that are judged together.


class SpoiltLoss(ScriptedLoss):
    """Count what all see, and let member 0 diverge in some steps."""

    def gradient(self, y_true, logits, sample_weight, gradient_out, xp=np):
        gradient_out.fill(-1.0 / logits.shape[1])
        self.n_steps = getattr(self, "n_steps", 0) + 1
        if self.n_steps in self.spoilt:
            gradient_out[0] = np.nan
        return gradient_out

    def losses(self, y_true, logits):
        return (logits - self.target) ** 2

    def mean(self, y_true, logits, sample_weight):
        losses = self.losses(y_true, logits)
        return (losses if sample_weight is None else losses * sample_weight).mean(axis=1)


def spoil(spoilt, target, max_iter=6):
    """Train two members, whose logits are the number of steps that they have taken."""
    rows = Rows(np.zeros((4, 1)), np.array([0.0, 1.0, 0.0, 1.0]))
    plan, state = pose_training(
        rows,
        members=range(2),
        hidden_layer_sizes=(),
        initialization="zeros",
        solver="gd",
        alpha=0.0,
        learning_rate_init=1.0,
        max_iter=max_iter,
        tol=0.0,
    )
    loss = SpoiltLoss([])
    loss.spoilt, loss.target = spoilt, target
    folds = even_folds(np.array([0, 0, 1, 1]), 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        train(replace(plan, loss=loss), state, rows, Validation(rows, folds=folds))
    return state, plan.network.layout.view(state.final_params, "dense_1.b")[:, 0, 0].tolist()


def test_member_that_loses_an_epoch_is_judged_where_it_went_back_to():
    """It loses the third, and goes on at half the rate: 1, 2, 2, 2.5, 3, 3.5; the other 1 to 6."""
    state, kept = spoil({3}, target=4.0)
    own = (np.array([[1, 2, 2, 2.5, 3, 3.5], [1, 2, 3, 4, 5, 6]]) - 4.0) ** 2
    np.testing.assert_allclose(state.history["validation_loss"], own.mean(axis=0))
    assert state.progress.best_epoch.tolist() == [5, 5]
    assert kept == [3.0, 5.0]
    assert state.progress.n_diverged.tolist() == [1, 0]


def test_member_that_is_given_up_does_not_hold_the_others_back():
    state, kept = spoil(set(range(3, 20)), target=9.0, max_iter=12)
    own = np.array([[1] + [2] * 11, range(1, 13)])
    np.testing.assert_allclose(state.history["validation_loss"], ((own - 9.0) ** 2).mean(axis=0))
    assert state.progress.running.tolist() == [False, True]
    assert kept == [2.0, 9.0]


def test_member_that_never_had_a_finite_loss_is_an_error():
    with pytest.raises(ValueError, match="Training diverged"):
        spoil(set(range(1, 20)), target=9.0)
