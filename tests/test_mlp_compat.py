"""In the place of scikit-learn's MLPClassifier: its parameters, its attributes, its conduct."""

import importlib
import inspect
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from data import make_table, needs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdnn import DeepBinaryClassifier

# Both say where max_iter ends their training, which is the rule in what follows.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
SOLVERS = ["adam", "sgd", "lbfgs"]


def mlp(**parameters):
    """Return an MLPClassifier that trains briefly, and always the same."""
    return MLPClassifier(
        **{"hidden_layer_sizes": (9, 5), "max_iter": 6, "random_state": 0, **parameters}
    )


def like(peer, **parameters):
    """Return our estimator with all of its parameters."""
    return DeepBinaryClassifier(**{**peer.get_params(), **parameters})


@pytest.fixture
def table():
    return make_table()


def arrays_of(model):
    return [*model.coefs_, *model.intercepts_]


def assert_same_network(ours, theirs, **tolerance):
    for one, other in zip(arrays_of(ours), arrays_of(theirs), strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


# Parameters.


def test_every_parameter_has_its_name():
    ours = inspect.signature(DeepBinaryClassifier.__init__).parameters
    theirs = inspect.signature(MLPClassifier.__init__).parameters
    assert set(theirs) <= set(ours)
    assert list(ours)[:3] == list(theirs)[:3] == ["self", "hidden_layer_sizes", "activation"]


GRID = [
    *product(["sgd"], ["constant", "invscaling", "adaptive"], [False, True]),
    *product(["adam", "lbfgs"], ["constant"], [False, True]),
]


@pytest.mark.parametrize(("solver", "learning_rate", "early_stopping"), GRID, ids=str)
def test_parameters_are_accepted(table, solver, learning_rate, early_stopping):
    X, y = table
    place = GRID.index((solver, learning_rate, early_stopping))
    peer = MLPClassifier(
        [(100,), (5, 3), 7][place % 3],
        ACTIVATIONS[place % 4],
        solver=solver,
        learning_rate=learning_rate,
        early_stopping=early_stopping,
        max_iter=3,
        random_state=0,
    ).fit(X, y)
    ours = like(peer).fit(X, y)
    assert ours.params_.shape[0] == 1
    assert [a.shape for a in arrays_of(ours)] == [a.shape for a in arrays_of(peer)]
    assert ours.predict_proba(X).shape == peer.predict_proba(X).shape
    assert ours.n_iter_ == peer.n_iter_ == 3


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 0.0},
        {"batch_size": 17},
        {"power_t": 0.1, "learning_rate": "invscaling", "solver": "sgd"},
        {"momentum": 0.0, "nesterovs_momentum": False, "solver": "sgd"},
        {"shuffle": False},
        {"tol": 0.1, "n_iter_no_change": 2},
        {"n_iter_no_change": np.inf},
        {"beta_1": 0.5, "beta_2": 0.5, "epsilon": 1e-4},
        {"max_fun": 5, "solver": "lbfgs"},
        {"validation_fraction": 0.5, "early_stopping": True},
        {"verbose": 5},
        {"warm_start": True},
    ],
    ids=str,
)
def test_other_parameters_are_accepted_too(table, parameters, capsys):
    peer = mlp(**parameters)
    ours = like(peer).fit(*table)
    assert ours.score(*table) > 0.3
    assert {name: getattr(ours, name) for name in parameters} == parameters


def test_network_is_a_single_one_without_dropout(table):
    ours = like(mlp()).fit(*table)
    assert ours.encoder_ is None
    assert [W.shape for W in ours.coefs_] == [(6, 9), (9, 5), (5, 1)]
    chosen = {"n_members": 1, "dropout": 0.0, "initialization": "mlp", "numeric_embedding": None}
    assert chosen.items() <= ours.resolved_params_.items()
    own = DeepBinaryClassifier(max_iter=2, random_state=0).fit(*table)
    assert len(own.params_) > 1
    assert own.encoder_ is not None


def test_what_is_set_beside_them_is_not_overruled(table):
    ours = like(mlp(), n_members=2, dropout=0.5, initialization="zeros").fit(*table)
    assert len(ours.params_) == 2
    assert not {"n_members", "dropout", "initialization"} & set(ours.resolved_params_)
    assert not any(W.any() for W in ours.coefs_[:-1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_first_weights_are_distributed_as_theirs(activation):
    """Uniform within the same bounds, biases too: compared by their extremes and variance."""
    X, y = make_table(40, 50)
    peer = mlp(activation=activation, hidden_layer_sizes=(60, 40), max_iter=1, solver="sgd")
    peer.set_params(learning_rate_init=1e-300).fit(X, y)
    ours = like(peer).fit(X, y)
    for one, other in zip(arrays_of(ours), arrays_of(peer), strict=True):
        if one.size >= 2_000:
            np.testing.assert_allclose(np.abs(one).max(), np.abs(other).max(), rtol=0.02)
            np.testing.assert_allclose(one.std(), other.std(), rtol=0.05)
        bound = np.sqrt((2 if activation == "logistic" else 6) / sum(bound_of(one, ours)))
        assert np.abs(one).max() <= bound * (1 + 1e-9)
        assert np.abs(one).max() > 0.0


def bound_of(array, model):
    """Return the fan in and out of the layer that a matrix or a bias belongs to."""
    for W, b in zip(model.coefs_, model.intercepts_, strict=True):
        if array is W or array is b or array.shape in (W.shape, b.shape):
            return W.shape
    raise AssertionError


# Attributes.

ATTRIBUTES = [
    "classes_",
    "coefs_",
    "intercepts_",
    "loss_",
    "best_loss_",
    "loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "t_",
    "n_iter_",
    "n_layers_",
    "n_outputs_",
    "n_features_in_",
    "out_activation_",
]


def describe(value):
    """Return kind and shape of a fitted attribute."""
    if isinstance(value, list):
        return [describe(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape
    return float if isinstance(value, float | np.floating) else type(value)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_fitted_attributes_have_its_types_and_shapes(table, solver, early_stopping):
    peer = mlp(solver=solver, early_stopping=early_stopping).fit(*table)
    ours = like(peer).fit(*table)
    skipped = set()
    if solver == "lbfgs":  # where it has no early stopping, and forgets about it
        assert not early_stopping or ours.validation_scores_ is not None
        skipped = {"best_loss_", "validation_scores_", "best_validation_score_"}
        skipped |= {"t_", "loss_curve_"}  # it does not follow what happens there
    for name in ATTRIBUTES:
        if name not in skipped:
            assert describe(getattr(ours, name)) == describe(getattr(peer, name)), name
    for name in ("n_layers_", "n_outputs_", "n_features_in_", "out_activation_", "n_iter_"):
        assert getattr(ours, name) == getattr(peer, name)
    np.testing.assert_array_equal(ours.classes_, peer.classes_)


def test_rows_are_counted_as_it_counts_them(table):
    X, y = table
    peer = mlp(batch_size=32).fit(X, y)
    assert like(peer).fit(X, y).t_ == peer.t_ == 6 * len(y)


def test_scores_are_accuracies_where_scoring_is_none(table):
    ours = like(mlp(early_stopping=True), scoring=None).fit(*table)
    n_out = 12
    assert np.allclose(np.array(ours.validation_scores_) * n_out % 1, 0, atol=1e-9)
    assert ours.best_validation_score_ == max(ours.validation_scores_)


# The same training from the same first weights.


def begin_alike(peer, X, y):
    """Return our estimator, and theirs, at the same first weights and before any training."""
    peer = clone(peer).set_params(warm_start=True)
    start = clone(peer).set_params(solver="sgd", learning_rate_init=1e-300, max_iter=1)
    start.set_params(learning_rate="constant", early_stopping=False).fit(X, y)
    ours = like(peer).set_params(solver="sgd", learning_rate_init=1e-300, max_iter=1)
    ours.set_params(learning_rate="constant", early_stopping=False).fit(X, y)
    for one, other in zip(arrays_of(ours), arrays_of(start), strict=True):
        one[...] = other
    peer.coefs_, peer.intercepts_ = start.coefs_, start.intercepts_
    for name, value in vars(start).items():
        if name.endswith("_") and name not in ("coefs_", "intercepts_"):
            setattr(peer, name, value)
    for name in ("_label_binarizer", "_random_state", "_no_improvement_count", "_optimizer"):
        if hasattr(start, name):
            setattr(peer, name, getattr(start, name))
    peer.t_, peer.loss_curve_, peer.n_iter_ = 0, [], 0
    ours.set_params(**peer.get_params())
    return ours, peer


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "sgd", "learning_rate_init": 0.2},
        {"solver": "sgd", "momentum": 0.5, "nesterovs_momentum": False},
        {"solver": "adam", "epsilon": 1e-14},
        {"solver": "lbfgs"},
    ],
    ids=str,
)
def test_full_batches_follow_its_loss_curve(table, settings, activation):
    X, y = table
    peer = mlp(activation=activation, alpha=0.5, shuffle=False, max_iter=20, batch_size=len(y))
    ours, peer = begin_alike(peer.set_params(n_iter_no_change=np.inf, **settings), X, y)
    n_before = len(ours.loss_curve_)
    ours.fit(X, y)
    peer.fit(X, y)
    # L-BFGS amplifies the last bits of sums taken in another order.
    tolerance = 1e-5 if settings["solver"] == "lbfgs" else 1e-9
    if settings["solver"] == "lbfgs":  # where it remembers the end alone
        np.testing.assert_allclose(ours.loss_, peer.loss_, rtol=tolerance)
    else:
        np.testing.assert_allclose(ours.loss_curve_[n_before:], peer.loss_curve_, rtol=tolerance)
    np.testing.assert_allclose(
        ours.predict_proba(X), peer.predict_proba(X), atol=100 * tolerance, rtol=0
    )
    assert ours.loss_curve_[-1] < ours.loss_curve_[n_before]
    assert ours.n_iter_ == peer.n_iter_ == 20


# Conduct, beyond what its own tests say, which are run below.


@pytest.mark.parametrize("settings", [{"solver": "sgd", "learning_rate_init": 0.2}, {}], ids=str)
def test_partial_fit_over_full_batches_equals_fit(table, settings):
    X, y = table
    peer = mlp(tol=0.0, n_iter_no_change=np.inf, max_iter=15, batch_size=len(y), **settings)
    fitted, streamed = like(peer).fit(X, y), like(peer)
    for _ in range(15):
        streamed.partial_fit(X, y, classes=[0, 1])
    np.testing.assert_allclose(streamed.params_, fitted.params_, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(streamed.predict(X), fitted.predict(X))


def test_partial_fit_refuses_other_classes():
    X, y = [[3.0, 2.0]], [0]
    ours = like(mlp(solver="sgd")).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="classes"):
        ours.partial_fit(X, y, classes=[1, 2])
    with pytest.raises(ValueError, match="class"):
        ours.partial_fit(X, [2])
    with pytest.raises(ValueError, match="class"):
        like(mlp(solver="sgd")).partial_fit([[3, 2], [1, 6]], [1, 0], classes=[2])
    with pytest.raises(ValueError, match="classes must be passed"):
        like(mlp(solver="sgd")).partial_fit(X, y)


def test_partial_fit_learns_of_a_class_later():
    ours = like(mlp()).partial_fit([[1.0], [2.0]], ["a", "a"], classes=["a", "b"])
    ours.partial_fit([[4.0]], ["b"])
    assert ours.classes_.tolist() == ["a", "b"]
    assert ours.score([[1.0], [2.0], [4.0]], ["a", "a", "b"]) > 0.0


def test_lbfgs_has_no_partial_fit(table):
    ours = like(mlp(solver="lbfgs"))
    assert not hasattr(ours, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        _ = ours.partial_fit
    assert hasattr(ours.set_params(solver="sgd"), "partial_fit")


def test_max_fun_ends_lbfgs(table):
    peer = mlp(solver="lbfgs", max_fun=10, max_iter=150)
    ours = like(peer)
    with pytest.warns(ConvergenceWarning, match="max_fun"):
        ours.fit(*table)
    assert 1 <= ours.n_iter_ <= 10


@pytest.mark.parametrize("learning_rate", ["constant", "invscaling"])
def test_warm_start_keeps_the_learning_rate(learning_rate):
    X, y = [[3.0, 2.0], [1.0, 6.0], [5.0, 6.0], [-2.0, -4.0]], [1, 1, 1, 0]
    ours = like(
        mlp(solver="sgd", learning_rate=learning_rate, max_iter=1, power_t=0.25, warm_start=True)
    )
    ours.fit(X, y).fit(X, y)
    first, second = ours.history_["learning_rate"]
    expected = 1.0 if learning_rate == "constant" else (4 + 1) ** -0.25
    assert first == ours.learning_rate_init
    assert second == pytest.approx(ours.learning_rate_init * expected)


@pytest.mark.parametrize("solver", SOLVERS)
def test_warm_start_counts_as_it_does(table, solver):
    peer = mlp(solver=solver, warm_start=True, max_iter=3, n_iter_no_change=np.inf, tol=0.0)
    ours = like(peer)
    for max_iter in (3, 3, 7):
        ours.set_params(max_iter=max_iter).fit(*table)
        assert ours.n_iter_ == max_iter
        if solver != "lbfgs":
            peer.set_params(max_iter=max_iter).fit(*table)
            assert peer.n_iter_ == max_iter
    assert len(ours.loss_curve_) == 13


def test_warm_start_under_early_stopping_goes_on(table):
    ours = like(mlp(warm_start=True, early_stopping=True)).fit(*table)
    n_scores = len(ours.validation_scores_)
    assert len(ours.set_params(max_iter=20).fit(*table).validation_scores_) > n_scores


def test_warm_start_refuses_other_classes(table):
    X, y = table
    ours = like(mlp(warm_start=True)).fit(X, y)
    with pytest.raises(ValueError, match="class"):
        ours.fit(X, y + 1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_verbose_prints_epochs(table, solver, capsys):
    like(mlp(solver=solver, verbose=True)).fit(*table)
    assert "epoch" in capsys.readouterr().out
    like(mlp(solver=solver, verbose=False)).fit(*table)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("n_iter_no_change", [2, 5, 20])
def test_n_iter_no_change_is_waited_for(table, n_iter_no_change):
    """It ends in the epoch after so many; we do not train that epoch."""
    peer = mlp(tol=1e9, max_iter=300, solver="sgd", n_iter_no_change=n_iter_no_change)
    ours, peer = like(peer).fit(*table), peer.fit(*table)
    assert peer.n_iter_ - ours.n_iter_ in (0, 1)
    assert ours.n_iter_ in (n_iter_no_change, n_iter_no_change + 1)


def test_n_iter_no_change_of_infinity_never_ends(table):
    peer = mlp(tol=1e9, max_iter=60, solver="sgd", n_iter_no_change=np.inf)
    assert like(peer).fit(*table).n_iter_ == 60


def test_adaptive_ends_below_a_millionth():
    peer = MLPClassifier(
        tol=0.5, max_iter=3000, solver="sgd", learning_rate="adaptive", random_state=0
    )
    ours = like(peer).fit([[3.0, 2.0], [1.0, 6.0]], [1, 0])
    assert ours.n_iter_ < 3000
    assert ours.history_["learning_rate"][-1] < 1e-6


def test_shuffling_matters(table):
    X, y = table
    fits = [
        like(mlp(batch_size=1, max_iter=1, shuffle=shuffle)).fit(X, y)
        for shuffle in (True, True, False, False)
    ]
    np.testing.assert_array_equal(fits[0].params_, fits[1].params_)
    np.testing.assert_array_equal(fits[2].params_, fits[3].params_)
    assert not np.array_equal(fits[0].params_, fits[2].params_)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(table, solver, dtype):
    X, y = table
    ours = like(mlp(solver=solver)).fit(X.astype(dtype), y)
    assert {array.dtype for array in arrays_of(ours)} == {np.dtype(dtype)}
    assert ours.predict_proba(X.astype(dtype)).dtype == dtype
    wide = like(mlp(solver=solver)).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), wide.predict_proba(X), rtol=1e-2)


@pytest.mark.parametrize("scoring", ["loss", None])
def test_labels_may_be_strings_under_early_stopping(table, scoring):
    X, y = table
    labels = np.array(["class_a", "class_b"], dtype=object)[y]
    ours = like(mlp(early_stopping=True), scoring=scoring).fit(X, labels)
    assert len(ours.validation_scores_) == ours.n_iter_
    assert np.isfinite(ours.validation_scores_).all()
    assert set(ours.predict(X)) <= {"class_a", "class_b"}


def test_works_in_a_pipeline_as_it_does():
    X, y = make_table(200)
    peer = mlp(max_iter=60)
    ours, theirs = (
        cross_val_score(make_pipeline(StandardScaler(), model), 1e3 * X, y, cv=3).mean()
        for model in (like(peer), peer)
    )
    assert ours > theirs - 0.08


# from_mlp.


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "early_stopping",
    [False, pytest.param(True, marks=needs("scikit-learn>=1.9", "this for labels of strings"))],
)
def test_from_mlp_predicts_the_same(table, activation, solver, dtype, early_stopping):
    X, y = table
    X, y = X.astype(dtype), np.take(["no", "yes"], y)
    peer = mlp(activation=activation, solver=solver, early_stopping=early_stopping).fit(X, y)
    ours = DeepBinaryClassifier.from_mlp(peer)
    atol = 1e-12 if dtype == np.float64 else 1e-6
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), atol=atol, rtol=0)
    np.testing.assert_array_equal(ours.predict(X), peer.predict(X))
    assert ours.params_.dtype == peer.coefs_[0].dtype  # float64 after "lbfgs"
    assert ours.classes_.tolist() == ["no", "yes"]


@pytest.mark.parametrize("hidden_layer_sizes", [(1,), 3, (4, 5, 6)])
def test_from_mlp_takes_over_networks_of_any_depth(table, hidden_layer_sizes):
    peer = mlp(hidden_layer_sizes=hidden_layer_sizes).fit(*table)
    ours = DeepBinaryClassifier.from_mlp(peer)
    assert_same_network(ours, peer, rtol=0, atol=0)
    assert ours.n_layers_ == peer.n_layers_


@pytest.mark.parametrize("early_stopping", [False, True])
def test_from_mlp_takes_over_attributes_and_parameters(table, early_stopping):
    peer = mlp(early_stopping=early_stopping, alpha=0.3).fit(*table)
    ours = DeepBinaryClassifier.from_mlp(peer)
    for name in ATTRIBUTES:
        if name not in ("coefs_", "intercepts_", "classes_"):
            assert getattr(ours, name) == getattr(peer, name), name
    parameters = ours.get_params()
    assert {name: parameters[name] for name in peer.get_params()} == peer.get_params()


def test_from_mlp_takes_over_names_of_columns(table):
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcdef"))
    ours = DeepBinaryClassifier.from_mlp(mlp().fit(frame, y))
    assert ours.feature_names_in_.tolist() == list("abcdef")
    ours.predict(frame)
    with pytest.raises(ValueError, match="feature names"):
        ours.predict(frame[list("fedcba")])


def test_from_mlp_shares_no_memory(table):
    X, y = table
    peer = mlp(solver="sgd").fit(X, y)
    before = peer.predict_proba(X)
    ours = DeepBinaryClassifier.from_mlp(peer)
    curve = list(peer.loss_curve_)
    ours.partial_fit(X, y).set_params(warm_start=True).fit(X, y)
    for array in arrays_of(ours):
        array[...] = 0.0
    np.testing.assert_array_equal(peer.predict_proba(X), before)
    assert peer.loss_curve_ == curve


def test_from_mlp_works_in_a_subclass(table):
    class Own(DeepBinaryClassifier):
        pass

    assert type(Own.from_mlp(mlp().fit(*table))) is Own


def test_from_mlp_result_can_be_cloned_shown_and_pickled(table):
    import pickle

    X, y = table
    ours = DeepBinaryClassifier.from_mlp(mlp().fit(X, y))
    assert not hasattr(clone(ours), "params_")
    assert "DeepBinaryClassifier" in ours._repr_html_()
    loaded = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(loaded.predict_proba(X), ours.predict_proba(X))
    np.testing.assert_array_equal(loaded.partial_fit(X, y).params_, ours.partial_fit(X, y).params_)


@pytest.mark.parametrize("refused", [MLPRegressor(), StandardScaler(), None, MLPClassifier])
def test_from_mlp_refuses_other_estimators(refused):
    with pytest.raises(TypeError, match="MLPClassifier"):
        DeepBinaryClassifier.from_mlp(refused)


def test_from_mlp_refuses_what_it_cannot_take_over(table):
    from sklearn.exceptions import NotFittedError

    X, y = table
    with pytest.raises(NotFittedError):
        DeepBinaryClassifier.from_mlp(mlp())
    with pytest.raises(ValueError, match="Only binary"):
        DeepBinaryClassifier.from_mlp(mlp().fit(X, np.arange(len(y)) % 3))
    with pytest.raises(ValueError, match="Only binary"):
        DeepBinaryClassifier.from_mlp(mlp().fit(X, np.column_stack([y, 1 - y])))


def test_from_mlp_of_one_class_is_refused(table):
    """MLPClassifier fits a table of one class, with one output; it is no classifier of two."""
    X, _ = table
    peer = mlp().fit(X, np.ones(len(X), dtype=int))
    with pytest.raises(ValueError, match="class"):
        DeepBinaryClassifier.from_mlp(peer)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_goes_on_from_mlp(solver, early_stopping):
    X, y = make_table(200)
    peer = mlp(solver=solver, early_stopping=early_stopping, max_iter=10).fit(X, y)

    def loss(model):
        return -np.log(model.predict_proba(X)[np.arange(len(y)), y]).mean()

    before = loss(peer)
    warm = DeepBinaryClassifier.from_mlp(peer).set_params(warm_start=True, max_iter=30)
    after = loss(warm.fit(X, y))
    # "lbfgs" knows no early stopping there: here the first weights may remain the best.
    assert after < before or (solver == "lbfgs" and early_stopping and after < before + 1e-12)
    if solver != "lbfgs":
        streamed = DeepBinaryClassifier.from_mlp(peer)
        for _ in range(30):
            streamed.partial_fit(X, y)
        assert loss(streamed) < before
        assert streamed.t_ == peer.t_ + 30 * len(y)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.9, "nesterovs_momentum": True},
        {"momentum": 0.7, "nesterovs_momentum": False},
        {"momentum": 0.0},
        {"learning_rate": "invscaling", "power_t": 0.3},
    ],
    ids=str,
)
def test_next_step_of_sgd_is_its_own(table, settings, activation):
    X, y = table
    peer = mlp(
        solver="sgd",
        learning_rate_init=0.1,
        alpha=0.5,
        shuffle=False,
        batch_size=len(y),
        activation=activation,
        **settings,
    ).fit(X, y)
    ours = DeepBinaryClassifier.from_mlp(peer)
    for _ in range(3):
        before = [array.copy() for array in arrays_of(peer)]
        ours.partial_fit(X, y)
        peer.partial_fit(X, y)
        assert_same_network(ours, peer, rtol=0, atol=1e-10)
        assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(before, arrays_of(peer), strict=True))


@pytest.mark.parametrize("settings", [{}, {"beta_1": 0.6, "beta_2": 0.9}], ids=str)
@pytest.mark.parametrize("max_iter", [1, 30])
def test_next_step_of_adam_is_nearly_its_own(table, settings, max_iter):
    """They add epsilon before they correct the second moment, we afterwards."""
    X, y = table
    peer = mlp(
        alpha=0.5,
        activation="tanh",
        shuffle=False,
        batch_size=len(y),
        max_iter=max_iter,
        **settings,
    ).fit(X, y)
    ours = DeepBinaryClassifier.from_mlp(peer)
    for _ in range(3):
        before = peer.coefs_[0].copy()
        ours.partial_fit(X, y)
        peer.partial_fit(X, y)
        assert_same_network(ours, peer, rtol=0, atol=3e-6)
        assert np.abs(before - peer.coefs_[0]).max() > 1e-4


# scikit-learn's own tests.

THEIRS = "sklearn.neural_network.tests.test_mlp"

DO_NOT_APPLY = {
    # other tasks
    "test_lbfgs_regression": "regression",
    "test_lbfgs_regression_maxfun": "regression",
    "test_multioutput_regression": "regression",
    "test_partial_fit_regression": "regression",
    "test_nonfinite_params": "regression",
    "test_shuffle": "regression",
    "test_mlp_regressor_dtypes_casting": "regression",
    "test_mlp_loading_from_joblib_partial_fit": "regression",
    "test_mlp_diverging_loss": "regression",
    "test_mlp_sample_weight_with_early_stopping": "regression",
    "test_mlp_vs_poisson_glm_equivalent": "regression",
    "test_minimum_input_sample_size": "regression",
    "test_multilabel_classification": "many labels",
    "test_predict_proba_multilabel": "many labels",
    "test_predict_proba_multiclass": "many classes",
    "test_partial_fit_unseen_classes": "many classes",
    "test_mlp_early_stopping_string_labels": "many classes",
    "test_warm_start": "many classes",
    "test_warm_start_full_iteration": "many classes",
    "test_mlp_warm_start_with_early_stopping": "many classes",
    "test_mlp_warm_start_no_convergence": "many classes",
    # private attributes
    "test_fit": "sets up a network by private attributes",
    "test_gradient": "calls _loss_grad_lbfgs",
    "test_learning_rate_warmstart": "reads _optimizer",
    "test_adaptive_learning_rate": "reads _optimizer",
    "test_n_iter_no_change": "reads _no_improvement_count",
    "test_n_iter_no_change_inf": "reads _no_improvement_count",
    # on purpose
    "test_verbose_sgd": "takes verbose=10 for True; we print every tenth epoch then",
    "test_early_stopping_stratified": "refuses a class of one row, which we train on",
    "test_preserve_feature_names": "fits a table of one class, which we refuse",
    "test_mlp_partial_fit_after_fit": "refuses partial_fit under early_stopping, which we ignore",
}
"""Tests that cannot hold for a binary classifier that is another class, each with its reason."""


def in_its_place(*args, **parameters):
    """Return our estimator with MLPClassifier's defaults, and its parameters from then on."""
    return like(MLPClassifier(*args, **parameters))


def load_their_tests():
    module = importlib.import_module(THEIRS)
    return {
        name: value
        for name, value in vars(module).items()
        if name.startswith("test_") and callable(value)
    }


def cases_of(test):
    """Return the keyword arguments of each case that is about a binary classifier."""
    cases = [{}]
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names, values = mark.args
            names = names.replace(" ", "").split(",") if isinstance(names, str) else names
            rows = [value if len(names) > 1 else (value,) for value in values]
            added = [dict(zip(names, row, strict=True)) for row in rows]
            cases = [{**case, **more} for case in cases for more in added]
    return [case for case in cases if is_binary(case)]


def is_binary(case):
    if any(value is MLPRegressor for value in case.values()):
        return False
    return "y" not in case or len(np.unique(case["y"])) == 2


def test_list_of_tests_that_do_not_apply_is_true_to_their_file():
    pytest.importorskip(THEIRS)
    unknown = set(DO_NOT_APPLY) - set(load_their_tests())
    # Tests come and go with releases; a name that none of them has is a slip.
    assert len(unknown) < 5, unknown


def collect_their_cases():
    try:
        tests = load_their_tests()
    except ImportError:  # a scikit-learn without its tests
        return []
    return [
        pytest.param(name, case, id=f"{name[5:]}-{i}")
        for name, test in tests.items()
        if name not in DO_NOT_APPLY
        for i, case in enumerate(cases_of(test))
    ]


@pytest.mark.parametrize(("name", "case"), collect_their_cases())
def test_passes_their_test(name, case, monkeypatch, request):
    module = importlib.import_module(THEIRS)
    monkeypatch.setattr(module, "MLPClassifier", in_its_place)
    monkeypatch.setattr(
        module, "classification_datasets", [(module.X_digits_binary, module.y_digits_binary)]
    )
    # Their file trains on four of five rows of each digit; a table of the two digits is ours.
    test = getattr(module, name)
    case = {key: in_its_place if value is MLPClassifier else value for key, value in case.items()}
    fixtures = {
        fixture: request.getfixturevalue(fixture)
        for fixture in inspect.signature(test).parameters
        if fixture not in case
    }
    with warnings.catch_warnings():
        if name not in ("test_lbfgs_classification_maxfun",):
            warnings.simplefilter("ignore", ConvergenceWarning)
        test(**case, **fixtures)
