"""Batch and layer normalisation: their formulas, their statistics, and PyTorch's opinion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from tables import nan_grads, random_params, run_layer

from skdnn._network import Network
from skdnn._random import RandomWords
from skdnn.layers import BatchNorm, Dense, Dropout, LayerNorm
from skdnn.training.random_streams import RandomStreams

EPSILON = 1e-3
N_UNITS = 3


class Lone:
    """A normalising layer alone in a network, with random parameters and one view of each."""

    def __init__(self, layer, n_members=2, seed=0, dtype=np.float64):
        self.layer, self.rng = layer, np.random.default_rng(seed)
        self.network = Network((layer,), N_UNITS, n_members)
        self.params = random_params(self.network, self.rng).astype(dtype)
        self.grads = nan_grads(self.network, dtype)

    def rows(self, n_samples):
        """Return rows that are far from mean 0 and variance 1."""
        return self.rng.normal(3.0, 2.0, (len(self.params), n_samples, N_UNITS))

    def view(self, name, of=None):
        [node] = self.network.nodes
        flat = self.params if of is None else of
        return self.network.layout.view(flat, f"{node.name}.{name}")

    def reset_statistics(self):
        """Set them to what they are before any batch."""
        streams = RandomStreams.spawn(0, range(len(self.params)))
        statistics = slice(self.network.layout.trainable.stop, None)
        first = self.network.init_params(streams.initialization)
        self.params[:, statistics] = first[:, statistics]

    def train(self, x, weight=None, grad_y=None):
        """Return the output and, for a gradient of it, that of the input; both are copies."""
        y, slot = run_layer(
            self.layer, x, self.params, training=True, grads=self.grads, sample_weight=weight
        )
        y = y.copy()
        if grad_y is None:
            return y, None
        return y, self.layer.backward(grad_y.copy(), slot, need_grad_x=True).copy()

    def predict(self, x):
        return run_layer(self.layer, x, self.params)[0].copy()


def test_batch_norm_gives_units_the_shift_as_mean_and_the_gain_as_deviation():
    lone = Lone(BatchNorm(1e-12))
    y, _ = lone.train(lone.rows(40))
    np.testing.assert_allclose(y.mean(axis=1), lone.view("shift")[:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=1), np.abs(lone.view("gain"))[:, 0], rtol=1e-10)


def test_batch_norm_follows_its_formula_with_weights():
    lone = Lone(BatchNorm(EPSILON))
    x, weight = lone.rows(9), lone.rng.exponential(size=(2, 9))
    y, _ = lone.train(x, weight)
    for k in range(2):
        mean = np.average(x[k], axis=0, weights=weight[k])
        variance = np.average((x[k] - mean) ** 2, axis=0, weights=weight[k])
        x_hat = (x[k] - mean) / np.sqrt(variance + EPSILON)
        expected = lone.view("gain")[k] * x_hat + lone.view("shift")[k]
        np.testing.assert_allclose(y[k], expected, rtol=0, atol=1e-12)


def test_layer_norm_follows_its_formula():
    lone = Lone(LayerNorm(EPSILON))
    x = lone.rows(9)
    mean, variance = x.mean(axis=2, keepdims=True), x.var(axis=2, keepdims=True)
    expected = lone.view("gain") * (x - mean) / np.sqrt(variance + EPSILON) + lone.view("shift")
    np.testing.assert_allclose(lone.predict(x), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(lone.train(x)[0], lone.predict(x))


@given(counts=st.lists(st.integers(0, 4), min_size=2, max_size=8), seed=seeds)
def test_batch_norm_takes_a_weight_of_k_for_k_rows(counts, seed):
    """Output, all gradients, and the statistics that are left behind."""
    counts = np.array([*counts, 2])  # not all rows weigh nothing
    weighted, repeated = Lone(BatchNorm(EPSILON), seed=seed), Lone(BatchNorm(EPSILON), seed=seed)
    x = weighted.rows(len(counts))
    grad_y = weighted.rng.normal(size=x.shape)  # that of one row; k rows together have k of it
    y, grad_x = weighted.train(x, counts[np.newaxis] * 0.7, grad_y * counts[:, np.newaxis])
    copies_y, copies_grad_x = repeated.train(
        x.repeat(counts, axis=1), None, grad_y.repeat(counts, axis=1)
    )
    exactly = {"rtol": 0, "atol": 1e-9}
    np.testing.assert_allclose(y.repeat(counts, axis=1), copies_y, **exactly)
    np.testing.assert_allclose(weighted.grads, repeated.grads, **exactly)
    np.testing.assert_allclose(weighted.params, repeated.params, **exactly)
    firsts = np.cumsum(counts) - counts
    for row in np.flatnonzero(counts):
        of_copies = copies_grad_x[:, firsts[row] : firsts[row] + counts[row]].sum(axis=1)
        np.testing.assert_allclose(grad_x[:, row], of_copies, **exactly)
    np.testing.assert_array_equal(grad_x[:, counts == 0], 0.0)


def test_batch_without_weight_is_normalised_as_if_equal_and_leaves_no_trace():
    """In one member of two: what the other one weighs is its own affair."""
    lone, equal = Lone(BatchNorm()), Lone(BatchNorm())
    x, before = lone.rows(5), lone.params.copy()
    y, _ = lone.train(x, np.array([[0.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]]))
    np.testing.assert_array_equal(y[0], equal.train(x)[0][0])
    np.testing.assert_array_equal(lone.params[0], before[0])
    assert lone.view("n_batches")[1] == lone.view("n_batches", before)[1] + 1
    assert (lone.view("running_mean")[1] != lone.view("running_mean", before)[1]).all()


@pytest.mark.parametrize("momentum", [0.1, 0.5])
def test_running_statistics_begin_as_a_plain_mean_and_go_on_as_a_moving_one(momentum):
    lone = Lone(BatchNorm(momentum=momentum))
    lone.reset_statistics()
    batches = [lone.rows(6) for _ in range(25)]
    n_first = round(1 / momentum)
    mean, variance = np.zeros((2, N_UNITS)), np.zeros((2, N_UNITS))
    for t, x in enumerate(batches, start=1):
        lone.train(x)
        if t <= n_first:
            mean = np.mean([b.mean(axis=1) for b in batches[:t]], axis=0)
            variance = np.mean([b.var(axis=1) for b in batches[:t]], axis=0)
        else:
            mean = (1 - momentum) * mean + momentum * x.mean(axis=1)
            variance = (1 - momentum) * variance + momentum * x.var(axis=1)
        np.testing.assert_allclose(lone.view("running_mean")[:, 0], mean, rtol=1e-12)
        np.testing.assert_allclose(lone.view("running_variance")[:, 0], variance, rtol=1e-12)
    np.testing.assert_array_equal(lone.view("n_batches"), 25.0)


def test_batch_norm_predicts_by_its_running_statistics():
    """The same for a row whatever the rows beside it, with weights or without."""
    lone = Lone(BatchNorm(EPSILON))
    x, before = lone.rows(7), lone.params.copy()
    sigma = np.sqrt(lone.view("running_variance") + EPSILON)
    expected = lone.view("gain") * (x - lone.view("running_mean")) / sigma + lone.view("shift")
    np.testing.assert_allclose(lone.predict(x), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(lone.predict(x[:, 2:4].copy()), lone.predict(x)[:, 2:4])
    weighted, _ = run_layer(lone.layer, x, lone.params, sample_weight=np.arange(7.0)[np.newaxis])
    np.testing.assert_array_equal(weighted, lone.predict(x))
    np.testing.assert_array_equal(lone.params, before)


def test_batch_norm_before_any_batch_predicts_what_comes_in():
    lone = Lone(BatchNorm(0.0))
    lone.reset_statistics()
    lone.view("gain")[...], lone.view("shift")[...] = 1.0, 0.0
    x = lone.rows(4)
    np.testing.assert_array_equal(lone.predict(x), x)


def test_batch_of_one_row_trains_by_the_running_statistics_and_leaves_them():
    lone = Lone(BatchNorm(EPSILON))
    x, before = lone.rows(1), lone.params.copy()
    grad_y = lone.rng.normal(size=x.shape)
    y, grad_x = lone.train(x, np.ones((1, 1)), grad_y)
    np.testing.assert_array_equal(lone.params, before)
    np.testing.assert_array_equal(y, lone.predict(x))
    sigma = np.sqrt(lone.view("running_variance") + EPSILON)
    np.testing.assert_allclose(grad_x, grad_y * lone.view("gain") / sigma, rtol=1e-12)


def test_normalising_a_unit_or_row_that_never_varies_gives_the_shift():
    for layer in (BatchNorm(), LayerNorm()):
        lone = Lone(layer)
        y, grad_x = lone.train(np.full((2, 6, N_UNITS), 7.0), None, np.ones((2, 6, N_UNITS)))
        expected = np.broadcast_to(lone.view("shift"), y.shape)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-10)
        assert np.isfinite(grad_x).all()


@pytest.mark.parametrize("layer", [BatchNorm(), LayerNorm()])
def test_gain_begins_at_one_and_shift_at_zero_and_neither_decays(layer):
    lone = Lone(layer)
    params = lone.network.init_params(RandomStreams.spawn(0, range(2)).initialization)
    np.testing.assert_array_equal(lone.view("gain", params), 1.0)
    np.testing.assert_array_equal(lone.view("shift", params), 0.0)
    assert lone.network.layout.decayed == slice(0, 0)
    assert lone.network.layout.trainable == slice(0, 2 * N_UNITS)


@pytest.mark.parametrize("is_training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_normalisation_and_its_gradients_equal_pytorchs(kind, is_training):
    """To 1e-10 in float64: output, gradients of input, gain and shift, and running mean."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch's gradients")
    lone = Lone(BatchNorm() if kind == "batch" else LayerNorm())
    if kind == "batch":
        lone.view("n_batches")[...] = 10.0  # from here on both move their mean by a tenth
    before = lone.params.copy()
    x = lone.rows(11)
    grad_y = lone.rng.normal(size=x.shape)
    y, slot = run_layer(lone.layer, x, lone.params, training=is_training, grads=lone.grads)
    y, grad_x = y.copy(), lone.layer.backward(grad_y.copy(), slot, need_grad_x=True)
    for k in range(2):
        names = {"weight": "gain", "bias": "shift"}
        if kind == "batch":
            theirs = torch.nn.BatchNorm1d(N_UNITS, dtype=torch.float64)
            names |= {"running_mean": "running_mean", "running_var": "running_variance"}
        else:
            theirs = torch.nn.LayerNorm(N_UNITS, dtype=torch.float64)
        for name, ours in names.items():
            value = torch.tensor(lone.view(ours, before)[k, 0].copy())
            getattr(theirs, name).data.copy_(value)
        theirs.train(is_training)
        their_x = torch.tensor(x[k], requires_grad=True)
        their_y = theirs(their_x)
        their_y.backward(torch.tensor(grad_y[k]))
        compared = [
            (y[k], their_y.detach()),
            (grad_x[k], their_x.grad),
            (lone.view("gain", lone.grads)[k, 0], theirs.weight.grad),
            (lone.view("shift", lone.grads)[k, 0], theirs.bias.grad),
        ]
        if kind == "batch":
            compared.append((lone.view("running_mean")[k, 0], theirs.running_mean))
        for ours, of_torch in compared:
            np.testing.assert_allclose(ours, of_torch.numpy(), rtol=0, atol=1e-10)


def test_weights_reach_batch_normalisation_through_the_pass():
    """Deep in a network as well: rows of weight zero change nothing for the others."""
    network = Network((Dense(4), BatchNorm(), Dropout(0.0), Dense(3), BatchNorm(), Dense(1)), 2, 2)
    rng = np.random.default_rng(0)
    params, X = random_params(network, rng), rng.normal(size=(1, 9, 2))
    weight = np.array([[1.0] * 6 + [0.0] * 3])
    words = RandomWords(RandomStreams.spawn(0, range(2)).dropout)
    few = network.bind(params.copy(), 6, training=True, words=words).forward(X[:, :6])
    all_rows = network.bind(params.copy(), 9, training=True, words=words)
    np.testing.assert_allclose(all_rows.forward(X, weight)[:, :6], few, rtol=0, atol=1e-12)
    assert np.abs(all_rows.forward(X)[:, :6] - few).max() > 1e-3  # without weights all rows count
