"""Trainable factors of the inputs, and rates of their own from the layer to the update."""

import numpy as np
import pytest
from tables import SOLVER_ROWS, random_params, run_layer

from skdnn._network import Network
from skdnn.activations import ACTIVATIONS
from skdnn.layers import Activation, Dense, FeatureScaling
from skdnn.optimizers import make_optimizer
from skdnn.training.random_streams import RandomStreams

TANH = Activation(ACTIVATIONS["tanh"]())


def test_feature_scaling_begins_as_the_identity():
    x = np.random.default_rng(0).normal(size=(1, 5, 3))
    network = Network((FeatureScaling(),), 3, 2)
    params = network.init_params(RandomStreams.spawn(0, range(2)).initialization)
    y, _ = run_layer(FeatureScaling(), x, params)
    np.testing.assert_array_equal(y, np.repeat(x, 2, axis=0))


def test_feature_scaling_multiplies_each_feature_by_its_factor():
    x, factors = np.random.default_rng(0).normal(size=(2, 5, 3)), np.array([[1.0, -2.0, 0.0]] * 2)
    y, slot = run_layer(FeatureScaling(), x, factors, training=True, grads=np.empty((2, 3)))
    np.testing.assert_array_equal(y, x * [1.0, -2.0, 0.0])
    grad_x = FeatureScaling().backward(np.ones_like(x), slot, need_grad_x=True)
    np.testing.assert_array_equal(grad_x, np.broadcast_to([1.0, -2.0, 0.0], x.shape))
    np.testing.assert_allclose(slot.grads.s[:, 0], x.sum(axis=1), rtol=1e-12)


def test_feature_scaling_has_a_rate_of_its_own_and_does_not_decay():
    layout = Network((FeatureScaling(4.0), Dense(1)), 3).layout
    assert layout.decayed == slice(0, 3)  # dense_1.W
    assert layout.lr_scales == [(slice(0, 4), 1.0), (slice(4, 7), 4.0)]
    assert FeatureScaling().lr_scale == 6.0


def take_one_step(network, params, solver, **arguments):
    """Return how far one step moves the parameters of a network, by name."""
    layout, rng = network.layout, np.random.default_rng(0)
    optimizer = make_optimizer(
        solver, decayed=layout.decayed, lr_scales=layout.lr_scales, **arguments
    )
    before, grads = params.copy(), np.empty_like(params)
    passage = network.bind(params, 6, grads=grads, training=True)
    logits = passage.forward(rng.normal(size=(1, 6, network.n_in)))
    passage.backward(np.ones_like(logits))
    state, numbers = optimizer.init(params), optimizer.make_numbers(params, 1)
    optimizer.begin(state, numbers, np.full((1, 1, 1), 0.01))
    of_step = [array[0] for array in numbers]
    optimizer.update(grads, params, state, of_step, np.empty_like(params))
    return {name: layout.view(params - before, name) for name in layout.entries}


def params_by_name(network, values):
    """Return the flat array that has these values at these names."""
    params = np.empty((network.n_members, network.layout.n_params))
    for name in network.layout.entries:
        network.layout.view(params, name)[...] = values[name]
    return params


@pytest.mark.parametrize("solver", SOLVER_ROWS)
def test_layers_with_a_tenth_of_the_rate_take_a_tenth_of_the_step(solver):
    """From the layer's hyperparameter through layout and optimizer to the update."""
    row = SOLVER_ROWS[solver]
    plain = Network((FeatureScaling(1.0), Dense(4), TANH, Dense(1)), 3, 2)
    scaled = Network(
        (FeatureScaling(6.0), Dense(4, lr_scale=0.1, bias_lr_scale=0.5), TANH, Dense(1)), 3, 2
    )
    factors = {"featurescaling_1.s": 6.0, "dense_1.W": 0.1, "dense_1.b": 0.5}
    first = random_params(plain, np.random.default_rng(1))
    values = {name: plain.layout.view(first, name) for name in plain.layout.entries}
    arguments = {name: v for name, v in row.arguments.items() if name != "weight_decay"}
    expected = take_one_step(plain, params_by_name(plain, values), row.solver, **arguments)
    steps = take_one_step(scaled, params_by_name(scaled, values), row.solver, **arguments)
    assert set(steps) == set(expected)
    for name, step in steps.items():
        assert np.abs(step).max() > 0.0
        np.testing.assert_allclose(step, factors.get(name, 1.0) * expected[name], rtol=1e-9)


def test_weights_of_any_rate_decay_in_one_range_and_biases_in_none():
    network = Network((Dense(4, lr_scale=0.1, bias_lr_scale=6.0), TANH, Dense(1, lr_scale=3.0)), 3)
    layout = network.layout
    assert layout.decayed == slice(0, 16)
    is_decayed = {name: e.columns.stop <= 16 for name, e in layout.entries.items()}
    assert {name for name, d in is_decayed.items() if d} == {"dense_1.W", "dense_2.W"}
    assert [factor for _, factor in layout.lr_scales] == [0.1, 3.0, 1.0, 6.0]
