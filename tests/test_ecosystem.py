"""scikit-learn's pipelines, searches, ensembles and calibrators, with the classifier inside."""

import inspect
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from data import classifier, make_separable, make_table, make_weights, needs
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SelectFromModel, SequentialFeatureSelector
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    check_cv,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import estimator_html_repr

from skdnn import DeepBinaryClassifier


def quick(**parameters):
    """Return a classifier that learns the tables below in a tenth of a second."""
    return classifier(**{"learning_rate_init": 0.05, "max_iter": 10, **parameters})


@pytest.fixture
def table():
    return make_table()


# One estimator among others.


def test_pipeline_scales_before_it_trains(table):
    X, y = table
    X = 1e4 * X + 1e6
    pipeline = make_pipeline(StandardScaler(), quick(max_iter=20)).fit(X, y)
    assert pipeline.score(X, y) > 0.8
    direct = quick(max_iter=20).fit(StandardScaler().fit_transform(X), y)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), direct.predict_proba(StandardScaler().fit_transform(X))
    )
    np.testing.assert_array_equal(pipeline.classes_, [0, 1])
    assert pipeline.n_features_in_ == X.shape[1]


def test_pipeline_hands_on_names_of_columns(table):
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcdef"))
    pipeline = make_pipeline(StandardScaler(), quick()).set_output(transform="pandas")
    pipeline.fit(frame, y)
    assert pipeline[-1].feature_names_in_.tolist() == list("abcdef")
    assert not hasattr(quick(), "transform")


def test_column_transformer_feeds_mixed_tables(table):
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(place=np.take(["sea", "land"], y))
    pipeline = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["place"]), remainder=StandardScaler()), quick()
    )
    assert pipeline.fit(frame, y).score(frame, y) > 0.95


def test_clone_forgets_the_fit_and_keeps_the_parameters(table):
    X, y = table
    estimator = quick(activation=["relu"], class_weight={0: 1.0, 1: 2.0}).fit(X, y)
    twin = clone(estimator)
    assert not hasattr(twin, "params_")
    assert twin.get_params() == estimator.get_params()
    np.testing.assert_array_equal(twin.fit(X, y).params_, estimator.params_)


@pytest.mark.parametrize("is_fitted", [False, True])
def test_pipeline_survives_pickle_and_joblib(table, is_fitted, tmp_path):
    X, y = table
    pipeline = make_pipeline(StandardScaler(), quick())
    if is_fitted:
        pipeline.fit(X, y)
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    for loaded in (pickle.loads(pickle.dumps(pipeline)), joblib.load(tmp_path / "pipeline.joblib")):
        if not is_fitted:
            loaded.fit(X, y)
        expected = clone(pipeline).fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(loaded.predict_proba(X), expected)


def test_html_shows_parameters_before_and_after_fit(table):
    estimator = quick(hidden_layer_sizes=(17, 5))
    for html in (estimator_html_repr(estimator), estimator.fit(*table)._repr_html_()):
        assert "DeepBinaryClassifier" in html
        assert "(17, 5)" in html


def test_repr_shows_what_differs_from_the_defaults():
    text = repr(DeepBinaryClassifier((3,), batch_size=17))
    assert text == "DeepBinaryClassifier(batch_size=17, hidden_layer_sizes=(3,))"


def test_classifier_is_known_as_one():
    assert is_classifier(quick())
    assert isinstance(check_cv(3, [0, 1, 0, 1], classifier=is_classifier(quick())), StratifiedKFold)


# Searches.

GRID = {
    "hidden_layer_sizes": [(), (4,), (6, 3)],
    "solver": ["sgd", "adamw"],
}


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_grid_search_finds_a_network(table, n_jobs):
    search = GridSearchCV(quick(), GRID, cv=2, n_jobs=n_jobs, scoring="neg_log_loss").fit(*table)
    assert len(search.cv_results_["params"]) == 6
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    best = quick(**search.best_params_).fit(*table)
    np.testing.assert_array_equal(search.predict_proba(table[0]), best.predict_proba(table[0]))


def test_grid_search_reaches_into_a_pipeline(table):
    pipeline = make_pipeline(StandardScaler(), quick())
    grid = {
        "deepbinaryclassifier__alpha": [0.01, 1.0],
        "deepbinaryclassifier__activation": ["tanh", ["relu"]],
        "deepbinaryclassifier__dropout": [0.0, [0.2]],
        "deepbinaryclassifier__class_weight": [None, "balanced", {0: 1.0, 1: 2.0}],
    }
    search = GridSearchCV(pipeline, grid, cv=2, scoring="roc_auc").fit(*table)
    assert len(search.cv_results_["params"]) == 24
    assert search.best_score_ > 0.7


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_randomized_search_is_reproducible(table, n_jobs):
    space = {
        "n_members": [1, 2],
        "learning_rate_init": [0.01, 0.05],
        "learning_rate": ["constant", "cosine"],
        "early_stopping": [False, True],
    }
    search = RandomizedSearchCV(quick(), space, n_iter=5, cv=2, n_jobs=n_jobs, random_state=0)
    again = clone(search).set_params(n_jobs=None).fit(*table)
    assert search.fit(*table).best_params_ == again.best_params_
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"]
    )


def test_halving_search_raises_rows(table):
    search = HalvingGridSearchCV(quick(), GRID, cv=2, min_resources=30, random_state=0)
    search.fit(*table)
    assert search.n_resources_ == [30, 90]
    assert search.best_score_ > 0.6


def test_halving_search_raises_epochs(table):
    search = HalvingGridSearchCV(
        quick(),
        {"hidden_layer_sizes": [(), (4,), (8,), (4, 4)]},
        resource="max_iter",
        min_resources=4,
        max_resources=16,
        factor=2,
        cv=2,
        random_state=0,
    ).fit(*table)
    assert search.n_resources_ == [4, 8, 16]
    assert search.best_estimator_.n_iter_ == 16


# Scores, curves, thresholds, probabilities.


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_cross_validate_scores_probabilities_and_decisions(table, n_jobs):
    scoring = ["accuracy", "neg_log_loss", "roc_auc", "neg_brier_score", "average_precision"]
    scores = cross_validate(
        quick(), *table, cv=3, scoring=scoring, n_jobs=n_jobs, return_estimator=True
    )
    assert all(scores[f"test_{name}"].shape == (3,) for name in scoring)
    assert scores["test_roc_auc"].mean() > 0.75
    assert {estimator.n_iter_ for estimator in scores["estimator"]} == {10}


def test_decisions_out_of_fold_are_those_of_the_fold(table):
    X, y = table
    decisions = cross_val_predict(quick(), X, y, cv=2, method="decision_function")
    train, test = next(StratifiedKFold(2).split(X, y))
    expected = quick().fit(X[train], y[train]).decision_function(X[test])
    np.testing.assert_array_equal(decisions[test], expected)


@pytest.mark.parametrize("exploit_incremental_learning", [False, True])
def test_learning_curve_rises_with_rows(table, exploit_incremental_learning):
    X, y = make_separable()
    _, train_scores, _ = learning_curve(
        quick(learning_rate_init=0.1),
        X,
        y,
        cv=2,
        train_sizes=[20, 60],
        exploit_incremental_learning=exploit_incremental_learning,
    )
    assert train_scores.shape == (2, 2)
    assert train_scores.mean() > 0.9


METHODS = ["sigmoid", "isotonic"]
if "temperature" in (inspect.getdoc(CalibratedClassifierCV) or ""):
    METHODS.append("temperature")


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_calibration_tempers_an_overfitted_network(method, ensemble):
    X, y = make_table(600)
    overfitted = quick(hidden_layer_sizes=(64,), max_iter=80, alpha=0.0)
    calibrated = CalibratedClassifierCV(overfitted, method=method, cv=2, ensemble=ensemble)
    raw_loss = log_loss(y[300:], clone(overfitted).fit(X[:300], y[:300]).predict_proba(X[300:]))
    probability = calibrated.fit(X[:300], y[:300]).predict_proba(X[300:])
    np.testing.assert_allclose(probability.sum(axis=1), 1.0)
    if method != "isotonic":  # which may be sure, and wrong
        assert log_loss(y[300:], probability) < raw_loss


@pytest.mark.parametrize("response_method", ["predict_proba", "decision_function"])
def test_threshold_is_tuned_for_a_rare_class(response_method):
    X, y = make_table(300)
    keep = (y == 0) | (np.arange(300) % 5 == 0)
    X, y = X[keep], y[keep]
    tuned = TunedThresholdClassifierCV(
        quick(), scoring="balanced_accuracy", response_method=response_method, cv=3, random_state=0
    ).fit(X, y)
    plain = quick().fit(X, y)
    assert tuned.predict(X).sum() > plain.predict(X).sum()
    middle = 0.5 if response_method == "predict_proba" else 0.0
    assert tuned.best_threshold_ < middle


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_permutation_importance_finds_the_informative_column(n_jobs):
    X = np.random.default_rng(0).normal(size=(150, 4))
    estimator = quick(max_iter=20).fit(X, X[:, 2] > 0)
    importance = permutation_importance(
        estimator, X, X[:, 2] > 0, n_repeats=3, n_jobs=n_jobs, random_state=0
    )
    assert importance.importances_mean.argmax() == 2
    assert importance.importances_mean[2] > 0.3


def test_partial_dependence_follows_the_column():
    X = np.random.default_rng(0).normal(size=(150, 3))
    estimator = quick(max_iter=20).fit(X, X[:, 1] > 0)
    curve = partial_dependence(estimator, X, [1], grid_resolution=5)["average"][0]
    assert (np.diff(curve) > 0).all()


def test_feature_selection_by_score_finds_the_informative_column():
    X = np.random.default_rng(0).normal(size=(120, 4))
    selector = SequentialFeatureSelector(quick(), n_features_to_select=1, cv=2)
    assert selector.fit(X, X[:, 3] > 0).get_support().tolist() == [False, False, False, True]


def test_features_are_selected_by_importances_and_not_by_coefficients(table):
    # A deep network has no weight for a feature; it must not pretend to.
    X, _ = table
    selector = SelectFromModel(quick()).fit(*table)
    assert not hasattr(selector.estimator_, "coef_")
    assert 0 < selector.transform(X).shape[1] < X.shape[1]


# Ensembles.


def test_stacking_learns_from_members(table):
    X, y = table
    stack = StackingClassifier(
        [("network", quick()), ("line", LogisticRegression())],
        final_estimator=quick(hidden_layer_sizes=()),
        cv=2,
    ).fit(X, np.take(["no", "yes"], y))
    assert stack.score(X, np.take(["no", "yes"], y)) > 0.75
    assert stack.transform(X).shape == (len(X), 2)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_bagging_averages_networks(table, n_jobs):
    X, y = table
    bag = BaggingClassifier(quick(), n_estimators=3, n_jobs=n_jobs, random_state=0)
    probability = bag.fit(X, y).predict_proba(X)
    mean = np.mean([estimator.predict_proba(X) for estimator in bag.estimators_], axis=0)
    np.testing.assert_allclose(probability, mean, rtol=1e-12)
    seeds = {estimator.random_state for estimator in bag.estimators_}
    assert len(seeds) == 3


def test_adaboost_reweights_rows(table):
    X, y = table
    boosted = AdaBoostClassifier(quick(hidden_layer_sizes=(2,)), n_estimators=4, random_state=0)
    boosted.fit(X, y)
    assert len(boosted.estimators_) > 1
    assert boosted.score(X, y) > 0.75


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_voting_counts_networks(table, voting):
    X, y = table
    members = [(f"network {i}", quick(random_state=i)) for i in range(3)]
    vote = VotingClassifier(members, voting=voting).fit(X, y)
    if voting == "soft":
        mean = np.mean([network.predict_proba(X) for network in vote.estimators_], axis=0)
        np.testing.assert_allclose(vote.predict_proba(X), mean, rtol=1e-12)
    else:
        count = np.sum([network.predict(X) for network in vote.estimators_], axis=0)
        np.testing.assert_array_equal(vote.predict(X), count >= 2)


def test_one_versus_rest_makes_it_a_classifier_of_many(table):
    X, _ = table
    y = np.digitize(X[:, 0], np.quantile(X[:, 0], [1 / 3, 2 / 3]))
    many = OneVsRestClassifier(quick(max_iter=30)).fit(X, y)
    assert many.score(X, y) > 0.8


# Metadata routing.


@needs("scikit-learn>=1.8", "pipelines that route the metadata of scores")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_sample_weight_is_routed_through_search_and_pipeline(table, n_jobs):
    X, y = table
    weights = make_weights(len(y)) + 0.5
    with config_context(enable_metadata_routing=True):
        network = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, network)
        grid = {"deepbinaryclassifier__alpha": [0.0, 1.0]}
        search = GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs)
        search.fit(X, y, sample_weight=weights)
    alpha = search.best_params_["deepbinaryclassifier__alpha"]
    scaled = StandardScaler().fit(X, sample_weight=weights).transform(X)
    expected = quick(alpha=alpha).fit(scaled, y, sample_weight=weights)
    np.testing.assert_array_equal(search.best_estimator_[-1].params_, expected.params_)
    folds = StratifiedKFold(2).split(X, y)
    scores = []
    for train, test in folds:
        scaler = StandardScaler().fit(X[train], sample_weight=weights[train])
        network = quick(alpha=alpha).fit(scaler.transform(X[train]), y[train], weights[train])
        scores.append(network.score(scaler.transform(X[test]), y[test], weights[test]))
    assert search.best_score_ == pytest.approx(np.mean(scores))


def test_sample_weight_that_nobody_asked_for_is_an_error(table):
    X, y = table
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(quick(), {"alpha": [0.0]}, cv=2)
        with pytest.raises(ValueError, match="sample_weight"):
            search.fit(X, y, sample_weight=np.ones(len(y)))


def test_classes_and_weights_of_partial_fit_can_be_requested():
    with config_context(enable_metadata_routing=True):
        network = quick().set_partial_fit_request(classes=True, sample_weight=True)
        requests = network.get_metadata_routing().partial_fit.requests
    assert requests == {"classes": True, "sample_weight": True}
