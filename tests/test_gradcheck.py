"""The public gradient check: what it finds, what it says, and what it leaves alone."""

import pickle

import numpy as np
import pandas as pd
import pytest
from tables import ACTIVATION_ROWS, Bump

from skdnn import DeepBinaryClassifier, GradientReport, check_gradients
from skdnn.nn import Activation, BatchNorm, Dense, Dropout, Network

rng = np.random.default_rng(0)
X, y = rng.normal(size=(12, 3)), np.arange(12) % 2
MODES = {"complex": 1e-12, "central": 1e-6, "directional": 1e-3}
modes = pytest.mark.parametrize("mode", MODES)


class WrongSlope(Bump):
    """The derivative of another function: off by a factor where z is positive."""

    def derivative(self, z):
        return super().derivative(z) * np.where(z > 0, 1.01, 1.0)


class NoSlope(Bump):
    def derivative(self, z):
        return np.full_like(z, np.nan)


def network_of(*activation, dropout=0.0, n_members=1):
    """Return a network with a hidden layer of four units for each activation."""
    layers = [(Dense(4), Activation(function), Dropout(dropout)) for function in activation]
    return Network((*sum(layers, ()), Dense(1)), 3, n_members)


def error_of_derivative(report, name):
    """Return the error that the report has for the derivative of a function of this class."""
    [error] = [e for key, e in report.errors.items() if key.startswith(f"derivative of {name}")]
    return error


@modes
@pytest.mark.parametrize("activation", ACTIVATION_ROWS)
def test_check_passes_every_built_in_activation_in_every_mode(activation, mode):
    estimator = DeepBinaryClassifier((5, 4), activation, encoder=None, n_members=2, dropout=0.3)
    report = check_gradients(estimator, X, y, mode=mode)
    assert report.passed, report
    assert report.mode == mode
    assert report.tolerance == MODES[mode]


def test_auto_mode_is_exact_unless_an_activation_is_the_users_own():
    assert check_gradients(network_of("tanh", "relu"), X, y).mode == "complex"
    assert check_gradients(network_of("tanh", Bump()), X, y).mode == "central"


def test_check_passes_a_right_activation_of_the_users_own():
    report = check_gradients(network_of(Bump(), "tanh"), X, y)
    assert report.passed, report
    assert error_of_derivative(report, "Bump") < 1e-6


@pytest.mark.parametrize("mode", ["auto", "central", "directional"])
def test_check_finds_a_wrong_derivative_and_names_it(mode):
    """One hundredth off: found in the function itself and in the layer before it, not after."""
    report = check_gradients(network_of("tanh", WrongSlope()), X, y, mode=mode)
    assert not report.passed
    assert "derivative of WrongSlope" in str(report).splitlines()[-1]
    assert error_of_derivative(report, "WrongSlope") > report.tolerance
    assert report.errors["dense_3.W"] <= report.tolerance
    if mode != "directional":
        assert report.errors["dense_2.W"] > report.tolerance


def test_check_finds_a_derivative_that_is_not_a_number():
    report = check_gradients(network_of(NoSlope()), X, y)
    assert not report.passed
    assert "derivative of NoSlope" in str(report).splitlines()[-1]


def test_check_tells_two_activations_of_one_class_apart():
    """A wrong one must not hide behind a right one that comes later."""

    class Scaled(Bump):
        def __init__(self, factor):
            self.factor = factor

        def derivative(self, z):
            return self.factor * super().derivative(z)

    report = check_gradients(network_of(Scaled(1.5), Scaled(1.0)), X, y)
    worst = max(error for name, error in report.errors.items() if name.startswith("derivative of"))
    assert worst > report.tolerance


@pytest.mark.parametrize("part", ["W", "b"])
def test_check_finds_a_wrong_gradient_of_one_parameter(part, monkeypatch):
    """And says which, among those that are right."""
    backward = Dense.backward

    def wrong_backward(self, grad_y, x, p, ctx):
        grad_x, grads = backward(self, grad_y, x, p, ctx)
        return grad_x, {**grads, part: grads[part] * (1.0 + 1e-9 * (self.n_units == 4))}

    monkeypatch.setattr(Dense, "backward", wrong_backward)
    report = check_gradients(network_of("tanh"), X, y)
    assert [n for n, e in report.errors.items() if e > 1e-12] == [f"dense_1.{part}"]
    assert str(report).endswith(f"Wrong beyond the tolerance of 1e-12: dense_1.{part}.")


def test_check_is_of_the_weighted_cost_with_its_penalty():
    """Weights of zero leave the gradient of the penalty alone: alpha / n times the weights."""
    weight = np.zeros(12)
    weight[:2] = 1.0
    plain = check_gradients(DeepBinaryClassifier((4,), "tanh", n_members=2, alpha=0.0), X, y)
    weighted = check_gradients(
        DeepBinaryClassifier((4,), "tanh", n_members=2, alpha=0.0), X, y, weight
    )
    penalised = check_gradients(
        DeepBinaryClassifier((4,), "tanh", n_members=2, alpha=1e3), X, y, weight
    )
    assert plain.passed
    assert weighted.passed
    assert penalised.passed
    assert plain.gradients["dense_1.W"] != weighted.gradients["dense_1.W"]
    assert penalised.gradients["dense_1.W"] > 100 * weighted.gradients["dense_1.W"]
    assert penalised.gradients["dense_1.b"] == pytest.approx(weighted.gradients["dense_1.b"])


def test_check_of_a_network_takes_weights():
    weight = np.arange(12.0)
    report = check_gradients(network_of("tanh", n_members=3), X, y, weight)
    assert report.passed
    unweighted = check_gradients(network_of("tanh", n_members=3), X, y)
    assert report.gradients != unweighted.gradients


def test_check_tells_layers_the_weights_of_the_rows():
    """For batch normalisation a row of weight k is k rows, in the check as in training."""
    network = Network((Dense(4), BatchNorm(), Activation("tanh"), Dense(1)), 3)
    k = 1 + np.arange(12) % 3
    weighted = check_gradients(network, X, y, k / k.mean())
    repeated = check_gradients(network, X.repeat(k, axis=0), y.repeat(k))
    assert weighted.passed
    assert weighted.gradients == pytest.approx(repeated.gradients, rel=1e-9, abs=1e-12)
    assert "batchnorm_1.gamma" in weighted.gradients
    assert "batchnorm_1.running_mean" not in weighted.gradients


def test_check_of_a_network_takes_lists():
    report = check_gradients(network_of("tanh"), X.tolist(), y.tolist(), [1.0] * 12)
    assert report.passed


def test_check_repeats_itself_and_follows_the_seed():
    network = network_of("tanh", dropout=0.5)
    one, same, other = (check_gradients(network, X, y, random_state=s) for s in (0, 0, 1))
    assert one == same
    assert one.gradients != other.gradients


def test_check_leaves_an_unfitted_estimator_as_it_is():
    estimator = DeepBinaryClassifier((4,), Bump(), n_members=2, random_state=3)
    before = vars(estimator).copy()
    check_gradients(estimator, X, y)
    assert vars(estimator) == before


@modes
def test_check_leaves_a_fitted_estimator_as_it_is(mode):
    settings = {"n_members": 2, "dropout": 0.2, "max_iter": 3, "n_iter_no_change": np.inf}
    estimator = DeepBinaryClassifier((4,), "tanh", **settings)
    estimator.fit(X, y)
    before = pickle.dumps(estimator)
    assert check_gradients(estimator, X, y, mode=mode).passed
    assert pickle.dumps(estimator) == before


def test_check_judges_a_fitted_estimator_at_its_weights():
    """The cost has hardly a gradient left where training has ended, and a large one before."""
    rows = np.array([[0.0], [1.0]] * 20), np.array([0, 1, 1, 1, 0, 1, 1, 0] * 5)
    estimator = DeepBinaryClassifier(
        (),
        encoder=None,
        n_members=1,
        alpha=0.0,
        solver="gd",
        learning_rate="constant",
        learning_rate_init=2.0,
        max_iter=500,
        n_iter_no_change=np.inf,
    )
    before = check_gradients(estimator, *rows)
    after = check_gradients(estimator.fit(*rows), *rows)
    assert max(before.gradients.values()) > 1e-2
    assert max(after.gradients.values()) < 1e-3
    assert after.passed


def test_check_accepts_the_users_labels_and_checks_the_data():
    estimator = DeepBinaryClassifier((4,), "tanh", n_members=2)
    assert check_gradients(estimator, X, np.where(y, "rain", "dry")).passed
    with pytest.warns(UserWarning, match="no value in any row"):
        assert check_gradients(estimator, np.full((12, 3), np.nan), y).passed
    with pytest.raises(ValueError, match="infinity"):
        check_gradients(estimator, np.full((12, 3), np.inf), y)
    with pytest.raises(ValueError, match="NaN"):
        check_gradients(estimator.set_params(encoder=None), np.full((12, 3), np.nan), y)


@modes
def test_check_sees_through_encoder_and_embeddings(mode):
    """Numbers with one missing, flags, and codes; at first and at fitted weights."""
    names = ["s", "t", "u", "v", "w"]
    table = pd.DataFrame(X, columns=list("abc"))
    table["a"] = table["a"].where(table["a"] < 1.0)
    table["few"] = pd.Categorical(np.take(names[:2], y))
    table["many"] = pd.Categorical(np.take(names * 8, range(12)))
    estimator = DeepBinaryClassifier((4,), "tanh", n_members=2, dropout=0.2, max_iter=2)
    report = check_gradients(estimator, table, y, mode=mode)
    assert report.passed, report
    assert any("numericembedding" in n for n in report.errors), report.errors
    report = check_gradients(estimator.fit(table, y), table, y, mode=mode)
    assert report.passed, report


def test_check_refuses_a_parameter_as_fit_would():
    """In the words of `fit`, and not with a KeyError from somewhere inside."""
    with pytest.raises(ValueError, match="'solver' parameter"):
        check_gradients(DeepBinaryClassifier((4,), solver="magic"), X, y)


def test_check_names_the_modes_if_it_does_not_know_one():
    with pytest.raises(ValueError, match=r"mode must be 'auto' or one of .*'complex'.*got 'exact'"):
        check_gradients(network_of("tanh"), X, y, mode="exact")


def test_report_is_a_table_in_words_and_numbers():
    report = check_gradients(network_of("tanh", Bump()), X, y)
    first, heading, *lines, verdict = str(report).splitlines()
    assert first == "Gradients by back-propagation against central differences:"
    assert heading.split() == ["parameter", "largest", "gradient", "largest", "error"]
    assert [line.split("  ")[1] for line in lines] == list(report.errors)
    assert verdict == "All errors are within the tolerance of 1e-06."
    for line, name in zip(lines, report.errors, strict=True):
        *_, gradient, error = line.split()
        assert float(gradient) == pytest.approx(report.gradients[name], rel=0.01)
        assert float(error) == pytest.approx(report.errors[name], rel=0.01)


def test_report_passes_up_to_its_tolerance():
    def report(*errors):
        names = [f"dense_{i}.W" for i in range(len(errors))]
        return GradientReport("complex", dict(zip(names, errors, strict=True)), {}, 1e-12)

    assert report(0.0, 1e-12).passed
    assert report(0.0, 1e-13).max_error == 1e-13
    assert not report(0.0, 1.1e-12).passed
    assert not report(np.nan, 0.0).passed
    assert not report(0.0, np.nan).passed


@pytest.mark.parametrize("errors", [(np.nan, 1e-16), (1e-16, np.nan)])
def test_report_has_no_largest_error_if_one_is_not_a_number(errors):
    """An error that is not a number is worse than any, wherever it stands."""
    report = GradientReport("complex", dict(zip("ab", errors, strict=True)), {}, 1e-12)
    assert np.isnan(report.max_error)
