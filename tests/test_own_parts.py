"""Layers, activation functions, losses, solvers and schedules that users write themselves.

The classes stand at the top level of this file, so that they can be pickled.
"""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from data import classifier, make_table
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from skdnn import DeepBinaryClassifier, check_gradients
from skdnn.nn import Activation, Dense, Dropout, Layer, ParamSpec
from skdnn.nn.functions import sigmoid
from skdnn.nn.initializers import he_normal, ones
from skdnn.optim import Transform


@dataclass(frozen=True)
class GatedLinearUnit(Layer):
    n_units: int

    def n_out(self, n_in):
        return self.n_units

    def params(self, n_in):
        shape = (n_in, self.n_units)
        return ParamSpec("W", shape, he_normal), ParamSpec("V", shape, he_normal)

    def forward(self, x, p, ctx):
        return (x @ p.W) * sigmoid(x @ p.V)

    def backward(self, grad_y, x, p, ctx):
        s = sigmoid(x @ p.V)
        grad_a, grad_b = grad_y * s, grad_y * (x @ p.W) * s * (1.0 - s)
        grad_x = grad_a @ p.W.mT + grad_b @ p.V.mT
        return grad_x, {"W": x.mT @ grad_a, "V": x.mT @ grad_b}


@dataclass(frozen=True)
class Factor(Layer):
    def params(self, n_in):
        return (ParamSpec("s", (n_in,), ones, weight_decay=False),)

    def forward(self, x, p, ctx):
        return x * p.s

    def backward(self, grad_y, x, p, ctx):
        return grad_y * p.s, {"s": (grad_y * x).sum(axis=0)}


@dataclass(frozen=True)
class SoftSign:
    def value(self, z):
        return z / (1.0 + abs(z))

    def derivative(self, z):
        return 1.0 / (1.0 + abs(z)) ** 2


@dataclass(frozen=True)
class BrierLoss:
    def loss(self, y, z):
        return (sigmoid(z) - y) ** 2

    def derivative(self, y, z):
        a = sigmoid(z)
        return 2.0 * (a - y) * a * (1.0 - a)


@dataclass(frozen=True)
class Lion(Transform):
    beta_1: float = 0.9
    beta_2: float = 0.99

    def init(self, params):
        return {"m": np.zeros(len(params))}

    def prepare(self, steps, learning_rates):
        return {"warmup": np.minimum(steps / 3, 1.0)}

    def update(self, u, params, state, step):
        direction = np.sign(self.beta_1 * state["m"] + (1.0 - self.beta_1) * u)
        return direction * step.warmup, {"m": self.beta_2 * state["m"] + (1.0 - self.beta_2) * u}


def fall(done, total):
    return 1.0 - done / total


class SciPyGELU:
    """A function of SciPy's cannot be traced."""

    def value(self, z):
        return z * ndtr(z)

    def derivative(self, z):
        return ndtr(z) + z * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)


OWN = {
    "hidden_layer_sizes": (GatedLinearUnit(6), Dropout(0.1), 5, Factor()),
    "activation": SoftSign(),
    "loss": BrierLoss(),
    "solver": Lion(),
    "learning_rate": fall,
    "n_members": 2,
    "alpha": 0.01,
    "ema_decay": 0.5,
}


def test_own_parts_are_cloned_pickled_and_searched():
    X, y = make_table(60)
    estimator = classifier(**OWN)
    fitted = clone(estimator).fit(X, y)
    np.testing.assert_array_equal(fitted.params_, estimator.fit(X, y).params_)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert repr(again.get_params()) == repr(fitted.get_params())
    layers = [(GatedLinearUnit(3),), (Dense(3), Activation("tanh"), Factor())]
    grid = {"hidden_layer_sizes": layers, "solver": [Lion(), Lion(0.5), "sgd"]}
    search = GridSearchCV(classifier(max_iter=2), grid, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["hidden_layer_sizes"] in layers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_own_parts_go_on_from_a_pickle_to_the_last_bit(dtype):
    X, y = make_table(60)
    settings = OWN | {"learning_rate": "constant", "dtype": dtype}
    whole = classifier(**settings, max_iter=4).fit(X, y)
    half = classifier(**settings, max_iter=2, warm_start=True).fit(X, y)
    half = pickle.loads(pickle.dumps(half)).fit(X, y)
    np.testing.assert_array_equal(half.params_, whole.params_)
    assert half.params_.dtype == dtype


def test_fit_does_not_go_on_with_other_layers():
    X, y = make_table(60)
    model = classifier((Factor(), 4), warm_start=True, max_iter=1).fit(X, y)
    model.set_params(hidden_layer_sizes=(Factor(), 4)).fit(X, y)
    for sizes in ((GatedLinearUnit(3), 4), (Factor(), 4, 4)):
        with pytest.raises(ValueError, match="but hidden_layer_sizes changed"):
            model.set_params(hidden_layer_sizes=sizes).fit(X, y)


def test_own_parts_train_by_every_way_of_training():
    X, y = make_table(60)
    part = classifier(**OWN).partial_fit(X[:30], y[:30], classes=np.unique(y))
    assert part.partial_fit(X[30:], y[30:]).t_ == 60
    full = OWN | {"hidden_layer_sizes": (Factor(), GatedLinearUnit(4)), "activation": "tanh"}
    del full["ema_decay"], full["solver"]
    model = classifier(**full, solver="lbfgs", tol=0.01, max_iter=200).fit(X, y)
    assert model.loss_ < classifier(**full, max_iter=1).fit(X, y).loss_
    assert classifier(GatedLinearUnit(3)).fit(X, y).input_gradients(X).shape == X.shape


def test_own_loss_is_what_training_lowers_and_the_history_has():
    X, y = make_table(60)
    model = classifier(loss=BrierLoss(), max_iter=30, alpha=0.0, batch_size=60).fit(X, y)
    brier = np.mean((model.predict_proba(X)[:, 1] - (y == model.classes_[1])) ** 2)
    assert model.history_["loss"][-1] == pytest.approx(brier, rel=0.1)
    assert model.history_["loss"][-1] < model.history_["loss"][0]


def test_residual_connections_count_the_width_that_own_layers_leave():
    X, y = make_table(60)
    model = classifier((GatedLinearUnit(4), 4, Factor(), 4), residual=True, max_iter=1).fit(X, y)
    assert [W.shape for W in model.coefs_] == [(4, 4), (4, 4), (4, 1)]


def test_gradients_of_own_parts_are_checked_with_the_programs():
    X, y = make_table(20)
    report = check_gradients(classifier(**OWN), X, y)
    assert report.passed, report
    assert report.mode == "central"
    assert report.errors["program by numpy"] < 1e-12


@dataclass(frozen=True)
class WrongFactor(Factor):
    def backward(self, grad_y, x, p, ctx):
        grad_x, grads = super().backward(grad_y, x, p, ctx)
        return grad_x, {"s": 1.01 * grads["s"]}


def test_wrong_gradient_of_an_own_layer_is_found_and_named():
    X, y = make_table(20)
    report = check_gradients(classifier((4, WrongFactor())), X, y)
    assert str(report).endswith("Wrong beyond the tolerance of 1e-06: wrongfactor_1.s.")


def test_what_cannot_be_traced_trains_by_the_formulas_and_says_why(capsys):
    X, y = make_table(60)
    eager = classifier((4, 3), SciPyGELU(), verbose=5, n_members=2).fit(X, y)
    said = capsys.readouterr().out
    assert "not as a program: ndtr cannot be traced (SciPyGELU.value in " in said
    assert "test_own_parts.py" in said
    traced = classifier((4, 3), "gelu", n_members=2).fit(X, y)
    np.testing.assert_allclose(eager.params_, traced.params_, rtol=0, atol=1e-6)
    again = pickle.loads(pickle.dumps(eager))
    np.testing.assert_array_equal(again.predict_proba(X), eager.predict_proba(X))
    assert check_gradients(eager, X[:20], y[:20]).passed


def layer(**methods):
    """Return a layer that is a `Factor` but for some methods."""
    return type("Own", (Factor,), methods)()


def in_place(self, x, p, ctx):
    x *= 2.0
    return x


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (layer(forward=in_place), r"not change an array in place, .* return a new one"),
        (layer(forward=lambda s, x, p, ctx: x[:, :2]), r"Own.forward must .* shape \(32, 6\)"),
        (layer(forward=lambda s, x, p, ctx: None), r"Own.forward must .* got NoneType"),
        (layer(n_out=lambda s, n_in: 3), r"Own.forward must .* shape \(32, 3\), got \(32, 6\)"),
        (layer(backward=lambda s, g, x, p, ctx: (g[:, :2], {"s": p.s})), "Own.backward must"),
        (layer(backward=lambda s, g, x, p, ctx: (g, {})), "gradient of each trainable parameter"),
        (
            layer(backward=lambda s, g, x, p, ctx: (g, {"s": p.s, "t": p.s})),
            "nothing else",
        ),
        (
            layer(backward=lambda s, g, x, p, ctx: (g, {"s": g.sum(axis=1)})),
            r"parameter 'own_1.s' must have its shape, \(6,\), got \(32,\)",
        ),
        (
            layer(params=lambda s, n: Factor().params(n) * 2),
            r"names that differ, got 'own_1.s' twice",
        ),
        (layer(params=lambda s, n: Factor().params(n + 1)), "shape"),
        (
            layer(params=lambda s, n: (ParamSpec("s", (n,), lambda rng, shape: np.ones(2)),)),
            r"first values of the parameter 'own_1.s' must have the shape \(6,\), got \(2,\)",
        ),
        (layer(forward=lambda s, x, p, ctx: x * p.w), "no parameter 'own_1.w'"),
    ],
)
def test_mistake_in_an_own_layer_is_an_error_that_names_it(wrong, message):
    X, y = make_table(60, 6)
    with pytest.raises((TypeError, ValueError, AttributeError), match=message):
        classifier((wrong, 4)).fit(X, y)


class Counted(Factor):
    """A layer with a statistic, of which `update` makes another one."""

    update = staticmethod(lambda x, p: {})

    def params(self, n_in):
        return *super().params(n_in), ParamSpec("mean", (n_in,), ones, trainable=False)

    def statistics(self, x, p, ctx):
        return self.update(x, p)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (lambda x, p: {"t": p.s}, r"that are not trainable and of nothing else, .*'own_1.t'"),
        (lambda x, p: {"s": p.s}, r"that are not trainable and of nothing else, .*'own_1.s'"),
        (lambda x, p: {"mean": x.mean(axis=1)}, r"'own_1.mean' must have its shape, \(6,\), got"),
        (lambda x, p: {"mean": 0.5}, r"'own_1.mean' must have its shape, \(6,\), got None"),
    ],
)
@pytest.mark.parametrize("activation", ["silu", SciPyGELU()], ids=["program", "formulas"])
def test_mistake_in_statistics_of_an_own_layer_is_an_error_that_names_it(
    update, message, activation
):
    own = type("Own", (Counted,), {"update": staticmethod(update)})()
    with pytest.raises(ValueError, match=message):
        classifier((own, 4), activation).fit(*make_table(60, 6))


def test_state_of_an_own_solver_has_the_shape_of_the_parameters():
    class Count(Transform):
        def init(self, params):
            return {"count": np.zeros(1)}

    with pytest.raises(ValueError, match=r"must have the shape of the parameters, .* got \(1,\)"):
        classifier(solver=Count()).fit(*make_table())


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", BrierLoss), ("solver", Lion), ("activation", SoftSign), ("activation", [SoftSign])],
)
def test_class_in_the_place_of_its_object_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}.*class"):
        classifier(**{name: value}).fit(*make_table())


def test_dropout_among_own_layers_is_refused_by_lbfgs():
    with pytest.raises(ValueError, match="makes the cost random, which solver='lbfgs'"):
        classifier((4, Dropout(0.5)), solver="lbfgs").fit(*make_table())


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        DeepBinaryClassifier(**OWN | {"learning_rate_init": 0.003, "max_iter": 20}),
        DeepBinaryClassifier((8,), SciPyGELU(), n_members=1, max_iter=20),
    ],
    ids=["own parts", "untraceable"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimator_of_own_parts_passes_the_checks_of_scikit_learn(estimator):
    results = check_estimator(estimator.set_params(random_state=0), on_skip=None, on_fail=None)
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []


def test_untraceable_predictions_of_any_number_of_rows_agree():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    model = DeepBinaryClassifier((8,), SciPyGELU(), n_members=2, max_iter=5, random_state=0)
    model.fit(X, X[:, 0] > 0)
    together = model.predict_proba(X)
    for n in (1, 3, 20, 40):
        np.testing.assert_allclose(model.predict_proba(X[:n]), together[:n], rtol=1e-12)
