"""`DeepBinaryClassifierCV`: a pool of candidates, weighted by their logits out of fold."""

import inspect
import pickle
import signal
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import skops.io
from data import Untrainable, make_table
from numpydoc.docscrape import ClassDoc
from scipy.special import expit
from sklearn import config_context
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdnn import DeepBinaryClassifier, DeepBinaryClassifierCV, TabularEncoder, classifier_cv

CV_PARAMETERS = DeepBinaryClassifierCV().get_params()
QUICK = {"n_members": 5, "max_iter": 3, "n_jobs": 1}


def make_pool(n_candidates=3, **parameters):
    """Return a pool of small networks that train for three epochs."""
    own = {name: parameters.pop(name) for name in list(parameters) if name not in CV_PARAMETERS}
    base = DeepBinaryClassifier((8,), **QUICK | own)
    return DeepBinaryClassifierCV(base, n_candidates=n_candidates, random_state=0, **parameters)


# The pool.


def test_first_candidate_is_the_estimator_itself():
    X, y = make_table()
    pool = make_pool(1).fit(X, y)
    alone = DeepBinaryClassifier((8,), random_state=0, **QUICK).fit(X, y)
    assert (pool.decision_function(X) == alone.decision_function(X)).all()
    assert (pool.oof_decision_function_ == alone.oof_decision_function_).all()
    assert pool.weights_.tolist() == [1.0]
    assert pool.pool_["params"] == [{}]


def test_candidates_are_the_same_in_a_larger_pool():
    X, y = make_table()
    small, large = make_pool(2).fit(X, y).pool_, make_pool(4).fit(X, y).pool_
    assert large["params"][:2] == small["params"]
    assert (large["log_loss"][:2] == small["log_loss"]).all()
    assert len({str(params) for params in large["params"]}) == 4


def test_every_other_candidate_draws_the_parameters_left_at_their_defaults():
    X, y = make_table()
    pool = make_pool(4, dropout=0.1, activation="tanh").fit(X, y)
    seed = {"random_state"}
    drawn = seed | {"residual", "numeric_embedding", "weight_decay", "learning_rate_init"}
    assert [set(params) for params in pool.pool_["params"]] == [set(), drawn, seed, drawn]
    for estimator in pool.estimators_:
        assert estimator.hidden_layer_sizes == (8,)
        assert (estimator.dropout, estimator.activation) == (0.1, "tanh")


def test_pool_is_a_table_that_says_what_predicts():
    X, y = make_table()
    model = make_pool(3).fit(X, y)
    pool = pd.DataFrame(model.pool_)
    assert list(pool) == ["estimator", "params", "log_loss", "weight", "fit_time"]
    assert pool["weight"].sum() == pytest.approx(1.0)
    assert (pool["fit_time"] > 0).all()
    kept = pool[pool["weight"] > 0]
    assert len(kept) == len(model.estimators_)
    assert kept["weight"].tolist() == model.weights_.tolist()
    logit = sum(
        w * e.decision_function(X) for w, e in zip(model.weights_, model.estimators_, strict=True)
    )
    np.testing.assert_allclose(model.decision_function(X), logit)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], expit(logit))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))
    assert (model.predict(X) == model.classes_[(logit > 0).astype(int)]).all()
    blend = log_loss(y, expit(model.oof_decision_function_))
    assert blend < pool["log_loss"].max()


def test_copies_of_a_row_flatter_no_boosted_trees():
    """They are held out together, and say nothing of labels without sense."""
    X, y = make_table()
    y = np.random.default_rng(0).permutation(y)
    index = np.repeat(np.arange(len(y)), 6)
    pool = make_pool(1, blend_boosting=True).fit(X[index], y[index]).pool_
    assert pool["log_loss"][1] > np.log(2.0)
    assert pool["weight"].tolist() == [1.0, 0.0]


def test_weights_are_those_of_ensemble_selection():
    rng = np.random.default_rng(0)
    is_second = rng.random(20_000) < 0.5
    signal = np.where(is_second, 1.0, -1.0)
    good = signal * 2.0 + rng.normal(0.0, 2.0, (2, 20_000))
    bad = rng.normal(0.0, 2.0, (1, 20_000))
    logits, weight = np.concatenate([good, bad]), np.ones(20_000)
    found = classifier_cv.select_weights(logits, is_second, weight)
    assert found.sum() == pytest.approx(1.0)
    assert found[2] == 0.0
    assert found[:2] == pytest.approx([0.5, 0.5], abs=0.05)
    clearly_worse = classifier_cv.select_weights(logits[:, :300], is_second[:300], weight[:300])
    assert clearly_worse[2] == 0.0
    few = classifier_cv.select_weights(logits[:, :10], is_second[:10], weight[:10])
    assert few == pytest.approx(np.full(3, 1 / 3), abs=0.03)


def test_weights_ignore_the_unit_of_sample_weight_and_count_copies_once():
    rng = np.random.default_rng(0)
    is_second = rng.random(300) < 0.5
    logits = np.where(is_second, 1.0, -1.0) + rng.normal(0.0, 2.0, (4, 300))
    counts = rng.integers(0, 4, 300)
    by_weight = classifier_cv.select_weights(logits, is_second, counts * 1.0)
    in_tons = classifier_cv.select_weights(logits, is_second, counts * 1e-6)
    place = np.repeat(np.arange(300), counts)
    repeated = classifier_cv.select_weights(logits[:, place], is_second[place], np.ones(len(place)))
    assert by_weight == pytest.approx(in_tons)
    assert by_weight == pytest.approx(repeated)


def test_rows_that_were_never_held_out_do_not_count():
    logits = np.array([[1.0, np.nan, -9.0, 2.0], [2.0, -9.0, np.nan, 1.0]])
    is_second, weight = np.array([True, True, True, True]), np.ones(4)
    found = classifier_cv.select_weights(logits, is_second, weight)
    assert found == pytest.approx([0.5, 0.5], abs=0.02)
    unknown = np.full((2, 4), np.nan)
    assert classifier_cv.select_weights(unknown, is_second, weight).tolist() == [0.5, 0.5]


# Budgets.


def test_time_limits_the_pool():
    X, y = make_table(400)
    model = make_pool(None, max_time=0.5, max_iter=5).fit(X, y)
    assert len(model.estimators_) >= 1
    assert model.pool_["fit_time"].sum() < 10.0
    with pytest.warns(ConvergenceWarning, match="max_time"):  # of the first candidate
        model = make_pool(None, max_time=1e-4, max_iter=1000).fit(X, y)
    assert len(model.pool_["weight"]) == 1
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.usefixtures("handles_ctrl_c")
def test_ctrl_c_keeps_the_candidates_before_it(monkeypatch):
    X, y = make_table()
    fit = classifier_cv.fit_network
    numbers = []

    def interrupt_the_third(base, params, table, end):
        numbers.append(params)
        if len(numbers) == 3:
            params = params | {"activation": Interrupting()}
        return fit(base, params, table, end)

    class Interrupting:
        """A tanh at whose first value in training the user presses Ctrl-C."""

        def __init__(self):
            self.is_new = True

        def value(self, z):
            if self.is_new:
                self.is_new = False
                signal.raise_signal(signal.SIGINT)
            return np.tanh(z)

        def derivative(self, z):
            return 1.0 - np.tanh(z) ** 2

    monkeypatch.setattr(classifier_cv, "fit_network", interrupt_the_third)
    with pytest.warns(ConvergenceWarning, match="interrupted in candidate 2"):
        model = make_pool(5).fit(X, y)
    assert len(model.pool_["weight"]) == 2
    assert len(numbers) == 3


# What it takes.


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_frames_with_categories_and_labels_of_strings(make):
    X, y = make_table(150)
    columns = {f"x{j}": X[:, j] for j in range(6)} | {"k": np.where(X[:, 0] > 0, "a", "b")}
    table, labels = make(columns), np.where(y == 1, "yes", "no")
    model = make_pool(2, blend_boosting=True).fit(table, labels)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.feature_names_in_.tolist() == list(columns)
    assert model.n_features_in_ == 7
    assert set(model.predict(table)) == {"no", "yes"}
    assert model.pool_["estimator"].tolist() == [
        "DeepBinaryClassifier",
        "HistGradientBoostingClassifier",
        "DeepBinaryClassifier",
    ]


def test_weights_of_rows_and_classes_reach_candidates_and_selection():
    X, y = make_table()
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    heavy = np.where(y == 1, 3.0, 1.0)
    ones = make_pool(2, encoder=None, class_weight={0: 1.0, 1: 3.0}).fit(X, y, weight)
    others = make_pool(2, encoder=None).fit(X, y, weight * heavy)
    np.testing.assert_allclose(ones.decision_function(X), others.decision_function(X), rtol=1e-4)
    np.testing.assert_allclose(ones.pool_["log_loss"], others.pool_["log_loss"], rtol=1e-4)
    plain = make_pool(2, encoder=None).fit(X, y)
    assert np.abs(plain.decision_function(X) - others.decision_function(X)).max() > 0.01


def test_groups_are_held_out_together_by_networks_and_trees():
    """Labels that follow the group cannot be learned from other groups."""
    rng = np.random.default_rng(0)
    group = np.arange(200) // 10
    y = (np.arange(20) % 2)[group]
    X = rng.normal(size=(20, 2))[group] + rng.normal(0.0, 1e-3, (200, 2))
    pool = make_pool(1, max_iter=20, blend_boosting=True)
    apart = pool.fit(X, y, groups=[f"g{g}" for g in group]).pool_
    mixed = pool.fit(X, y).pool_
    assert (mixed["log_loss"] < 0.9 * apart["log_loss"]).all()


def test_sparse_tables_and_tables_without_encoder():
    X, y = make_table()
    matrix = sp.csr_array(np.where(np.abs(X) < 1.0, 0.0, X))
    model = make_pool(2).fit(matrix, y)
    assert np.isfinite(model.predict_proba(matrix)).all()
    model = make_pool(2, encoder=None, blend_boosting=True).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()


def test_blend_has_boosted_trees_where_they_are_better():
    """Parity of signs of many numbers is hard for three epochs, and a threshold easy for trees."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(800, 3))
    y = (np.floor(8 * X[:, 0]) % 2).astype(int)
    model = make_pool(1, blend_boosting=True).fit(X, y)
    assert model.pool_["weight"][1] > 0.5
    boosting = model.estimators_[-1][-1]
    assert isinstance(boosting, HistGradientBoostingClassifier)
    assert (model.predict(X) == y).mean() > 0.8


def test_blend_knows_categories_as_such():
    rng = np.random.default_rng(0)
    level = (np.arange(900) % 300).astype(str)
    table = pd.DataFrame({"number": rng.normal(size=900), "level": level})
    model = make_pool(1, blend_boosting=True).fit(table, rng.integers(0, 2, 900))
    encoder, boosting = model.estimators_[-1]
    assert boosting.is_categorical_.tolist() == [False, True]
    assert encoder.code_sizes_ == (255,)


# What it refuses, before it trains.


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"n_members": 1}, "n_members=1"),
        ({"solver": "lbfgs"}, "solver='lbfgs'"),
        ({"early_stopping": False}, "early_stopping=False"),
        ({"n_members": "auto", "max_fun": 100}, "max_fun=100"),
        ({"n_candidates": None}, "n_candidates=None needs max_time"),
        ({"n_candidates": 0}, "n_candidates"),
        ({"max_time": 0.0}, "max_time"),
        ({"blend_boosting": "yes"}, "blend_boosting"),
        ({"blend_boosting": True, "encoder": StandardScaler()}, "blend_boosting=True takes"),
        ({"blend_boosting": True, "encoder": FrozenEstimator(TabularEncoder())}, "blend_boosting"),
    ],
    ids=str,
)
def test_parameters_that_cannot_be_used_are_named(parameters, words):
    X, y = make_table(40)
    with pytest.raises(ValueError, match=words):
        make_pool(activation=Untrainable(), **{"n_candidates": 3, **parameters}).fit(X, y)


def test_other_estimators_and_sparse_tables_for_trees_are_refused():
    X, y = make_table(40)
    with pytest.raises(ValueError, match="'estimator' parameter"):
        DeepBinaryClassifierCV(HistGradientBoostingClassifier()).fit(X, y)
    with pytest.raises(ValueError, match="not sparse"):
        make_pool(activation=Untrainable(), blend_boosting=True).fit(sp.csr_array(X), y)


def test_failed_fit_leaves_the_model_as_it_was():
    X, y = make_table()
    model = make_pool(2).fit(X, y)
    before = model.decision_function(X)
    with pytest.raises(ValueError, match="two classes"):
        model.fit(X[:, :3], np.zeros(len(X)))
    assert (model.decision_function(X) == before).all()


# scikit-learn's tools.


def test_clones_pickles_and_files_without_pickle():
    X, y = make_table()
    model = make_pool(2, blend_boosting=True).fit(X, y)
    expected = model.predict_proba(X)
    assert (pickle.loads(pickle.dumps(model)).predict_proba(X) == expected).all()
    assert (clone(model).fit(X, y).predict_proba(X) == expected).all()
    content = skops.io.dumps(model)
    trusted = skops.io.get_untrusted_types(data=content)
    assert (skops.io.loads(content, trusted=trusted).predict_proba(X) == expected).all()


def test_searches_pipelines_and_nested_parameters():
    X, y = make_table()
    pipeline = make_pipeline(StandardScaler(), make_pool(2))
    name = "deepbinaryclassifiercv__estimator__dropout"
    search = GridSearchCV(pipeline, {name: [0.0, 0.5]}, cv=2).fit(X, y)
    assert search.best_params_[name] in (0.0, 0.5)
    assert {e.dropout for e in search.best_estimator_[-1].estimators_} == {
        search.best_params_[name]
    }


@pytest.fixture
def enable_routing():
    with config_context(enable_metadata_routing=True):
        yield


def test_metadata_is_routed_to_fit_and_score(enable_routing):
    X, y = make_table()
    weight, group = np.ones(len(y)), np.arange(len(y)) // 4
    model = make_pool(2).set_fit_request(sample_weight=True, groups=True)
    model.set_score_request(sample_weight=True)
    params = {"sample_weight": weight, "groups": group}
    scores = cross_validate(model, X, y, cv=2, params=params, error_score="raise")
    assert np.isfinite(scores["test_score"]).all()


def test_random_states_repeat():
    X, y = make_table()
    ones = make_pool(2).fit(X, y).decision_function(X)
    assert (make_pool(2).fit(X, y).decision_function(X) == ones).all()
    others = make_pool(2).set_params(random_state=1).fit(X, y).decision_function(X)
    assert (others != ones).any()
    model = make_pool(2).set_params(random_state=np.random.RandomState(0))
    assert (model.fit(X, y).decision_function(X) != model.fit(X, y).decision_function(X)).any()


def test_verbose_prints_a_line_for_each_candidate(capsys):
    X, y = make_table()
    make_pool(3, verbose=True).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["candidate 0", "candidate 1", "candidate 2"]


def test_constant_columns_are_warned_of_once():
    X, y = make_table()
    table = pd.DataFrame(X).add_prefix("x").assign(constant=1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_pool(3, blend_boosting=True).fit(table, y)
    assert len([w for w in caught if "constant" in str(w.message)]) <= 1


def test_docstring_has_parameters_in_order_and_all_attributes():
    doc = ClassDoc(DeepBinaryClassifierCV)
    assert [p.name for p in doc["Parameters"]] == list(
        inspect.signature(DeepBinaryClassifierCV).parameters
    )
    X, y = make_table()
    model = make_pool(1).fit(pd.DataFrame(X).add_prefix("x"), y)
    fitted = {name for name in vars(model) if name.endswith("_")}
    assert fitted == {field.name for field in doc["Attributes"]}
