"""The flat array and its views, whole networks and their gradients, and members side by side."""

from dataclasses import dataclass

import numpy as np
import pytest
from data import classifier, make_table, make_weights
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from strategies import NORMALIZATIONS, networks, networks_and_rows, seeds
from tables import (
    ACTIVATION_ROWS,
    SCHEDULE_ROWS,
    SOLVER_ROWS,
    Bump,
    draw_first,
    make_context,
    random_params,
    take_steps,
    unflatten,
)

from skdnn import DeepBinaryClassifier, check_gradients
from skdnn.nn import (
    Activation,
    BatchNorm,
    BinaryCrossEntropy,
    Dense,
    Dropout,
    Layer,
    Network,
    ParamSpec,
)
from skdnn.nn.activations import Tanh, make_activation
from skdnn.nn.initializers import normal
from skdnn.nn.network import Layout

COMPLEX_STEP = 1e-30


@st.composite
def specs(draw):
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
    return [ParamSpec(f"layer_{i}.W", kind[0], normal, *kind[1:]) for i, kind in enumerate(kinds)]


@dataclass(frozen=True)
class WithParams(Layer):
    """A layer of nothing but parameters."""

    specs: list

    def params(self, n_in):
        return self.specs


@given(specs())
def test_layout_puts_what_decays_first_and_statistics_last(specs):
    """Each column belongs to one parameter, and each group is one range."""
    layout = Layout(WithParams(specs), 3)
    assert sorted(layout.columns) == sorted(spec.name for spec in specs)
    columns = [np.arange(layout.n_params)[c] for c in layout.columns.values()]
    np.testing.assert_array_equal(np.concatenate([[], *columns]), np.arange(layout.n_params))
    for spec in specs:
        own = layout.columns[spec.name]
        assert own.stop - own.start == np.prod(spec.shape)
        assert (own.stop <= layout.n_trainable) == spec.trainable
        assert (own.stop <= layout.n_decayed) == (spec.trainable and spec.weight_decay)


@given(specs())
def test_layout_knows_the_learning_rate_factor_of_each_parameter(specs):
    """The ranges cover all that is trainable, in order."""
    layout = Layout(WithParams(specs), 3)
    sizes, factors = [n for n, _ in layout.lr_factors], [f for _, f in layout.lr_factors]
    of_column = np.repeat(factors, sizes) if factors else np.empty(0)
    assert len(of_column) == layout.n_trainable
    for spec in specs:
        if spec.trainable:
            np.testing.assert_array_equal(of_column[layout.columns[spec.name]], spec.lr_scale)


@given(networks(normalizations=NORMALIZATIONS), seeds)
def test_parameters_by_name_are_views_of_the_flat_array(network, seed):
    layout, n = network.layout, network.layout.n_trainable
    flat = random_params(network, np.random.default_rng(seed))
    by_name = layout.unflatten(flat[0, :n], flat[0, n:])
    for name, spec in layout.specs.items():
        view = layout.view(flat, name)
        assert view.shape == (network.n_members, *spec.shape)
        assert np.shares_memory(view, flat)
        layer, _, own = name.rpartition(".")
        np.testing.assert_array_equal(getattr(by_name[layer], own), view[0])
    grads = {name: layout.view(flat, name)[0] for name, s in layout.specs.items() if s.trainable}
    np.testing.assert_array_equal(layout.flatten(grads), flat[0, :n])


def test_parameters_that_are_not_there_are_an_error():
    network = Network((Dense(1),), 3)
    with pytest.raises(AttributeError, match=r"no parameter 'dense_1\.c'"):
        _ = unflatten(network, draw_first(network))["dense_1"].c


@given(networks(normalizations=NORMALIZATIONS), seeds)
def test_first_values_of_a_member_are_drawn_from_its_own_stream(network, seed):
    params = draw_first(network, seed)
    for k in range(network.n_members):
        alone = draw_first(Network(network.layers, network.n_in), seed, first_member=k)
        np.testing.assert_array_equal(params[k], alone[0])
    rngs = [np.random.default_rng([seed, k]) for k in range(network.n_members)]
    np.testing.assert_array_equal(network.init_params(rngs, np.float32), params.astype(np.float32))
    statistics = slice(network.layout.n_trainable, None)
    after = random_params(network, np.random.default_rng(seed))
    network.reset_statistics(after)
    np.testing.assert_array_equal(after[:, statistics], params[:, statistics])


# Gradients of whole networks.


@given(networks_and_rows(normalizations=NORMALIZATIONS))
def test_network_gradients_equal_the_complex_step(drawn):
    report = check_gradients(*drawn, mode="complex")
    assert report.passed, report


@pytest.mark.parametrize("mode", ["central", "directional"])
@given(drawn=networks_and_rows(activations=[*ACTIVATION_ROWS, Bump()]))
def test_network_gradients_equal_differences(mode, drawn):
    report = check_gradients(*drawn, mode=mode)
    assert report.passed, report


@given(networks_and_rows(normalizations=NORMALIZATIONS), seeds)
def test_network_gradient_is_the_derivative_of_the_weighted_cost(drawn, seed):
    """The whole way at once, with a cost that is written out here and a random direction."""
    network, X, y, weight = drawn
    rng, n = np.random.default_rng(seed), network.layout.n_trainable
    [params], layers = random_params(network, rng, 0.5)[:1], network.of_member(0)
    direction, ctx = rng.normal(size=n), make_context(True, weight)
    factor = np.ones(len(y)) if weight is None else weight

    def logits_at(step):
        p = network.layout.unflatten(params[:n] + step * direction, params[n:])
        return layers.forward(X, p, ctx)[:, 0]

    logits = logits_at(1j * COMPLEX_STEP)
    cost = (factor * (np.log(1.0 + np.exp(logits)) - y * logits)).mean()
    grad_logits = factor * (1.0 / (1.0 + np.exp(-logits_at(0.0))) - y) / len(y)
    p = network.layout.unflatten(params[:n], params[n:])
    _, grads = layers.backward(grad_logits[:, np.newaxis], X, p, ctx)
    products = network.layout.flatten(grads) * direction
    bound = 1e-12 * max(1.0, np.abs(products).sum())
    assert products.sum() == pytest.approx(cost.imag / COMPLEX_STEP, rel=0, abs=bound)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("mode", ["complex", "central", "directional"])
def test_estimator_gradients_include_penalty_and_class_weights(mode, class_weight):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(33, 4)), rng.integers(0, 2, 33)
    weight = rng.exponential(size=33) * (rng.random(33) < 0.7)
    estimator = DeepBinaryClassifier(
        (6, 5, 4),
        ["tanh", "gelu", "relu"],
        encoder=None,
        n_members=2,
        dropout=[0.0, 0.3, 0.5],
        alpha=50.0,
        class_weight=class_weight,
    )
    report = check_gradients(estimator, X, y, weight, mode=mode)
    assert report.passed, report


@pytest.mark.parametrize("activation", ACTIVATION_ROWS)
@pytest.mark.parametrize("weighting", ["without weights", "with weights"])
def test_gradients_equal_pytorchs(activation, weighting):
    """Logits, loss and the gradient of every parameter, to 1e-10 in float64."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch's gradients")
    g = Activation(make_activation(activation))
    network, rng = Network((Dense(6), g, Dense(5), g, Dense(1)), 4), np.random.default_rng(0)
    p, layers = (
        unflatten(network, rng.normal(0.0, 0.7, (1, network.layout.n_params))),
        network.of_member(0),
    )
    X, y = rng.normal(size=(17, 4)), rng.integers(0, 2, 17).astype(np.float64)
    weight = rng.exponential(size=17) * (rng.random(17) < 0.7)
    weight = weight if weighting == "with weights" else None

    ctx, loss = make_context(True, weight), BinaryCrossEntropy()
    logits = layers.forward(X, p, ctx)[:, 0]
    grad_logits = loss.gradient(y, logits, weight)
    _, grads = layers.backward(grad_logits[:, np.newaxis], X, p, ctx)
    [total] = loss.total(
        y[np.newaxis], logits[np.newaxis], None if weight is None else weight[np.newaxis]
    )
    value = total / len(y)

    functions = {"identity": lambda z: z, "logistic": torch.sigmoid, "tanh": torch.tanh}
    function = functions.get(activation) or getattr(torch.nn.functional, activation)
    theirs = {
        f"dense_{i}.{part}": torch.tensor(getattr(p[f"dense_{i}"], part).copy(), requires_grad=True)
        for i in (1, 2, 3)
        for part in "Wb"
    }
    signal = torch.tensor(X)
    for i in (1, 2, 3):
        signal = signal @ theirs[f"dense_{i}.W"] + theirs[f"dense_{i}.b"]
        signal = function(signal) if i < 3 else signal
    cost = torch.nn.functional.binary_cross_entropy_with_logits(
        signal[:, 0],
        torch.tensor(y),
        weight=None if weight is None else torch.tensor(weight),
    )
    cost.backward()
    np.testing.assert_allclose(logits, signal[:, 0].detach(), rtol=0, atol=1e-10)
    assert value == pytest.approx(cost.item(), abs=1e-10)
    for name, tensor in theirs.items():
        np.testing.assert_allclose(grads[name], tensor.grad.numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("executor", ["numpy", "eager"])
def test_training_on_a_sparse_table_is_that_on_the_dense_one(executor):
    layers = (Dense(5), BatchNorm(), Activation(Tanh()), Dropout(0.2), Dense(1))
    network, rng = Network(layers, 6, 2), np.random.default_rng(0)
    X = rng.normal(size=(30, 6)) * (rng.random((30, 6)) < 0.3)
    y, params = rng.integers(0, 2, 30), draw_first(network)
    settings = {"members": (0, 1), "weight": rng.exponential(size=30)}
    sparse = take_steps(network, params, csr_array(X), y, executor=executor, **settings)
    dense = take_steps(network, params, X, y, **settings)
    for name, array in dense.items():
        np.testing.assert_allclose(sparse[name], array, rtol=0, atol=1e-12)


# Members side by side, through the estimator.

SETTINGS = {
    "plain": {},
    "in one batch": {"batch_size": 120},
    "without shuffling": {"shuffle": False},
    "relu and dropout": {"activation": "relu", "dropout": 0.4},
    "wide, with one unit left": {"hidden_layer_sizes": (33, 1, 17)},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "penalty, decay and clipping": {"alpha": 2.0, "weight_decay": 0.1, "max_grad_norm": 0.05},
    "plateau": {"n_iter_no_change": 2, "tol": 0.01, "max_iter": 60, "random_state": 2},
    "moving average": {"ema_decay": 0.9},
    "batch normalisation": {"normalization": "batch", "ema_decay": 0.8},
    "residual layers": {"normalization": "layer", "residual": True, "hidden_layer_sizes": (5, 5)},
    "adaptive rates": {
        "learning_rate": "adaptive",
        "solver": "sgd",
        "learning_rate_init": 0.3,
        "n_iter_no_change": 1,
        "tol": 0.01,
        "max_iter": 40,
        "random_state": 2,
    },
    **{
        f"solver {name}": {"solver": row.solver, **row.parameters}
        for name, row in SOLVER_ROWS.items()
    },
    **{f"schedule {name}": {"learning_rate": name} for name in SCHEDULE_ROWS if name != "adaptive"},
}
BASE = {"hidden_layer_sizes": (7, 5), "batch_size": 32, "learning_rate_init": 0.02, "max_iter": 6}


def fit_members(n_members, **settings):
    model = classifier(**{**BASE, **settings}, n_members=n_members)
    X, y = make_table()
    return model.fit(X, y, sample_weight=make_weights(len(y)) + 0.5)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_member_trains_in_company_as_it_trains_alone(setting):
    """The first of three is the only one, whatever else is going on."""
    together, alone = fit_members(3, **setting).params_, fit_members(1, **setting).params_
    np.testing.assert_allclose(together[:1], alone, rtol=0, atol=1e-9)
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert np.abs(together[one] - together[other]).max() > 0.1


@pytest.mark.parametrize("setting", ["plateau", "adaptive rates"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_members_that_are_compared_do_stop_before_the_last(setting):
    """Otherwise the test above would not show that a member is frozen when it stops."""
    together, alone = (fit_members(n, **SETTINGS[setting]) for n in (3, 1))
    assert alone.n_iter_ < together.n_iter_
