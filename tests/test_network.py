"""The flat array and its views, the two passes, and members that train side by side."""

import tracemalloc
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from strategies import network_and_rows, networks, seeds
from tables import ACTIVATION_ROWS, SCHEDULE_ROWS, SOLVER_ROWS, pose_training

from skdnn import _network
from skdnn._layout import Layout
from skdnn._network import Network
from skdnn._sparse import SparseBatch
from skdnn._trainer import Trainer, Validation
from skdnn._training import train
from skdnn.estimator.architecture import Architecture, build_network
from skdnn.initializers import normal
from skdnn.layers import Activation, Dense, Dropout, ParamSpec, Plan
from skdnn.losses import BinaryCrossEntropy
from skdnn.training.fold_assignment import split_validation
from skdnn.training.random_streams import RandomStreams
from skdnn.training.rows import Rows


@st.composite
def specs_by_name(draw):
    """Up to eight parameters that decay or not, with a few learning-rate factors, or statistics."""
    kinds = draw(
        st.lists(
            st.tuples(
                st.tuples(st.integers(1, 4), st.integers(1, 4)),
                st.booleans(),
                st.sampled_from([0.1, 1.0, 6.0]),
                st.booleans(),
            ),
            max_size=8,
        )
    )
    return {
        f"layer_{i}.W": ParamSpec("W", shape, normal, decays, scale, trainable)
        for i, (shape, decays, scale, trainable) in enumerate(kinds)
    }


@given(specs_by_name())
def test_layout_gives_each_column_to_one_parameter(specs):
    layout = Layout(specs)
    columns = [np.arange(layout.n_params)[entry.columns] for entry in layout.entries.values()]
    assert sorted(layout.entries) == sorted(specs)
    np.testing.assert_array_equal(np.concatenate([[], *columns]), np.arange(layout.n_params))
    assert [len(c) for c in columns] == [np.prod(e.spec.shape) for e in layout.entries.values()]


@given(specs_by_name())
def test_layout_puts_all_that_decays_into_one_range(specs):
    layout = Layout(specs)
    decays = np.zeros(layout.n_params, bool)
    for entry in layout.entries.values():
        decays[entry.columns] = entry.spec.weight_decay and entry.spec.trainable
    expected = np.zeros(layout.n_params, bool)
    expected[layout.decayed] = True
    np.testing.assert_array_equal(decays, expected)


@given(specs_by_name())
def test_layout_puts_statistics_behind_all_that_is_trainable(specs):
    layout = Layout(specs)
    trainable = np.zeros(layout.n_params, bool)
    for entry in layout.entries.values():
        trainable[entry.columns] = entry.spec.trainable
    assert trainable[layout.trainable].all()
    assert not trainable[layout.trainable.stop :].any()
    assert layout.trainable.start == 0


@given(specs_by_name())
def test_layout_joins_neighbours_with_the_same_learning_rate_factor(specs):
    """The ranges cover all that is trainable, in order, and no two that touch could be one."""
    layout = Layout(specs)
    factors = np.full(layout.n_params, np.nan)
    for columns, factor in layout.lr_scales:
        factors[columns] = factor
    for entry in layout.entries.values():
        expected = entry.spec.lr_scale if entry.spec.trainable else np.nan
        np.testing.assert_array_equal(factors[entry.columns], expected)
    starts = [columns.start for columns, _ in layout.lr_scales]
    stops = [columns.stop for columns, _ in layout.lr_scales]
    assert starts[1:] == stops[:-1]
    scales = [factor for _, factor in layout.lr_scales]
    assert all(one != next_one for one, next_one in pairwise(scales))
    n_kinds = len({(spec.weight_decay, spec.lr_scale) for spec in specs.values() if spec.trainable})
    assert len(scales) <= n_kinds


def test_network_without_learning_rate_factors_is_one_range():
    layout = Network((Dense(4), Dense(1)), 3).layout
    assert layout.lr_scales == [(slice(0, layout.n_params), 1.0)]
    assert list(layout.entries) == ["dense_1.W", "dense_2.W", "dense_1.b", "dense_2.b"]


@given(networks(), seeds)
def test_layout_views_share_memory_with_the_flat_array(network, seed):
    layout = network.layout
    flat = np.random.default_rng(seed).normal(size=(network.n_members, layout.n_params))
    for name, entry in layout.entries.items():
        view = layout.view(flat, name)
        assert view.shape == (network.n_members, *entry.spec.shape)
        assert np.shares_memory(view, flat)
        view[...] = 7.0
        assert (flat[:, entry.columns] == 7.0).all()


def test_layer_names_count_each_kind_from_one():
    network = build_network(
        Architecture(
            2, hidden_layer_sizes=(3, 3), activation=("relu", "identity"), dropout=(0.0, 0.5)
        )
    )
    names = [node.name for node in network.nodes]
    assert names == ["dense_1", "activation_1", "dense_2", "dropout_1", "dense_3"]


def test_build_network_leaves_out_layers_that_would_do_nothing():
    network = build_network(
        Architecture(
            4, hidden_layer_sizes=(3, 2), activation=("identity", "tanh"), dropout=(0.0, 0.1)
        )
    )
    kinds = [type(layer) for layer in network.layers]
    assert kinds == [Dense, Dense, Activation, Dropout, Dense]
    assert [node.plan.n_out for node in network.nodes] == [3, 2, 2, 2, 1]


def test_build_network_without_hidden_layers_is_logistic_regression():
    network = build_network(Architecture(4, hidden_layer_sizes=(), activation=(), dropout=()))
    params = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    np.testing.assert_allclose(network.logits(params, np.eye(4)), [[6.0, 7.0, 8.0, 9.0]])


@given(networks(), seeds)
def test_init_params_draws_each_member_from_its_own_stream(network, seed):
    members = range(network.n_members)
    params = network.init_params(RandomStreams.spawn(seed, members).initialization)
    alone = Network(network.layers, network.n_in)
    for k in members:
        one = alone.init_params(RandomStreams.spawn(seed, [k]).initialization)
        np.testing.assert_array_equal(params[k], one[0])
    single = network.init_params(RandomStreams.spawn(seed, members).initialization, np.float32)
    np.testing.assert_array_equal(single, params.astype(np.float32))


@dataclass(frozen=True)
class Shift:
    """A layer with neither weights to decay nor a fixed learning rate: ``y = x + b``."""

    lr_scale: float = 6.0

    def plan(self, n_in):
        spec = ParamSpec("b", (1, n_in), normal, weight_decay=False, lr_scale=self.lr_scale)
        return Plan(n_in, params=(spec,))

    def forward(self, x, slot):
        return x + slot.params.b

    def backward(self, grad_y, slot, *, need_grad_x):
        slot.grads.b[...] = grad_y.sum(axis=1, keepdims=True)
        return grad_y


def test_network_runs_any_layer_that_keeps_the_contract():
    """A layer from outside the package, first and in the middle, with its own rate."""
    network = Network((Shift(), Dense(3), Shift(), Dense(1)), 2, 2)
    assert network.layout.decayed == slice(0, 9)
    assert network.layout.lr_scales == [(slice(0, 13), 1.0), (slice(13, 18), 6.0)]
    rng = np.random.default_rng(0)
    params, X = rng.normal(size=(2, 18)), rng.normal(size=(5, 2))
    grads = np.full_like(params, np.nan)
    passage = network.bind(params, 5, grads=grads)
    logits = passage.forward(X[np.newaxis])
    views = {name: network.layout.view(params, name) for name in network.layout.entries}
    hidden = (X + views["shift_1.b"]) @ views["dense_1.W"] + views["dense_1.b"]
    expected = (hidden + views["shift_2.b"]) @ views["dense_2.W"] + views["dense_2.b"]
    np.testing.assert_allclose(logits, expected[:, :, 0], rtol=1e-12)
    passage.backward(np.ones((2, 5)))
    into_first = (views["dense_1.W"] @ views["dense_2.W"])[:, :, 0] * 5
    of_first = network.layout.view(grads, "shift_1.b")[:, 0]
    np.testing.assert_allclose(of_first, into_first, rtol=1e-12)


@given(network_and_rows(), seeds)
def test_logits_in_blocks_equal_logits_in_one(network_and_rows, seed):
    network, rows = network_and_rows
    params = np.random.default_rng(seed).normal(size=(network.n_members, network.layout.n_params))
    in_one = network.logits(params, rows.X)
    assert in_one.shape == (network.n_members, len(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_network, "FEWEST_ROWS", 1)
        patch.setattr(_network, "BLOCK_BYTES", 8 * 6 * 4)  # four rows or more
        np.testing.assert_allclose(network.logits(params, rows.X), in_one, rtol=1e-12, atol=1e-14)
        patch.setattr(_network, "BLOCK_BYTES", 1)  # one row at a time
        np.testing.assert_allclose(network.logits(params, rows.X), in_one, rtol=1e-12, atol=1e-14)


@given(network_and_rows(), seeds)
def test_logits_are_those_of_a_pass_that_does_not_train(network_and_rows, seed):
    """Dropout is off, and no array for gradients is there."""
    network, rows = network_and_rows
    params = np.random.default_rng(seed).normal(size=(network.n_members, network.layout.n_params))
    prediction = network.bind(params, len(rows))
    assert not prediction.training
    logits = prediction.forward(rows.X[np.newaxis])
    np.testing.assert_array_equal(network.logits(params, rows.X), logits)


@given(network_and_rows(), st.booleans(), seeds)
def test_logits_of_rows_for_each_member_are_those_of_the_member(network_and_rows, is_sparse, seed):
    network, rows = network_and_rows
    rng, shape = np.random.default_rng(seed), (network.n_members, *rows.X.shape)
    params = rng.normal(size=(network.n_members, network.layout.n_params))
    X = rng.normal(size=shape)
    expected = [network.logits(params, X[member])[member] for member in range(len(X))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_network, "FEWEST_ROWS", 1)
        patch.setattr(_network, "BLOCK_BYTES", 8 * 6 * 4)
        x = SparseBatch([csr_matrix(part) for part in X]) if is_sparse else X
        np.testing.assert_allclose(network.logits(params, x), expected, rtol=1e-12, atol=1e-14)


@given(network_and_rows(), seeds)
def test_logits_of_a_member_are_those_among_others_to_the_last_bit(network_and_rows, seed):
    """Blocks of rows must not depend on how many members there are."""
    network, rows = network_and_rows
    params = np.random.default_rng(seed).normal(size=(network.n_members, network.layout.n_params))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_network, "FEWEST_ROWS", 1)
        patch.setattr(_network, "BLOCK_BYTES", 8 * 6 * 4)
        together = network.logits(params, rows.X)
        alone = replace(network, n_members=1)
        for member, logits in enumerate(together):
            np.testing.assert_array_equal(
                alone.logits(params[member : member + 1], rows.X)[0], logits
            )


@given(network_and_rows(), seeds)
def test_passes_that_are_used_again_predict_by_the_parameters_as_they_are(network_and_rows, seed):
    network, rows = network_and_rows
    params = np.random.default_rng(seed).normal(size=(network.n_members, network.layout.n_params))
    passes = {}
    np.testing.assert_array_equal(
        network.logits(params, rows.X, passes=passes), network.logits(params, rows.X)
    )
    made = dict(passes)
    params *= 0.5
    np.testing.assert_array_equal(
        network.logits(params, rows.X, passes=passes), network.logits(params, rows.X)
    )
    assert passes == made


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (2, 5), (4,)])
def test_parameters_of_another_network_are_refused(shape):
    network = Network((Dense(1),), 3, 2)
    with pytest.raises(ValueError, match=r"have the shape \(2, 4\), got"):
        network.bind(np.zeros(shape), 5)


def test_logits_of_no_rows_are_an_empty_array():
    network = Network((Dense(1),), 3, 2)
    assert network.logits(np.zeros((2, 4)), np.empty((0, 3))).shape == (2, 0)


@given(network_and_rows(), seeds)
def test_passes_that_take_turns_may_share_their_buffers(network_and_rows, seed):
    """One for fewer rows works within one for more: neither sees what the other left there."""
    network, rows = network_and_rows
    streams = RandomStreams.spawn(seed, range(network.n_members))
    params = network.init_params(streams.initialization)
    ends = []
    for is_shared in (False, True):
        grads = np.zeros_like(params[:, network.layout.trainable])
        whole = network.bind(params, len(rows), grads=grads)
        workspace = whole.workspace if is_shared else None
        part = network.bind(params, (len(rows) + 1) // 2, grads=grads, workspace=workspace)
        for passage in (whole, part, whole, part):
            logits = passage.forward(rows.X[np.newaxis, : passage.n_samples])
            passage.backward(np.ones_like(logits))
            ends.append((logits.copy(), grads.copy()))
        assert np.shares_memory(logits, whole.forward(rows.X[np.newaxis])) == is_shared
    for alone, shared in zip(ends[:4], ends[4:], strict=True):
        for one, same in zip(alone, shared, strict=True):
            np.testing.assert_array_equal(one, same)


@given(network_and_rows(), seeds)
def test_pass_sees_new_parameters_without_binding_again(network_and_rows, seed):
    """An optimizer writes into the flat array; the views follow."""
    network, rows = network_and_rows
    params = np.zeros((network.n_members, network.layout.n_params))
    prediction = network.bind(params, len(rows))
    params[...] = np.random.default_rng(seed).normal(size=params.shape)
    logits = prediction.forward(rows.X[np.newaxis])
    np.testing.assert_array_equal(logits, network.logits(params, rows.X))


@pytest.mark.parametrize("activation", ACTIVATION_ROWS)
@pytest.mark.parametrize("weighting", ["without weights", "with weights"])
def test_gradients_equal_pytorchs(activation, weighting):
    """Logits, loss and the gradient of every parameter, to 1e-10 in float64, for two members."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch's gradients")
    functions = {
        "identity": lambda z: z,
        "logistic": torch.sigmoid,
        "tanh": torch.tanh,
        **{
            name: getattr(torch.nn.functional, name)
            for name in set(ACTIVATION_ROWS) - {"identity", "logistic", "tanh"}
        },
    }
    network = build_network(
        Architecture(
            4,
            hidden_layer_sizes=(6, 5),
            activation=(activation, activation),
            dropout=(0.0, 0.0),
            n_members=2,
        )
    )
    rng = np.random.default_rng(0)
    params = rng.normal(0.0, 0.7, (2, network.layout.n_params))
    X, y = rng.normal(size=(17, 4)), rng.integers(0, 2, 17).astype(np.float64)
    weight = rng.exponential(size=17) * (rng.random(17) < 0.7)
    weight = weight if weighting == "with weights" else None

    grads = np.full_like(params, np.nan)
    passage = network.bind(params, 17, grads=grads)
    logits = passage.forward(X[np.newaxis])
    loss = BinaryCrossEntropy()
    weights = None if weight is None else weight[np.newaxis]
    value = loss.mean(y[np.newaxis], logits, weights)
    passage.backward(loss.gradient(y[np.newaxis], logits, weights, np.empty_like(logits)))

    for k in range(2):
        theirs = {
            name: torch.tensor(network.layout.view(params, name)[k].copy(), requires_grad=True)
            for name in network.layout.entries
        }
        signal = torch.tensor(X)
        for i in (1, 2, 3):
            signal = signal @ theirs[f"dense_{i}.W"] + theirs[f"dense_{i}.b"]
            signal = functions[activation](signal) if i < 3 else signal
        cost = torch.nn.functional.binary_cross_entropy_with_logits(
            signal[:, 0],
            torch.tensor(y),
            weight=None if weight is None else torch.tensor(weight),
        )
        cost.backward()
        np.testing.assert_allclose(logits[k], signal[:, 0].detach(), rtol=0, atol=1e-10)
        assert value[k] == pytest.approx(cost.item(), abs=1e-10)
        for name, tensor in theirs.items():
            ours = network.layout.view(grads, name)[k]
            np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=0, atol=1e-10)


def noisy_rows(n_samples=45, seed=0, dtype=np.float64, is_weighted=True):
    """Return rows whose labels a network can learn in part, and then over-learn."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 4))
    y = (X[:, 0] * X[:, 1] + 0.5 * rng.normal(size=n_samples) > 0).astype(np.float64)
    weight = rng.exponential(size=n_samples) if is_weighted else None
    return Rows(X, y, weight).normalize_weights().astype(dtype)


def train_members(members, dtype=np.float64, *, is_weighted=True, **parameters):
    """Train the members with these numbers; return the state they end in."""
    rows, validation = noisy_rows(dtype=dtype, is_weighted=is_weighted), None
    plan, state = pose_training(rows, members=members, dtype=dtype, **parameters)
    if parameters.get("early_stopping"):
        rows, validation = split_validation(rows, 0.3, state.streams.split)
    with warnings.catch_warnings():  # whether they stop in time is not the matter here
        warnings.simplefilter("ignore", ConvergenceWarning)
        train(plan, state, rows, None if validation is None else Validation(validation))
    return state


BASE = {
    "hidden_layer_sizes": (7, 5),
    "activation": "tanh",
    "batch_size": 16,
    "learning_rate_init": 0.02,
    "max_iter": 12,
}
SETTINGS = {
    "plain": {},
    "in one batch": {"batch_size": 45},
    "without shuffling": {"shuffle": False},
    "without weights": {"is_weighted": False},
    "relu and dropout": {"activation": "relu", "dropout": 0.4},
    "wide, with one feature left": {"hidden_layer_sizes": (33, 1, 17)},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "penalty, decay and clipping": {"alpha": 2.0, "weight_decay": 0.1, "max_grad_norm": 0.05},
    "early stopping": {
        "early_stopping": True,
        "dropout": 0.3,
        "learning_rate_init": 0.05,
        "n_iter_no_change": 3,
        "max_iter": 60,
    },
    "plateau": {"n_iter_no_change": 2, "tol": 0.01, "max_iter": 60},
    "moving average": {"ema_decay": 0.9, "early_stopping": True, "n_iter_no_change": 3},
    "batch normalisation": {"normalization": "batch", "ema_decay": 0.8},
    "residual layers": {"normalization": "layer", "residual": True, "hidden_layer_sizes": (5, 5)},
    "adaptive rates": {
        "learning_rate": "adaptive",
        "solver": "sgd",
        "learning_rate_init": 0.3,
        "n_iter_no_change": 1,
        "tol": 0.01,
        "max_iter": 40,
    },
    **{
        f"solver {name}": {"solver": row.solver, **row.arguments}
        for name, row in SOLVER_ROWS.items()
    },
    **{f"schedule {name}": {"learning_rate": name} for name in SCHEDULE_ROWS if name != "adaptive"},
}
for setting in SETTINGS.values():  # what the estimator calls by another name
    if "nesterov" in setting:
        setting["nesterovs_momentum"] = setting.pop("nesterov")
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


@settings
def test_members_trained_together_equal_members_trained_one_by_one(setting):
    """To the last bit in float64, whatever else is going on."""
    parameters = {**BASE, **setting}
    together = train_members((0, 1, 2), **parameters)
    for k in range(3):
        alone = train_members((k,), **parameters)
        np.testing.assert_array_equal(together.final_params[k], alone.final_params[0])


@settings
def test_members_trained_together_equal_members_trained_one_by_one_in_float32(setting):
    parameters = {**BASE, **setting}
    together = train_members((0, 1, 2), np.float32, **parameters)
    assert together.final_params.dtype == np.float32
    for k in range(3):
        alone = train_members((k,), np.float32, **parameters)
        np.testing.assert_allclose(
            together.final_params[k], alone.final_params[0], rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("setting", ["early stopping", "plateau", "adaptive rates"])
def test_members_that_are_compared_do_stop_at_different_epochs(setting):
    """Otherwise the tests above would not show that a member is frozen when it stops."""
    parameters = {**BASE, **SETTINGS[setting]}
    lengths = [len(train_members((k,), **parameters).history["loss"]) for k in range(3)]
    assert len(set(lengths)) > 1
    assert max(lengths) < parameters["max_iter"]


def test_members_differ_from_each_other():
    params = train_members((0, 1, 2), **BASE).final_params
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert np.abs(params[one] - params[other]).max() > 0.1


def test_member_is_named_by_its_number_and_not_by_its_place():
    """Members 5 and 2 in this order are what they are in any other company."""
    together = train_members((5, 2), **BASE)
    np.testing.assert_array_equal(
        together.final_params[1], train_members((2,), **BASE).final_params[0]
    )


@pytest.mark.usefixtures("one_worker")
def test_training_step_allocates_nothing_that_grows_with_the_batch():
    """Forward pass, gradient, backward pass and update, on 16,384 rows at once."""
    n_samples = 16384
    rng = np.random.default_rng(0)
    rows = Rows(rng.normal(size=(n_samples, 8)), rng.integers(0, 2, n_samples).astype(float))
    plan, state = pose_training(
        rows,
        members=(0, 1),
        hidden_layer_sizes=(8, 8),
        activation=["relu", "tanh"],
        dropout=0.2,
        batch_size=n_samples,
        max_grad_norm=1.0,
        weight_decay=0.1,
    )
    [worker] = Trainer(plan, state, rows).workers
    [x] = worker.batches
    for _ in range(3):  # the first makes buffers, the second may be recorded
        tracemalloc.start()
        worker.begin_steps([0.01])
        worker.take_steps(slice(0, n_samples), x)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= 8 * np.getbufsize() + 8192 < 8 * 2 * n_samples
