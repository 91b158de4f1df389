"""The training loop: batches, patience, rates, what is recorded, and what is said when it fails."""

import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from strategies import seeds
from tables import SOLVER_ROWS, pose_training

from skdnn import DeepBinaryClassifier
from skdnn._batches import Minibatches
from skdnn._random import RandomStreams
from skdnn._rows import Rows, split_validation
from skdnn._stopping import Patience
from skdnn._training import Trainer, TrainingPlan, train


def numbered_rows(n_samples, is_weighted=True):
    """Return rows that carry their own number, as features, as label and as weight."""
    index = np.arange(float(n_samples))
    return Rows(np.column_stack([index, -index]), index, index if is_weighted else None)


def noisy_rows(n_samples=60, seed=0):
    """Return rows with labels that depend on them in part."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    return Rows(X, (X[:, 0] + rng.normal(size=n_samples) > 0).astype(np.float64))


def epoch_of(batches):
    """Return copies of x, y and weights of each batch of one epoch."""
    parts = []
    for columns, x in batches:
        weight = batches.sample_weight
        weight = None if weight is None else weight[:, columns].copy()
        parts.append((x.copy(), batches.y[:, columns].copy(), weight))
    return parts


# Mini-batches


@given(
    n_samples=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    n_members=st.integers(1, 3),
    is_weighted=st.booleans(),
    seed=seeds,
)
def test_batches_cover_each_row_once_an_epoch(n_samples, batch_size, n_members, is_weighted, seed):
    """For each member, in each of two epochs, with the label and weight that belong to it."""
    rows = numbered_rows(n_samples, is_weighted)
    rngs = RandomStreams.spawn(seed, range(n_members)).shuffling
    batches = Minibatches(rows, batch_size, rngs)
    for _ in range(2):
        parts = epoch_of(batches)
        assert len(parts) == batches.n_batches
        for x, y, weight in parts:
            assert x.shape == (*y.shape, 2)
            np.testing.assert_array_equal(x[..., 0], y)
            np.testing.assert_array_equal(x[..., 1], -y)
            assert (weight is None) == (not is_weighted)
            np.testing.assert_array_equal(y if weight is None else weight, y)
        for seen in np.concatenate([y for _, y, _ in parts], axis=1):
            np.testing.assert_array_equal(np.sort(seen), np.arange(n_samples))


@given(n_samples=st.integers(1, 40), batch_size=st.integers(1, 50), is_shuffled=st.booleans())
def test_batches_are_full_but_for_the_last(n_samples, batch_size, is_shuffled):
    rngs = RandomStreams.spawn(0, [0]).shuffling if is_shuffled else None
    batches = Minibatches(numbered_rows(n_samples), batch_size, rngs)
    sizes = [x.shape[1] for _, x in batches]
    full, n_left = divmod(n_samples, batch_size)
    assert sizes == [batch_size] * full + [n_left] * (n_left > 0)
    assert set(sizes) == batches.sizes


def test_batches_of_each_member_and_epoch_come_in_an_order_of_their_own():
    batches = Minibatches(numbered_rows(50), 10, RandomStreams.spawn(0, range(2)).shuffling)
    orders = []
    for _ in range(2):
        y = np.concatenate([y for _, y, _ in epoch_of(batches)], axis=1)
        orders += y.tolist()
    assert len({tuple(order) for order in orders}) == 4


def test_batches_without_shuffling_keep_the_order_and_copy_nothing():
    rows = numbered_rows(25)
    batches = Minibatches(rows, 10, None)
    np.testing.assert_array_equal(
        np.concatenate([y[0] for _, y, _ in epoch_of(batches)]), np.arange(25)
    )
    assert all(np.shares_memory(x, rows.X) for _, x in batches)


@pytest.mark.parametrize("batch_size", [25, 1000])
def test_batch_of_all_rows_takes_them_as_they_lie(batch_size):
    """No copy, no shuffling, and no random number is drawn."""
    rows, rngs = numbered_rows(25), RandomStreams.spawn(0, range(3)).shuffling
    [(columns, x)] = batches = Minibatches(rows, batch_size, rngs)
    assert columns == slice(0, 25)
    assert x.shape == (1, 25, 2)
    assert np.shares_memory(x, rows.X)
    assert np.shares_memory(batches.y, rows.y)
    untouched = RandomStreams.spawn(0, range(3)).shuffling
    assert [rng.random() for rng in rngs] == [rng.random() for rng in untouched]


def test_batches_leave_the_rows_as_they_are():
    rows = numbered_rows(25)
    for _ in range(2):
        epoch_of(Minibatches(rows, 10, RandomStreams.spawn(0, range(2)).shuffling))
    for array, as_it_was in zip(vars(rows).values(), vars(numbered_rows(25)).values(), strict=True):
        np.testing.assert_array_equal(array, as_it_was)


# Patience


def follow(losses, **arguments):
    """Show a Patience one loss after the other; return it and the first epoch it is exhausted."""
    patience = Patience(1, **arguments)
    for epoch, loss in enumerate(losses):
        patience.update(np.array([loss]))
        if patience.exhausted[0]:
            return patience, epoch
    return patience, None


@pytest.mark.parametrize(
    ("losses", "stops_in"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.0], None),
        ([5.0, 5.0, 5.0, 5.0], 2),
        ([5.0, 6.0, 4.0, 4.5, 4.5], 4),
        ([5.0, 4.9, 4.8, 4.7], 2),  # every step is compared with the best just before it
        ([5.0, np.nan, np.nan], 2),
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
    patience, epoch = follow([1.0, 0.99, 0.98, 0.985], tol=0.1, n_iter_no_change=3)
    assert epoch == 3
    assert patience.best_loss.tolist() == [0.98]


def test_patience_without_end_never_is_exhausted():
    assert follow([1.0] * 100, tol=0.1, n_iter_no_change=np.inf)[1] is None


def test_patience_knows_no_best_among_losses_that_are_not_finite():
    patience, _ = follow([np.nan, np.inf], tol=0.1, n_iter_no_change=5)
    assert patience.best_loss.tolist() == [np.inf]


def test_patience_follows_each_member_by_itself():
    patience = Patience(3, tol=0.0, n_iter_no_change=2)
    for loss in ([3.0, 3.0, 3.0], [4.0, 2.0, 4.0], [4.0, 1.0, 2.0]):
        patience.update(np.array(loss))
    assert patience.best_loss.tolist() == [3.0, 1.0, 2.0]
    assert patience.exhausted.tolist() == [True, False, False]


def test_patience_takes_no_more_notice_of_a_member_that_has_stopped():
    patience = Patience(2, tol=0.0, n_iter_no_change=1)
    patience.update(np.array([1.0, 1.0]))
    patience.running[0] = False
    patience.update(np.array([0.5, 0.5]))
    assert patience.best_loss.tolist() == [1.0, 0.5]
    patience.update(np.array([9.0, 9.0]))
    assert patience.exhausted.tolist() == [False, True]


# Training by a script: each epoch's loss of each member is given, and each step moves every
# parameter by the same known amount, so that the weights tell in which epoch they were kept.


@dataclass
class ScriptedLoss:
    """Report the losses that are written down; the gradient is a constant."""

    script: list  # by epoch, then by member
    epoch: int = field(default=0)

    def gradient(self, y_true, logits, sample_weight, gradient_out):
        gradient_out.fill(-1.0 / logits.shape[1])
        return gradient_out

    def mean(self, y_true, logits, sample_weight):
        self.epoch += 1
        return np.array(self.script[min(self.epoch, len(self.script)) - 1], dtype=np.float64)


def train_by_script(script, *, with_validation=False, learning_rate="constant", **changes):
    """Train until the script ends; return how many steps each member's kept weights have taken."""
    rows = Rows(np.zeros((4, 1)), np.array([0.0, 1.0, 0.0, 1.0]))
    plan, state = pose_training(
        rows,
        members=range(len(script[0])),
        hidden_layer_sizes=(),
        initialization="zeros",
        solver="gd",
        alpha=0.0,
        learning_rate=learning_rate,
        learning_rate_init=1.0,
        max_iter=len(script),
        tol=0.01,
    )
    if with_validation:  # the loss is then asked for twice an epoch: of training, of validation
        script = [losses for losses in script for _ in range(2)]
    before_training = [np.inf] * len(script[0])
    plan = replace(plan, loss=ScriptedLoss([before_training, *script]), **changes)
    train(plan, state, rows, rows if with_validation else None)
    bias = plan.network.layout.view(state.params, "dense_1.b")[:, 0, 0]
    return bias.tolist(), state


def test_training_without_validation_keeps_the_last_weights():
    kept, state = train_by_script([[0.6], [0.5], [0.55]])
    assert kept == [3.0]
    assert state.history["loss"] == [0.6, 0.5, 0.55]


def test_training_with_validation_keeps_the_weights_of_the_best_epoch():
    """The loss on validation rows is that of the weights after the epoch."""
    kept, state = train_by_script([[0.6], [0.5], [0.55], [0.5]], with_validation=True)
    assert kept == [2.0]
    assert state.history["validation_loss"] == [0.6, 0.5, 0.55, 0.5]


def test_training_stops_when_no_member_makes_progress():
    kept, state = train_by_script([[0.5]] * 10, n_iter_no_change=3)
    assert kept == [4.0]
    assert len(state.history["loss"]) == 4


def test_member_that_stops_keeps_its_weights_while_others_go_on():
    script = [[0.6, 0.6], [0.6, 0.5], [0.6, 0.4], [0.1, 0.3], [0.1, 0.3], [0.1, 0.3], [0.1, 0.3]]
    kept, state = train_by_script(script, n_iter_no_change=2)
    assert kept == [3.0, 6.0]
    np.testing.assert_allclose(state.history["loss"], [0.6, 0.55, 0.5, 0.3, 0.3, 0.3])


def test_member_that_stops_keeps_its_best_weights_under_validation():
    """What it reaches afterwards, without being asked, does not count."""
    script = [[0.6, 0.6], [0.7, 0.5], [0.7, 0.4], [0.1, 0.3], [0.1, 0.2]]
    with pytest.warns(ConvergenceWarning, match="still falling"):
        kept, _ = train_by_script(script, n_iter_no_change=2, with_validation=True)
    assert kept == [1.0, 5.0]


@pytest.mark.parametrize("afterwards", [5.0, np.inf, np.nan])
@pytest.mark.parametrize("with_validation", [False, True])
def test_member_that_has_stopped_cannot_diverge_any_more(afterwards, with_validation):
    """Whatever its loss becomes, it keeps its weights, and the others train on in peace."""
    script = [[0.6, 0.6], [0.6, 0.5], [0.6, 0.4], [afterwards, 0.3], [afterwards, 0.3]]
    script += [[afterwards, 0.3]] * 2
    kept, state = train_by_script(script, n_iter_no_change=2, with_validation=with_validation)
    assert kept == ([1.0, 4.0] if with_validation else [3.0, 6.0])
    assert len(state.history["loss"]) == 6


def test_training_warns_if_the_loss_was_still_falling():
    with pytest.warns(ConvergenceWarning, match=r"max_iter=3 .*learning_rate_init=1.0"):
        kept, _ = train_by_script([[0.6], [0.5], [0.4]], n_iter_no_change=5)
    assert kept == [3.0]


def test_training_says_nothing_if_no_plateau_is_waited_for():
    kept, _ = train_by_script([[0.6], [0.5], [0.4]], n_iter_no_change=np.inf)
    assert kept == [3.0]


def test_weights_that_diverged_are_replaced_by_the_best_so_far():
    """The training loss of an epoch describes the weights that the epoch began with."""
    with pytest.warns(ConvergenceWarning, match=r"loss was 50 in epoch 4.* epoch 2"):
        kept, _ = train_by_script([[0.6], [0.5], [2.0], [50.0]])
    assert kept == [1.0]


def test_only_members_that_diverged_lose_their_weights():
    with pytest.warns(ConvergenceWarning, match="diverged"):
        kept, _ = train_by_script([[0.6, 0.6], [0.5, 0.5], [50.0, 0.4]])
    assert kept == [1.0, 3.0]


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_loss_that_stops_being_finite_ends_training_with_the_best_weights(bad):
    with pytest.warns(ConvergenceWarning, match=r"in epoch 3 at learning rate 1\b.*StandardScaler"):
        kept, state = train_by_script([[0.6], [0.5], [bad], [0.1]])
    assert kept == [1.0]
    assert len(state.history["loss"]) == 3


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_loss_that_is_not_finite_in_the_first_epoch_raises(bad):
    with pytest.raises(
        ValueError, match=r"in epoch 1 at learning rate 1.*Scale the features.*learning_rate_init"
    ):
        train_by_script([[bad], [0.1]])


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


# What is recorded and printed


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_iter_no_change", [2, np.inf])
def test_history_has_one_value_of_each_kind_for_each_epoch(early_stopping, n_iter_no_change):
    rows, validation = noisy_rows(), None
    plan, state = pose_training(
        rows,
        members=(0, 1),
        hidden_layer_sizes=(5,),
        n_iter_no_change=n_iter_no_change,
        tol=0.1,
        max_iter=20,
    )
    if early_stopping:
        rows, validation = split_validation(rows, 0.3, state.streams.split)
    train(plan, state, rows, validation)
    kinds = {"loss", "penalty", "learning_rate", "seconds"}
    assert set(state.history) == (kinds | {"validation_loss"} if early_stopping else kinds)
    assert len({len(values) for values in state.history.values()}) == 1
    for values in state.history.values():
        assert all(type(value) is float for value in values)
    n_epochs = len(state.history["loss"])
    assert n_epochs < 20 if n_iter_no_change == 2 else n_epochs == 20
    assert state.n_samples_seen == n_epochs * len(rows)


def test_history_goes_on_where_it_ended():
    rows = noisy_rows()
    plan, state = pose_training(rows, max_iter=3)
    train(plan, state, rows)
    first = list(state.history["loss"])
    train(plan, state, rows)
    assert state.history["loss"][:3] == first
    assert len(state.history["loss"]) == 6
    assert state.history["loss"][-1] < first[0]


def test_loss_of_the_first_epoch_in_one_batch_is_that_of_the_first_weights():
    """Weighted, averaged over the members, with the penalty apart."""
    rng = np.random.default_rng(0)
    rows = noisy_rows()
    rows = Rows(rows.X, rows.y, rng.exponential(size=60)).normalize_weights()
    plan, state = pose_training(
        rows, members=(0, 1), hidden_layer_sizes=(5,), batch_size=60, max_iter=1, alpha=0.5
    )
    logits = plan.network.logits(state.params, rows.X)
    W = state.params[:, plan.network.layout.decayed].copy()
    train(plan, state, rows)
    losses = np.logaddexp(0.0, logits) - rows.y * logits
    assert state.history["loss"] == pytest.approx([(rows.sample_weight * losses).mean()])
    penalty = 0.5 * 0.5 / 60.0 * (W**2).sum(axis=1).mean()
    assert state.history["penalty"] == pytest.approx([penalty])


def test_loss_of_an_epoch_is_the_mean_over_its_rows_whatever_the_batches():
    """A last batch of one row among batches of ten counts as one row."""
    rows = noisy_rows(61)
    losses = []
    for batch_size in (10, 61):
        plan, state = pose_training(
            rows, batch_size=batch_size, max_iter=1, learning_rate_init=1e-12, shuffle=False
        )
        train(plan, state, rows)
        losses.append(state.history["loss"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize(("verbose", "epochs"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4])])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose_prints_one_line_for_every_nth_epoch(verbose, epochs, early_stopping, capsys):
    rows = noisy_rows()
    plan, state = pose_training(rows, max_iter=5, verbose=verbose)
    train(plan, state, rows, rows if early_stopping else None)
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines] == epochs
    for line, epoch in zip(lines, epochs, strict=True):
        assert f"loss {state.history['loss'][epoch - 1]:.5f}" in line
        assert ("validation loss" in line) == early_stopping
        assert "learning rate 1.00e-03" in line


# Learning, and its failures


@pytest.mark.parametrize("row", SOLVER_ROWS.values(), ids=SOLVER_ROWS)
def test_training_lowers_the_loss(row):
    rows = noisy_rows(200)
    arguments = {
        {"nesterov": "nesterovs_momentum"}.get(name, name): value
        for name, value in row.arguments.items()
    }
    plan, state = pose_training(
        rows, members=(0, 1), solver=row.solver, learning_rate_init=0.02, max_iter=15, **arguments
    )
    train(plan, state, rows)
    assert state.history["loss"][-1] < 0.95 * state.history["loss"][0]


def test_batches_without_weight_are_no_error_and_change_nothing():
    """Momentum and decay aside, there is nothing to learn from them."""
    rows = noisy_rows()
    rows = Rows(rows.X, rows.y, np.zeros(60))
    plan, state = pose_training(rows, solver="sgd", momentum=0.0, alpha=0.0, max_iter=3)
    before = state.params.copy()
    train(plan, state, rows)
    np.testing.assert_array_equal(state.params, before)
    assert state.history["loss"] == [0.0] * 3


def outcome_of(action):
    """Return the message of the ValueError that an action raises, or of the warning it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
        except ValueError as error:
            return str(error)
    messages = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    return messages[0] if messages else "silence"


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "logistic", "softplus"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"momentum": 0.0},
        {"hidden_layer_sizes": (10, 10, 10)},
        {"early_stopping": True},
        {"batch_size": 1},
        {"batch_size": 120},
        {"solver": "gd"},
    ],
    ids=str,
)
def test_divergence_is_never_silent(activation, dtype, setting):
    """At a learning rate of a million: said with epoch, rate and advice; weights stay finite."""
    rows, validation = noisy_rows(120).astype(dtype), None
    parameters = {
        "hidden_layer_sizes": (10,),
        "solver": "sgd",
        "learning_rate_init": 1e6,
        "max_iter": 10,
        "n_iter_no_change": 10,
        **setting,
    }
    plan, state = pose_training(
        rows, members=(0, 1), dtype=dtype, activation=activation, **parameters
    )
    if "early_stopping" in setting:
        rows, validation = split_validation(rows, 0.3, state.streams.split)
    message = outcome_of(lambda: train(plan, state, rows, validation))
    assert message.startswith("Training")
    assert "epoch" in message
    assert "learning rate 1e+06" in message
    assert "StandardScaler" in message
    assert np.isfinite(state.params).all()


@pytest.mark.parametrize("max_iter", [1, 2])
def test_divergence_in_the_last_step_is_not_silent_either(max_iter):
    """The loss of an epoch is measured before its last step; that step can ruin the weights."""
    rows = noisy_rows(120)
    plan, state = pose_training(
        rows, hidden_layer_sizes=(10,), solver="gd", learning_rate_init=1e6, max_iter=max_iter
    )
    message = outcome_of(lambda: train(plan, state, rows))
    logits = plan.network.logits(state.params, rows.X)
    is_useful = plan.loss.mean(rows.y[np.newaxis], logits, None)[0] < 2.0
    assert is_useful or message.startswith("Training")


def test_rows_that_overflow_at_once_raise_before_there_are_weights_to_keep():
    rows = noisy_rows()
    rows = Rows(1e308 * np.sign(rows.X), rows.y)
    plan, state = pose_training(rows, hidden_layer_sizes=(10,), solver="sgd")
    with pytest.raises(ValueError, match=r"in epoch 1 at learning rate 0\.001.*StandardScaler"):
        train(plan, state, rows)


def test_heavy_weights_are_not_taken_for_divergence():
    """A part of a table may weigh ten times as much as its rows count; its loss is ten-fold."""
    rows = noisy_rows(200)
    estimator = DeepBinaryClassifier(
        (8,), n_members=1, dropout=0.0, learning_rate_init=0.01, random_state=0
    )
    for _ in range(20):
        estimator.partial_fit(rows.X, rows.y, classes=[0, 1], sample_weight=np.full(200, 10.0))
    assert estimator.history_["loss"][-1] < 0.9 * estimator.history_["loss"][0]


def test_surprising_row_teaches_what_it_has_to_teach():
    """One row at a time, a label against the odds costs much, and is no sign of divergence."""
    estimator = DeepBinaryClassifier((), n_members=1, learning_rate_init=0.1, random_state=0)
    for _ in range(50):
        estimator.partial_fit([[1.0]], [1], classes=[0, 1])
    before = estimator.decision_function([[1.0]])[0]
    message = outcome_of(lambda: estimator.partial_fit([[1.0]], [0]))
    assert "Training diverged" not in message
    assert estimator.history_["loss"][-1] > 1.5
    assert estimator.decision_function([[1.0]])[0] != before


def test_strong_penalty_is_not_taken_for_divergence():
    """The cost is high and falls; the last weights are kept, better than the first."""
    rows = noisy_rows(100)
    plan, state = pose_training(rows, hidden_layer_sizes=(50,), alpha=5.0, max_iter=5)
    message = outcome_of(lambda: train(plan, state, rows))
    assert "Training diverged" not in message
    cost = np.add(state.history["loss"], state.history["penalty"])
    assert cost[-1] > 1.4
    assert (np.diff(cost) < 0).all()
    W = state.params[:, plan.network.layout.decayed]
    assert 0.5 * plan.l2 * (W**2).sum() < state.history["penalty"][-1]


def test_trainer_takes_the_step_that_its_parts_describe():
    """Forward, gradient, backward, update: one step of gradient descent by hand."""
    rows = noisy_rows()
    plan, state = pose_training(
        rows, hidden_layer_sizes=(), solver="gd", learning_rate_init=0.5, alpha=0.0
    )
    layout, before = plan.network.layout, state.params.copy()
    W, b = (layout.view(before, name)[0] for name in ("dense_1.W", "dense_1.b"))
    error = 1.0 / (1.0 + np.exp(-(rows.X @ W + b)[:, 0])) - rows.y
    Trainer(plan, state, rows).run_epoch(0, 1)
    after = {name: layout.view(state.params, name)[0] for name in layout.entries}
    np.testing.assert_allclose(after["dense_1.W"][:, 0], W[:, 0] - 0.5 * rows.X.T @ error / 60)
    np.testing.assert_allclose(after["dense_1.b"][0], b[0] - 0.5 * error.mean())


def test_plan_describes_a_fit_completely():
    """A fit with the same plan, rows and streams is the same fit."""
    rows = noisy_rows()
    kept = []
    for _ in range(2):
        plan, state = pose_training(
            rows, members=(0, 1), activation="tanh", dropout=0.3, max_iter=3, batch_size=16
        )
        assert isinstance(plan, TrainingPlan)
        train(plan, state, rows)
        kept.append(state.params)
    np.testing.assert_array_equal(*kept)


def test_member_whose_loss_is_not_finite_leaves_the_others_to_train_on():
    script = [[0.6, 0.6], [0.5, np.nan], [0.4, np.nan], [0.3, np.nan]]
    with pytest.warns(ConvergenceWarning, match="diverged"):
        kept, state = train_by_script(script)
    assert kept == [4.0, 0.0]
    np.testing.assert_array_equal(state.history["loss"], [0.6, np.nan, 0.4, 0.3])


def test_loss_that_stays_high_and_wavers_is_not_called_divergence():
    with pytest.warns(ConvergenceWarning, match="has not converged"):
        kept, _ = train_by_script([[1.60], [1.54], [1.55]])
    assert kept == [3.0]
