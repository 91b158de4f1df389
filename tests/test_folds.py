"""Members that hold out rows of their own: never learned from, and judged by all together."""

import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from strategies import seeds
from tables import pose_training
from trainings import ScriptedLoss, assign_evenly, even_folds, noisy_rows

from skdnn._batches import Minibatches
from skdnn._trainer import Trainer, Validation, fingerprint
from skdnn._training import train
from skdnn.training.folds import IN_NO_FOLD, Folds
from skdnn.training.random_streams import RandomStreams
from skdnn.training.rows import Rows

pytestmark = pytest.mark.usefixtures("many_workers")

labels = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40).map(np.array)
n_folds = st.integers(2, 6)


def folds_of(rows, n_members=3, n_folds=3, seed=0):
    """Return folds of some rows, assigned at random."""
    return even_folds(assign_evenly(rows.y, n_folds, seed), n_members, n_folds)


def weighted_rows(n_samples=60, seed=0):
    """Return noisy rows with weights of mean 1."""
    rows = noisy_rows(n_samples, seed)
    weight = np.random.default_rng(seed).exponential(size=n_samples)
    return replace(rows, sample_weight=weight).normalize_weights()


def train_quietly(plan, state, rows, validation):
    """Train, and say nothing of an end before convergence, which is not the matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        train(plan, state, rows, validation)


def train_on_folds(rows, folds, *, members=None, seed=0, **parameters):
    """Train members on folds; return the plan and the state that training ends in."""
    members = range(folds.n_members) if members is None else members
    parameters = {"max_iter": 4, "learning_rate_init": 0.05, "activation": "tanh", **parameters}
    plan, state = pose_training(rows, members=members, seed=seed, **parameters)
    train_quietly(plan, state, rows, Validation(rows, folds=folds))
    return plan, state


# What a member trains on, and what it is judged by.


@given(y=labels, n_folds=n_folds, n_members=st.integers(1, 8), seed=seeds)
def test_each_row_is_trained_on_or_held_out_by_each_member(y, n_folds, n_members, seed):
    assume(len(y) > 1)
    of_row = assign_evenly(y, n_folds, seed)
    folds = even_folds(of_row, n_members, n_folds)
    for member in range(n_members):
        training, held_out = folds.training_index(member), folds.validation_index(member)
        assert sorted([*training, *held_out]) == list(range(len(y)))
        assert set(of_row[held_out]) <= {member % n_folds}
        assert len(training) >= folds.n_training
    lengths = {fold: n for fold, n in Counter(of_row).items() if fold >= 0}
    assert folds.n_training == len(y) - max(lengths.values(), default=0)


@pytest.mark.parametrize("make", [noisy_rows, weighted_rows])
def test_training_weights_make_the_mean_over_all_rows_one_over_the_members_own(make):
    rows, losses = make(50), np.random.default_rng(1).normal(size=50)
    folds = folds_of(rows)
    weights = folds.training_weights(rows)
    np.testing.assert_allclose(weights.mean(axis=1), 1.0)
    for member in range(3):
        own = folds.training_index(member)
        given_weights = None if rows.sample_weight is None else rows.sample_weight[own]
        expected = np.average(losses[own], weights=given_weights)
        assert np.mean(weights[member] * losses) == pytest.approx(expected)
        assert not weights[member, folds.validation_index(member)].any()


@pytest.mark.parametrize("n_members", [1, 2, 3, 5])
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_pooled_loss_counts_each_row_once_by_those_that_hold_it_out(
    n_members, is_weighted, is_sparse
):
    """20 rows in three folds of unequal size; of five members some share a fold."""
    rows = weighted_rows(20) if is_weighted else noisy_rows(20)
    folds = folds_of(rows, n_members)
    if is_sparse:
        rows = replace(rows, X=csr_matrix(rows.X))
    plan, state = pose_training(rows, members=range(n_members))
    trainer = Trainer(plan, state, rows, Validation(rows, folds=folds))
    logits = plan.network.logits(state.params, rows.X)
    judged = np.flatnonzero(folds.of_row < n_members)
    weight = None if rows.sample_weight is None else rows.sample_weight[judged]

    def pooled(temperature):
        losses = plan.loss.losses(rows.y[np.newaxis], logits / temperature)
        by_row = [losses[folds.of_row[i] :: 3, i].mean() for i in judged]
        return np.average(by_row, weights=weight)

    loss, objective, score = trainer.validate()
    np.testing.assert_allclose(loss, np.full(n_members, pooled(1.0)), rtol=1e-12)
    least = min(pooled(temperature) for temperature in np.geomspace(1.0, 2.0, 200))
    np.testing.assert_allclose(objective, np.full(n_members, least), rtol=1e-5)
    np.testing.assert_allclose(score, -objective, rtol=1e-9)


def test_rows_held_out_need_a_weight_that_counts():
    rows = replace(noisy_rows(4), sample_weight=np.array([0.0, 0.0, 2.0, 2.0]))
    with pytest.raises(ValueError, match="sample_weight of all rows that are held out"):
        even_folds(np.array([0, 1, IN_NO_FOLD, IN_NO_FOLD]), 2, 2).hold_out(rows)


@pytest.mark.parametrize(("n_members", "n_rows"), [(2, 60), (3, 59)])
def test_folds_of_another_training_are_refused(n_members, n_rows):
    rows, folds = noisy_rows(60), folds_of(noisy_rows(n_rows), n_members)
    with pytest.raises(
        ValueError, match=f"3 members and 60 rows.*{n_members} members and {n_rows}"
    ):
        train_on_folds(rows, folds, members=range(3))


# Batches.


def epoch_of(batches):
    """Return the labels and weights of an epoch, and check that x belongs to them."""
    [x] = batches
    np.testing.assert_array_equal(x[..., 0], batches.y)
    return batches.y.copy(), None if batches.sample_weight is None else batches.sample_weight.copy()


def numbered(n_samples, is_weighted=False):
    index = np.arange(float(n_samples))
    return Rows(index[:, np.newaxis], index, index + 1.0 if is_weighted else None)


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize("batch_size", [4, 7, 17])
def test_batches_have_the_members_own_rows(is_shuffled, batch_size):
    """Of 20 rows, members have 13 or 14: an epoch has 13, and leaves out others each time."""
    rows, folds = numbered(20), even_folds(np.arange(20) % 3, 4, 3)
    rngs = RandomStreams.spawn(0, range(4)).shuffling if is_shuffled else None
    batches = Minibatches(rows, batch_size, rngs, folds)
    assert batches.n_samples == batches.n_seen == 13
    assert batches.n_batches == -(-13 // batch_size)
    seen: list[set] = [set() for _ in range(4)]
    orders = set()
    for _ in range(20):
        y, _ = epoch_of(batches)
        assert y.shape == (4, 13)
        orders.add(y.tobytes())
        for member, of_member in enumerate(y):
            assert len(set(of_member)) == 13
            seen[member] |= set(of_member)
            if not is_shuffled:
                assert of_member.tolist() == folds.training_index(member)[:13].tolist()
    if is_shuffled:
        assert len(orders) == 20
        assert seen == [set(folds.training_index(member)) for member in range(4)]


def test_batches_scale_the_weights_to_the_members_own_mean():
    rows, folds = numbered(20, is_weighted=True), even_folds(np.arange(20) % 4, 4, 4)
    y, weight = epoch_of(Minibatches(rows, 6, RandomStreams.spawn(0, range(4)).shuffling, folds))
    np.testing.assert_allclose(weight.mean(axis=1), 1.0)
    np.testing.assert_allclose(weight / weight[:, :1], (y + 1.0) / (y[:, :1] + 1.0))


def test_batch_of_all_rows_is_shared_and_weighted():
    """Nothing is copied, and no random number drawn."""
    rows, folds = numbered(20), even_folds(np.arange(20) % 4, 4, 4)
    rngs = RandomStreams.spawn(0, range(4)).shuffling
    batches = Minibatches(rows, 20, rngs, folds)
    [x] = batches
    assert (x.shape, batches.n_seen) == ((1, 20, 1), 15)
    assert np.shares_memory(x, rows.X)
    np.testing.assert_array_equal(batches.sample_weight, folds.training_weights(rows))
    untouched = RandomStreams.spawn(0, range(4)).shuffling
    assert [rng.random() for rng in rngs] == [rng.random() for rng in untouched]


# Training.

SETTINGS = {
    "one batch": {"solver": "gd", "learning_rate_init": 0.3},
    "mini-batches": {"batch_size": 16},
    "without shuffling": {"batch_size": 16, "shuffle": False},
    "batch normalisation": {"solver": "gd", "normalization": "batch"},
    "batch normalisation in mini-batches": {"batch_size": 16, "normalization": "batch"},
    "dropout": {"solver": "gd", "dropout": 0.2},
    "average": {"batch_size": 16, "ema_decay": 0.5, "dropout": 0.2},
    "focal": {"batch_size": 100, "loss": "focal"},
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
tables = pytest.mark.parametrize("table", [noisy_rows, weighted_rows])


@settings
@tables
def test_member_learns_nothing_from_the_rows_that_it_holds_out(setting, table):
    """Other rows in their place change nothing for it, to the last bit; for others they do."""
    rows = table(50)
    folds = folds_of(rows, 4, 3)
    out = folds.validation_index(1)
    X, y = rows.X.copy(), rows.y.copy()
    X[out], y[out] = 3.0 - X[out], 1.0 - y[out]
    ends = []
    for these in (rows, replace(rows, X=X, y=y)):
        plan, state = pose_training(these, members=range(4), **{"max_iter": 3, **setting})
        train_quietly(plan, state, these, Validation(these, folds=folds))
        ends.append(state.weights)
    np.testing.assert_array_equal(ends[0][1], ends[1][1])
    assert all((ends[0][member] != ends[1][member]).any() for member in (0, 2, 3))


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
@tables
def test_member_learns_in_one_batch_what_it_would_from_its_own_rows_alone(
    table, normalization, max_grad_norm
):
    """Its weights of zero and its scale stand for a table without the rows held out."""
    rows = table(40)
    folds = folds_of(rows)
    parameters = {"solver": "gd", "alpha": 1.0, "learning_rate_init": 0.2, "max_iter": 5}
    parameters |= {"normalization": normalization, "max_grad_norm": max_grad_norm}
    plan, state = pose_training(rows, members=range(3), **parameters)
    train_quietly(plan, state, rows, Validation(rows, folds=folds))
    for member in range(3):
        own = rows.take(folds.training_index(member)).normalize_weights()
        alone, alone_state = pose_training(own, members=(member,), **parameters)
        alone = replace(alone, optimizer=plan.optimizer, l2=plan.l2)
        train_quietly(alone, alone_state, own, Validation(own))
        np.testing.assert_allclose(
            state.params[member], alone_state.params[0], rtol=1e-9, atol=1e-12
        )


@settings
def test_members_are_those_that_each_would_be_alone(setting):
    """With the same folds: four members of three folds, one of which would hold out fold 0."""
    rows = weighted_rows(50)
    folds = folds_of(rows, 4, 3)
    _, state = train_on_folds(rows, folds, **setting)
    for member in range(4):
        of_row = np.where(folds.of_row < 0, folds.of_row, (folds.of_row - member) % 3)
        _, alone = train_on_folds(rows, even_folds(of_row, 1, 3), members=(member,), **setting)
        np.testing.assert_array_equal(state.weights[member], alone.weights[0])


@settings
def test_sparse_rows_train_as_dense_ones(setting):
    rows = weighted_rows(50)
    folds = folds_of(rows, 4, 3)
    ends = [
        train_on_folds(these, folds, **setting)[1]
        for these in (rows, replace(rows, X=csr_matrix(rows.X)))
    ]
    # Adam divides by gradients that are zero but for rounding: of biases before a normalisation.
    np.testing.assert_allclose(ends[0].final_params, ends[1].final_params, rtol=1e-6, atol=1e-8)


def test_float32_stays_float32():
    rows = weighted_rows(50).astype(np.float32)
    for batch_size in (16, 50):
        batches = Minibatches(rows, batch_size, None, folds_of(rows))
        list(batches)
        assert batches.sample_weight.dtype == np.float32
        _, state = train_on_folds(rows, folds_of(rows), batch_size=batch_size, dtype=np.float32)
        assert state.final_params.dtype == np.float32


def test_rows_that_a_member_learns_from_are_counted():
    rows = noisy_rows(50)
    for batch_size in (16, 50):
        _, state = train_on_folds(rows, folds_of(rows), batch_size=batch_size)
        assert state.n_samples_seen == 4 * 33


# Judging.


def test_members_keep_the_epoch_that_is_best_for_all_of_them_together():
    rows = noisy_rows(80)
    folds = folds_of(rows, 4, 4)
    parameters = {"hidden_layer_sizes": (30,), "batch_size": 16, "learning_rate_init": 0.02}
    _, state = train_on_folds(rows, folds, max_iter=14, **parameters)
    expected, ends = [], []
    for n_epochs in range(1, 15):
        plan, part = train_on_folds(rows, folds, max_iter=n_epochs, **parameters)
        logits = np.empty(80)
        for member in range(4):
            out = folds.validation_index(member)
            logits[out] = plan.network.logits(part.params, rows.X)[member, out]
        expected.append(log_loss(rows.y, expit(logits)))
        ends.append(part.params)
    np.testing.assert_allclose(state.history["validation_loss"], expected, rtol=1e-9)
    best = int(np.argmin(expected))
    assert 0 < best < 13, "the best epoch should lie in between"
    assert state.progress.best_epoch.tolist() == [best + 1] * 4
    np.testing.assert_array_equal(state.final_params, ends[best])


def test_members_stop_together_when_all_together_make_no_progress():
    rows = noisy_rows(60)
    parameters = {"tol": 0.0, "n_iter_no_change": 3, "learning_rate_init": 0.1, "batch_size": 16}
    _, state = train_on_folds(rows, folds_of(rows), max_iter=50, **parameters)
    losses = state.history["validation_loss"]
    assert len(losses) == int(np.argmin(losses)) + 4 < 50
    assert not state.progress.running.any()


def test_training_loss_before_training_is_of_the_members_own_rows():
    rows = weighted_rows(30)
    folds = folds_of(rows)
    plan, state = pose_training(rows, members=range(3), batch_size=8)
    metrics = Trainer(plan, state, rows, Validation(rows, folds=folds)).judge()
    logits = plan.network.logits(state.params, rows.X)
    for member in range(3):
        own = folds.training_index(member)
        expected = log_loss(
            rows.y[own], expit(logits[member, own]), sample_weight=rows.sample_weight[own]
        )
        assert metrics.loss[member] == pytest.approx(expected)


# One that fails, and going on.


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
    train_quietly(replace(plan, loss=loss), state, rows, Validation(rows, folds=folds))
    return state, plan.network.layout.view(state.final_params, "dense_1.b")[:, 0, 0].tolist()


@pytest.mark.usefixtures("one_worker")
def test_member_that_loses_an_epoch_is_judged_where_it_went_back_to():
    """It loses the third, and goes on at half the rate: 1, 2, 2, 2.5, 3, 3.5; the other 1 to 6."""
    state, kept = spoil({3}, target=4.0)
    own = (np.array([[1, 2, 2, 2.5, 3, 3.5], [1, 2, 3, 4, 5, 6]]) - 4.0) ** 2
    np.testing.assert_allclose(state.history["validation_loss"], own.mean(axis=0))
    assert state.progress.best_epoch.tolist() == [5, 5]
    assert kept == [3.0, 5.0]
    assert state.progress.n_diverged.tolist() == [1, 0]


@pytest.mark.usefixtures("one_worker")
def test_member_that_is_given_up_does_not_hold_the_others_back():
    state, kept = spoil(set(range(3, 20)), target=9.0, max_iter=12)
    own = np.array([[1] + [2] * 11, range(1, 13)])
    np.testing.assert_allclose(state.history["validation_loss"], ((own - 9.0) ** 2).mean(axis=0))
    assert state.progress.running.tolist() == [False, True]
    assert kept == [2.0, 9.0]


def test_member_that_never_had_a_finite_loss_is_an_error():
    with pytest.raises(ValueError, match="Training diverged"):
        spoil(set(range(1, 20)), target=9.0)


@settings
def test_training_in_two_parts_is_that_in_one(setting):
    rows = weighted_rows(50)
    folds = folds_of(rows)
    _, whole = train_on_folds(rows, folds, max_iter=6, **setting)
    plan, parts = train_on_folds(rows, folds, max_iter=3, **setting)
    train(plan, parts, rows, Validation(rows, folds=folds))
    np.testing.assert_array_equal(parts.final_params, whole.final_params)
    np.testing.assert_array_equal(parts.params, whole.params)
    for name in ("loss", "validation_loss"):
        assert parts.history[name] == whole.history[name]


def test_other_folds_are_another_training():
    rows = noisy_rows(50)
    plan, _ = pose_training(rows)
    validations = [Validation(rows, folds=folds_of(rows, seed=seed)) for seed in (0, 0, 1)]
    one, same, other = (fingerprint(plan, rows, validation) for validation in validations)
    assert one == same != other
    assert fingerprint(plan, rows, Validation(rows)) not in (one, other)
    of_row = np.array([0, 1] * 25)
    two, three = (Validation(rows, folds=even_folds(of_row, 3, n)) for n in (2, 3))
    assert fingerprint(plan, rows, two) != fingerprint(plan, rows, three)


@settings
def test_training_is_the_same_each_time(setting):
    rows = weighted_rows(50)
    one, same = (train_on_folds(rows, folds_of(rows), **setting)[1] for _ in range(2))
    np.testing.assert_array_equal(one.final_params, same.final_params)
    assert one.history["validation_loss"] == same.history["validation_loss"]


def test_weight_and_repetition_are_the_same_training():
    """Folds are those of merged rows: copies of a row are never on both sides."""
    rows, times = noisy_rows(30), np.random.default_rng(0).integers(1, 4, 30)
    index = np.random.default_rng(1).permutation(np.repeat(np.arange(30), times))
    ends = []
    for given_rows in (replace(rows, sample_weight=times.astype(float)), rows.take(index)):
        merged = given_rows.merge_identical()
        folds = folds_of(merged)
        merged = merged.normalize_weights()
        parameters = {"solver": "gd", "dropout": 0.2, "alpha": 0.0, "max_iter": 3}
        ends.append(train_on_folds(merged, folds, **parameters)[1].final_params)
    np.testing.assert_array_equal(*ends)


# Predictions of those that did not train on a row.


@pytest.mark.parametrize("is_sparse", [False, True])
def test_out_of_fold_logits_are_of_the_members_that_hold_the_row_out(is_sparse):
    """Five members of four folds share one of them; with three members fold 3 has nobody."""
    rows = noisy_rows(40)
    of_row = np.arange(40) % 5 - 1
    for n_members in (3, 5):
        folds = even_folds(of_row, n_members, 4)
        plan, state = pose_training(rows, members=range(n_members))
        all_logits = plan.network.logits(state.params, rows.X)
        X = csr_matrix(rows.X) if is_sparse else rows.X
        held_out = folds.hold_out(replace(rows, X=X))
        logits = held_out.pool(plan.network.logits(state.params, held_out.X))
        assert logits.dtype == np.float64
        for i, fold in enumerate(of_row):
            holders = [m for m in range(n_members) if m % 4 == fold]
            if holders:
                expected = logit(expit(all_logits[holders, i]).mean())
                assert logits[i] == pytest.approx(expected)
            else:
                assert np.isnan(logits[i])
        assert np.isnan(logits).any()


# Members that hold out any of the folds.


OVERLAPPING = np.array([[True, False, True], [True, True, False], [False, False, False]])


def test_members_may_hold_out_the_same_rows():
    of_row = np.array([0, 0, 1, 1, 2, IN_NO_FOLD])
    folds = Folds(of_row, OVERLAPPING)
    assert [folds.validation_index(m).tolist() for m in range(3)] == [[0, 1, 2, 3], [2, 3], [0, 1]]
    assert [folds.training_index(m).tolist() for m in range(3)] == [
        [4, 5],
        [0, 1, 4, 5],
        [2, 3, 4, 5],
    ]
    assert folds.n_training == 2


def test_row_that_several_members_hold_out_counts_once():
    rows = weighted_rows(30)
    folds = Folds(np.arange(30) % 4 - 1, OVERLAPPING)
    plan, state = pose_training(rows, members=range(3))
    loss, _, _ = Trainer(plan, state, rows, Validation(rows, folds=folds)).validate()
    losses = plan.loss.losses(rows.y[np.newaxis], plan.network.logits(state.params, rows.X))
    judged = [i for i in range(30) if folds.of_row[i] in (0, 1)]
    by_row = [losses[OVERLAPPING[folds.of_row[i]], i].mean() for i in judged]
    expected = np.average(by_row, weights=rows.sample_weight[judged])
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
