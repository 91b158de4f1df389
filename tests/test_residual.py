"""Residual layers: the formula, the names of what is within, and where a network has them."""

import numpy as np
import pytest
from strategies import NORMALIZATIONS
from tables import Bump, nan_grads, random_params, run_layer

from skdnn import check_gradients
from skdnn._network import Network
from skdnn.activations import ACTIVATIONS
from skdnn.estimator.architecture import Architecture, build_network
from skdnn.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, Residual
from skdnn.training.random_streams import RandomStreams

TANH = Activation(ACTIVATIONS["tanh"]())


def test_residual_adds_its_layers_to_the_input():
    rng = np.random.default_rng(0)
    layer, x = Residual((Dense(5), TANH, Dense(3))), rng.normal(size=(2, 7, 3))
    network = Network((layer,), 3, 2)
    params = random_params(network, rng)
    names = [f"residual_1.dense_{i}.{part}" for part in "Wb" for i in (1, 2)]
    assert list(network.layout.entries) == names
    W, V, b, c = (network.layout.view(params, name) for name in names)
    y, _ = run_layer(layer, x, params)
    np.testing.assert_allclose(y, x + np.tanh(x @ W + b) @ V + c, rtol=0, atol=1e-12)


def test_gradient_passes_a_residual_whose_layers_answer_nothing():
    """What makes deep networks trainable: with weights of zero, ``grad_x`` is ``grad_y``."""
    layer, x = Residual((Dense(4), TANH, Dense(3))), np.ones((2, 7, 3))
    network = Network((layer,), 3, 2)
    params, grads = np.zeros((2, network.layout.n_params)), nan_grads(network)
    _, slot = run_layer(layer, x, params, training=True, grads=grads)
    grad_y = np.random.default_rng(0).normal(size=x.shape)
    np.testing.assert_array_equal(layer.backward(grad_y.copy(), slot, need_grad_x=True), grad_y)


def test_residual_without_layers_doubles_its_input():
    x = np.ones((1, 2, 3))
    layer, params = Residual(()), np.empty((1, 0))
    y, slot = run_layer(layer, x, params, training=True, grads=params)
    np.testing.assert_array_equal(y, 2.0 * x)
    np.testing.assert_array_equal(layer.backward(x.copy(), slot, need_grad_x=True), 2.0 * x)


def test_residual_refuses_layers_that_change_the_width():
    network = Network((Dense(4), Residual((Dense(6), TANH)), Dense(1)), 3)
    with pytest.raises(ValueError, match=r"Residual must end with as many .*, 4, got 6; change"):
        _ = network.layout


def test_nested_layers_are_named_and_counted_within_their_residual():
    inner = Residual((BatchNorm(), Dense(4)))
    network = Network(
        (Dense(4), Residual((Dense(4), inner, inner)), Residual((TANH,)), Dense(1)), 2
    )
    assert [node.name for node in network.nodes] == [
        "dense_1",
        "residual_1",
        "residual_2",
        "dense_2",
    ]
    assert [node.name for node in network.all_nodes] == [
        "dense_1",
        "residual_1",
        "residual_1.dense_1",
        "residual_1.residual_1",
        "residual_1.residual_1.batchnorm_1",
        "residual_1.residual_1.dense_1",
        "residual_1.residual_2",
        "residual_1.residual_2.batchnorm_1",
        "residual_1.residual_2.dense_1",
        "residual_2",
        "residual_2.activation_1",
        "dense_2",
    ]


def test_layers_used_twice_have_parameters_and_buffers_of_their_own():
    """A layer is a description; what stands in two places trains in two places."""
    block = Residual((Dense(3), TANH, Dropout(0.2)))
    network = Network((block, block, Dense(1)), 3, 2)
    rng = np.random.default_rng(0)
    report = check_gradients(network, rng.normal(size=(8, 3)), np.arange(8) % 2)
    assert report.passed, report
    assert {"residual_1.dense_1.W", "residual_2.dense_1.W"} <= set(report.gradients)
    assert report.gradients["residual_1.dense_1.W"] != report.gradients["residual_2.dense_1.W"]


def test_first_layers_within_a_residual_compute_no_gradient_that_nobody_needs(monkeypatch):
    asked = []
    backward = Dense.backward

    def watched(self, grad_y, slot, *, need_grad_x):
        asked.append(need_grad_x)
        return backward(self, grad_y, slot, need_grad_x=need_grad_x)

    monkeypatch.setattr(Dense, "backward", watched)
    network = Network((Residual((Dense(3), Dense(3))), Dense(1)), 3)
    params, grads = random_params(network, np.random.default_rng(0)), nan_grads(network)
    passage = network.bind(params, 4, grads=grads, training=True, need_grad_x=True)
    passage.forward(np.ones((1, 4, 3)))
    assert passage.backward(np.ones((1, 4))) is None
    assert asked == [True, True, False]
    assert passage.backward(np.ones((1, 4)), need_grad_x=True).shape == (1, 4, 3)
    assert asked[3:] == [True, True, True]


def test_gradient_check_finds_a_wrong_derivative_within_a_residual():
    class Wrong(Bump):
        def derivative(self, z):
            return 1.1 * super().derivative(z)

    network = build_network(
        Architecture(
            4,
            hidden_layer_sizes=(4, 4),
            activation=("tanh", Wrong()),
            dropout=(0.0, 0.0),
            residual=True,
        )
    )
    rng = np.random.default_rng(0)
    report = check_gradients(network, rng.normal(size=(8, 4)), np.arange(8) % 2)
    assert report.mode == "central"
    assert report.errors["derivative of Wrong"] > report.tolerance
    assert report.errors["residual_1.dense_1.W"] > report.tolerance


def build(sizes, **arguments):
    n_layers = len(sizes)
    arguments = {"activation": ("tanh",) * n_layers, "dropout": (0.1,) * n_layers, **arguments}
    return build_network(Architecture(4, hidden_layer_sizes=sizes, **arguments))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalisation_stands_between_the_linear_step_and_the_activation(normalization):
    between = {"batch": [BatchNorm], "layer": [LayerNorm], None: []}[normalization]
    kinds = [type(layer) for layer in build((4, 3), normalization=normalization).layers]
    assert kinds == [Dense, *between, Activation, Dropout] * 2 + [Dense]


def test_hidden_layers_as_wide_as_the_one_before_are_residual_and_the_others_are_not():
    layers = build((4, 4, 6, 6, 1), residual=True, normalization="batch").layers
    is_residual = [isinstance(x, Residual) for x in layers if isinstance(x, Residual | Dense)]
    assert is_residual == [False, True, False, True, False, False]
    residual = next(layer for layer in layers if isinstance(layer, Residual))
    assert [type(layer) for layer in residual.layers] == [Dense, BatchNorm, Activation, Dropout]


def test_output_layer_is_never_residual():
    assert build((1,), residual=True).layers[-1] == build((1,)).layers[-1]
    assert isinstance(build((), residual=True).layers[0], Dense)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_residual_draws_the_first_weights_that_plain_layers_draw(normalization):
    plain, residual = (
        build((4, 4), normalization=normalization, residual=r) for r in (False, True)
    )
    streams = [RandomStreams.spawn(0, [0]).initialization for _ in range(2)]
    one, other = plain.init_params(streams[0]), residual.init_params(streams[1])
    np.testing.assert_array_equal(one, other)
