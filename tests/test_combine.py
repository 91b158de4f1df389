"""Branches: what each of them gets, gives and is called, and whole networks for tables."""

import numpy as np
import pytest
from tables import nan_grads, numbers_and_categories, numbers_and_codes, random_params, run_layer

from skdnn import check_gradients
from skdnn._network import Network
from skdnn.activations import ACTIVATIONS
from skdnn.layers import (
    Activation,
    BatchNorm,
    Branch,
    CategoricalEmbedding,
    Concatenate,
    Dense,
    FeatureScaling,
    NumericEmbedding,
    Residual,
)
from skdnn.losses import BinaryCrossEntropy
from skdnn.optimizers import make_optimizer
from skdnn.training.random_streams import RandomStreams

TANH = Activation(ACTIVATIONS["tanh"]())


def test_concatenate_sends_each_range_of_columns_through_its_own_layers():
    layer = Concatenate((Branch(2, (Dense(3), TANH)), Branch(1), Branch(3, (Dense(2),))))
    rng = np.random.default_rng(0)
    x, network = rng.normal(size=(2, 7, 6)), Network((layer,), 6, 2)
    params = random_params(network, rng)
    y, _ = run_layer(layer, x, params)
    W, V, b, c = (network.layout.view(params, name) for name in network.layout.entries)
    expected = (np.tanh(x[..., :2] @ W + b), x[..., 2:3], x[..., 3:] @ V + c)
    np.testing.assert_allclose(y, np.concatenate(expected, axis=2), rtol=0, atol=1e-12)


def test_concatenate_of_empty_branches_passes_everything_on():
    layer, x = Concatenate((Branch(2), Branch(1))), np.random.default_rng(0).normal(size=(1, 4, 3))
    params = np.empty((2, 0))
    y, slot = run_layer(layer, x, params, training=True, grads=params)
    np.testing.assert_array_equal(y, np.repeat(x, 2, axis=0))
    grad_y = np.random.default_rng(1).normal(size=(2, 4, 3))
    grad_x = layer.backward(grad_y.copy(), slot, need_grad_x=True)
    np.testing.assert_array_equal(grad_x, grad_y)


def test_layers_of_all_branches_have_names_of_their_own():
    inner = Concatenate((Branch(1, (Dense(2),)), Branch(1, (Dense(2), Dense(2)))))
    layer = Concatenate((Branch(2, (Dense(2), BatchNorm())), Branch(2, (inner, Dense(3)))))
    network = Network((layer, Dense(4), Residual((Dense(4), Dense(4))), Dense(1)), 4)
    assert [node.name for node in network.all_nodes] == [
        "concatenate_1",
        "concatenate_1.dense_1",
        "concatenate_1.batchnorm_1",
        "concatenate_1.concatenate_1",
        "concatenate_1.concatenate_1.dense_1",
        "concatenate_1.concatenate_1.dense_2",
        "concatenate_1.concatenate_1.dense_3",
        "concatenate_1.dense_2",
        "dense_1",
        "residual_1",
        "residual_1.dense_1",
        "residual_1.dense_2",
        "dense_2",
    ]


def watch(monkeypatch, method):
    """Return a list that grows by a call's arguments whenever Dense is run."""
    calls, original = [], getattr(Dense, method)

    def watched(self, *args, **kwargs):
        calls.append((self, args, kwargs))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Dense, method, watched)
    return calls


@pytest.mark.parametrize("n_members_of_x", [1, 2])
def test_branches_see_columns_of_x_itself(n_members_of_x, monkeypatch):
    """Nothing is copied on the way in, and columns that do not lie together are no trouble."""
    calls = watch(monkeypatch, "forward")
    layer = Concatenate((Branch(2, (Dense(3),)), Branch(1), Branch(2, (Dense(2),))))
    network, rng = Network((layer, Dense(1)), 5, 2), np.random.default_rng(0)
    params, wide = random_params(network, rng), rng.normal(size=(n_members_of_x, 6, 10))
    x = wide[:, :, ::2]
    logits = network.bind(params, 6).forward(x).copy()
    same = network.bind(params, 6).forward(x.copy())
    np.testing.assert_allclose(logits, same, rtol=1e-12)  # NumPy 2.0 adds up in another order
    for (_, (inner_x, _), _), columns in zip(calls[:2], (slice(0, 2), slice(3, 5)), strict=True):
        assert np.shares_memory(inner_x, wide)
        np.testing.assert_array_equal(inner_x, x[:, :, columns])


def test_branches_compute_no_gradient_at_their_input_that_nobody_needs(monkeypatch):
    calls = watch(monkeypatch, "backward")
    layer = Concatenate((Branch(1, (Dense(2), Dense(3))), Branch(2, (Dense(4),)), Branch(1)))
    network = Network((layer, Dense(1)), 4)
    params, grads = random_params(network, np.random.default_rng(0)), nan_grads(network)
    passage = network.bind(params, 5, grads=grads, training=True, need_grad_x=True)

    def asked():
        passage.forward(np.ones((1, 5, 4)))
        calls.clear()
        passage.backward(np.ones((1, 5)), need_grad_x=need_grad_x)
        return {layer.n_units: kwargs["need_grad_x"] for layer, _, kwargs in calls}

    need_grad_x = False
    assert asked() == {1: True, 2: False, 3: True, 4: False}
    need_grad_x = True
    assert asked() == {1: True, 2: True, 3: True, 4: True}


def test_branches_that_need_no_gradient_at_their_input_have_no_array_for_it():
    layer = Concatenate((Branch(2, (Dense(2), Dense(3))), Branch(1)))
    for need_grad_x in (False, True):
        network = Network((layer, Dense(1)), 3)
        params = random_params(network, np.random.default_rng(0))
        passage = network.bind(params, 5, grads=params.copy(), need_grad_x=need_grad_x)
        (_, slot), _ = passage._steps
        first, second = slot.inner[0]
        has_array = [hasattr(s.work, "grad_x") for s in (slot, first[1], second[1])]
        assert has_array == [need_grad_x, need_grad_x, True]


@pytest.mark.parametrize("n_columns", [(2, 2), (2, 4), (5, 0), (6, -1), ()])
def test_concatenate_refuses_branches_that_do_not_fit_the_columns(n_columns):
    layer = Concatenate(tuple(Branch(n, (Dense(2),)) for n in n_columns))
    with pytest.raises(ValueError, match=r"one column each and all 5 together, got n_columns="):
        layer.plan(5)


def test_statistics_within_branches_are_reset_with_the_others():
    layer = Concatenate((Branch(1, (BatchNorm(),)), Branch(2, (BatchNorm(),))))
    network = Network((layer, Dense(1)), 3)
    params = random_params(network, np.random.default_rng(0))
    network.reset_statistics(params)
    for i in (1, 2):
        mean = network.layout.view(params, f"concatenate_1.batchnorm_{i}.running_mean")
        np.testing.assert_array_equal(mean, np.zeros((1, 1, i)))


def table_network(n_members=2):
    """Return a network as tables want it: numbers twice over, categories, two dense layers."""
    periodic = (FeatureScaling(), NumericEmbedding(3, 2))
    lookup = (CategoricalEmbedding((4, 3), (2, 3)), FeatureScaling())
    layer = Concatenate((Branch(2, periodic), Branch(1), Branch(2, lookup)))
    return Network((layer, Dense(5), BatchNorm(), TANH, Dense(1)), 5, n_members)


def table_rows(n_samples, seed=0):
    rng = np.random.default_rng(seed)
    numbers, codes = rng.normal(size=(n_samples, 3)), rng.integers(0, (4, 3), (n_samples, 2))
    return np.hstack([numbers, codes]), rng.integers(0, 2, n_samples)


@pytest.mark.parametrize("mode", ["complex", "central", "directional"])
def test_gradients_of_a_network_for_tables_are_right(mode):
    X, y = table_rows(19)
    report = check_gradients(table_network(), X, y, np.linspace(0.0, 2.0, 19), mode=mode)
    assert report.passed, report
    assert "concatenate_1.categoricalembedding_1.E_2" in report.errors


def test_input_gradients_of_a_network_for_tables_are_zero_at_codes_only():
    network, (X, _) = table_network(), table_rows(19)
    params = random_params(network, np.random.default_rng(0))
    logits, grads = network.input_gradients(params, X)
    np.testing.assert_allclose(logits, network.logits(params, X), rtol=1e-12)
    np.testing.assert_array_equal(grads[:, :, 3:], 0.0)
    for feature in range(3):
        moved = X + 1e-30j * (np.arange(5) == feature)
        derivative = network.logits(params.astype(np.complex128), moved).imag / 1e-30
        np.testing.assert_allclose(grads[:, :, feature], derivative, rtol=0, atol=1e-11)


def test_members_of_a_network_for_tables_draw_from_their_own_streams():
    together = table_network(3).init_params(RandomStreams.spawn(0, range(3)).initialization)
    for k in range(3):
        alone = table_network(1).init_params(RandomStreams.spawn(0, [k]).initialization)
        np.testing.assert_array_equal(together[k], alone[0])


def test_network_for_tables_learns_a_stripe_and_a_pair_of_categories():
    """Neither is linear in its column; rates of their own and decay take part."""
    X, _ = table_rows(400)
    y = ((np.cos(4.0 * X[:, 0]) > 0) ^ (X[:, 3] % 2 == 1)).astype(np.float32)[np.newaxis]
    network, loss = table_network(), BinaryCrossEntropy()
    layout, X = network.layout, X[np.newaxis].astype(np.float32)
    params = network.init_params(RandomStreams.spawn(0, range(2)).initialization, np.float32)
    grads = nan_grads(network, np.float32)
    optimizer = make_optimizer(
        "adamw", decayed=layout.decayed, lr_scales=layout.lr_scales, weight_decay=0.01
    )
    trained = params[:, layout.trainable]
    numbers, scratch = optimizer.make_numbers(trained, 1), np.empty_like(grads)
    state, passage = optimizer.init(trained), network.bind(params, 400, grads=grads, training=True)
    for _ in range(300):
        logits = passage.forward(X)
        passage.backward(loss.gradient(y, logits, None, np.empty_like(logits)))
        optimizer.begin(state, numbers, np.full((1, 1, 1), 0.05))
        optimizer.update(grads, trained, state, [array[0] for array in numbers], scratch)
    accuracy = ((network.logits(params, X[0]) > 0) == y).mean(axis=1)
    assert (accuracy > 0.9).all(), accuracy


def test_rows_of_the_table_reach_every_kind_of_branch():
    """What `numbers_and_categories` makes for six columns has all that a table has."""
    layer = numbers_and_categories(6)
    assert [branch.n_columns for branch in layer.branches] == [2, 2, 2]
    x = numbers_and_codes(np.random.default_rng(0), (2, 50, 6))
    assert set(np.unique(x[..., 4:])) == {0.0, 1.0, 2.0, 3.0}
