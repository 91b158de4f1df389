"""Metadata routing: weights and validation rows on their way through scikit-learn's estimators."""

import numpy as np
import pytest
from data import classifier, make_table, make_weights, needs
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_validate,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.metadata_routing import get_routing_for_object


@pytest.fixture(autouse=True)
def routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def table():
    """Rows, labels and weights; the last third is for validation."""
    X, y = make_table(150)
    return X, y, make_weights(150) + 0.5


CV = StratifiedKFold(3)

routed_scores = needs("scikit-learn>=1.8", "pipelines that route the metadata of scores")
temperature = pytest.param("temperature", marks=needs("scikit-learn>=1.8", "temperatures"))


def folds(table, **parameters):
    """Yield for each fold a classifier trained on it by hand, and what it was not trained on."""
    X, y, weights = table
    for training, test in CV.split(X, y):
        model = classifier(**parameters).fit(X[training], y[training], weights[training])
        yield model, X[test], y[test], weights[test]


def weighted_accuracy(model, X, y, weights):
    return np.average(model.predict(X) == y, weights=weights)


def ask_for_weights(estimator):
    return estimator.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)


# What can be asked for.


def test_everything_that_fit_takes_can_be_asked_for():
    request = get_routing_for_object(classifier())
    assert set(request.fit.requests) == {
        "sample_weight",
        "X_val",
        "y_val",
        "sample_weight_val",
        "groups",
    }
    assert set(request.partial_fit.requests) == {"classes", "sample_weight"}
    assert set(request.score.requests) == {"sample_weight"}
    assert set(request.predict.requests) == set()
    assert set(request.decision_function.requests) == set()


def test_requests_are_refused_without_routing():
    with (
        config_context(enable_metadata_routing=False),
        pytest.raises(RuntimeError, match="enable_metadata_routing"),
    ):
        classifier().set_fit_request(X_val=True)


def test_requests_survive_clone():
    estimator = clone(classifier().set_fit_request(X_val=True, sample_weight=False))
    requests = get_routing_for_object(estimator).fit.requests
    assert requests["X_val"] is True
    assert requests["sample_weight"] is False
    assert requests["y_val"] is None


def test_unknown_request_is_refused():
    with pytest.raises(TypeError, match="X_test"):
        classifier().set_fit_request(X_test=True)


# Weights.


def test_weights_go_through_a_pipeline(table):
    X, y, weights = table
    pipeline = make_pipeline(
        StandardScaler().set_fit_request(sample_weight=False), ask_for_weights(classifier())
    )
    pipeline.fit(X, y, sample_weight=weights)
    X = StandardScaler().fit_transform(X)
    by_hand = classifier().fit(X, y, weights)
    np.testing.assert_array_equal(pipeline[-1].params_, by_hand.params_)
    assert not np.array_equal(by_hand.params_, classifier().fit(X, y).params_)
    assert pipeline.score(table[0], y, sample_weight=weights) == pytest.approx(
        weighted_accuracy(by_hand, X, y, weights)
    )


def test_weights_that_the_classifier_does_not_want_stay_outside(table):
    X, y, weights = table
    pipeline = make_pipeline(
        StandardScaler().set_fit_request(sample_weight=True),
        classifier().set_fit_request(sample_weight=False),
    )
    pipeline.fit(X, y, sample_weight=weights)
    X = StandardScaler().fit_transform(X, sample_weight=weights)
    np.testing.assert_array_equal(pipeline[-1].params_, classifier().fit(X, y).params_)


def test_weights_may_have_another_name(table):
    X, y, weights = table
    network = classifier().set_fit_request(sample_weight="importance")
    pipeline = make_pipeline(network).fit(X, y, importance=weights)
    np.testing.assert_array_equal(pipeline[-1].params_, classifier().fit(X, y, weights).params_)


@pytest.mark.parametrize("in_pipeline", [False, pytest.param(True, marks=routed_scores)])
def test_weights_go_through_a_grid_search(table, in_pipeline):
    X, y, weights = table
    estimator, name = ask_for_weights(classifier()), "alpha"
    if in_pipeline:
        estimator, name = make_pipeline(estimator), "deepbinaryclassifier__alpha"
    search = GridSearchCV(estimator, {name: [0.0, 5.0]}, cv=CV).fit(X, y, sample_weight=weights)
    for i, alpha in enumerate((0.0, 5.0)):
        scores = [weighted_accuracy(*fold) for fold in folds(table, alpha=alpha)]
        for fold, score in enumerate(scores):
            assert search.cv_results_[f"split{fold}_test_score"][i] == pytest.approx(score)
    best = classifier(alpha=search.best_params_[name]).fit(X, y, weights)
    np.testing.assert_array_equal(search.predict_proba(X), best.predict_proba(X))


def test_weights_go_through_cross_validation(table):
    X, y, weights = table
    result = cross_validate(
        ask_for_weights(classifier()),
        X,
        y,
        cv=CV,
        params={"sample_weight": weights},
        return_estimator=True,
    )
    for model, score, fold in zip(
        result["estimator"], result["test_score"], folds(table), strict=True
    ):
        np.testing.assert_array_equal(model.params_, fold[0].params_)
        assert score == pytest.approx(weighted_accuracy(*fold))


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", temperature])
@pytest.mark.parametrize("ensemble", [False, True])
def test_weights_go_through_calibration(table, method, ensemble):
    X, y, weights = table
    network = classifier().set_fit_request(sample_weight=True)
    model = CalibratedClassifierCV(network, method=method, ensemble=ensemble, cv=CV)
    model.fit(X, y, sample_weight=weights)
    probability = model.predict_proba(X)
    assert ((probability >= 0.0) & (probability <= 1.0)).all()
    trained = [calibrated.estimator for calibrated in model.calibrated_classifiers_]
    expected = [fold[0] for fold in folds(table)] if ensemble else [classifier().fit(*table)]
    assert len(trained) == len(expected)
    for one, other in zip(trained, expected, strict=True):
        np.testing.assert_array_equal(one.params_, other.params_)
    if method == "temperature":  # which takes the logits, and leaves their signs
        assert model.score(X, y) > 0.6


def test_weights_go_through_the_tuning_of_a_threshold(table):
    X, y, weights = table
    network = classifier().set_fit_request(sample_weight=True)
    scorer = make_scorer(balanced_accuracy_score).set_score_request(sample_weight=True)
    model = TunedThresholdClassifierCV(network, scoring=scorer, cv=CV)
    model.fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(model.estimator_.params_, classifier().fit(*table).params_)
    np.testing.assert_array_equal(
        model.predict(X), (model.estimator_.predict_proba(X)[:, 1] >= model.best_threshold_)
    )


# Validation rows.


def with_validation(table):
    X, y, weights = table
    rows = {"X": X[:100], "y": y[:100]}
    return rows, {"X_val": X[100:], "y_val": y[100:]}, weights


def stopping(**parameters):
    return classifier(early_stopping="auto", **parameters)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("scoring", ["loss", "roc_auc"])
def test_validation_rows_go_through_a_pipeline(table, is_weighted, scoring):
    rows, given, weights = with_validation(table)
    if is_weighted:
        given |= {"sample_weight": weights[:100], "sample_weight_val": weights[100:]}
    network = stopping(scoring=scoring).set_fit_request(**dict.fromkeys(given, True))
    scaler = StandardScaler()
    if is_weighted:
        scaler.set_fit_request(sample_weight=False)
    pipeline = Pipeline([("scale", scaler), ("network", network)], transform_input=["X_val"])
    pipeline.fit(**rows, **given)
    scaler = StandardScaler().fit(rows["X"])
    given["X_val"] = scaler.transform(given["X_val"])
    by_hand = stopping(scoring=scoring).fit(scaler.transform(rows["X"]), rows["y"], **given)
    np.testing.assert_array_equal(pipeline[-1].params_, by_hand.params_)
    assert pipeline[-1].validation_scores_ == by_hand.validation_scores_


def test_validation_rows_are_not_transformed_unless_asked(table):
    rows, given, _ = with_validation(table)
    network = stopping().set_fit_request(X_val=True, y_val=True)
    rows["X"] = 100.0 * rows["X"]
    pipeline = make_pipeline(StandardScaler(), network).fit(**rows, **given)
    by_hand = stopping().fit(StandardScaler().fit_transform(rows["X"]), rows["y"], **given)
    assert pipeline[-1].validation_scores_ == by_hand.validation_scores_


def test_validation_rows_go_through_a_grid_search(table):
    rows, given, _ = with_validation(table)
    network = stopping().set_fit_request(X_val=True, y_val=True)
    search = GridSearchCV(network, {"alpha": [0.0, 1.0]}, cv=2).fit(**rows, **given)
    by_hand = stopping(**search.best_params_).fit(**rows, **given)
    np.testing.assert_array_equal(search.best_estimator_.params_, by_hand.params_)


def test_groups_go_to_the_splitter_and_to_the_network(table):
    X, y, _ = table
    group = np.arange(150) // 5
    network = classifier(n_members=2, early_stopping="auto").set_fit_request(groups=True)
    [training, _], *_ = GroupKFold(3).split(X, y, group)
    by_hand = clone(network).fit(X[training], y[training], groups=group[training])
    fitted = cross_validate(
        network, X, y, cv=GroupKFold(3), params={"groups": group}, return_estimator=True
    )["estimator"]
    np.testing.assert_array_equal(fitted[0].params_, by_hand.params_)


def test_classes_and_weights_go_to_partial_fit(table):
    X, y, weights = table
    network = classifier().set_partial_fit_request(classes=True, sample_weight=True)
    requests = get_routing_for_object(network).partial_fit.requests
    assert requests == {"classes": True, "sample_weight": True}
    assert network.partial_fit(X, y, classes=[0, 1], sample_weight=weights).t_ == 150


# What nobody has asked for.


@pytest.mark.parametrize("name", ["sample_weight", "X_val", "sample_weight_val"], ids=str)
def test_metadata_that_nobody_asked_for_are_an_error(table, name):
    rows, given, weights = with_validation(table)
    given |= {"sample_weight": weights[:100], "sample_weight_val": weights[100:]}
    pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), stopping())
    with pytest.raises(UnsetMetadataPassedError, match=name):
        pipeline.fit(**rows, **{name: given[name]})
    assert not hasattr(pipeline[-1], "params_")


def test_weights_of_a_search_that_nobody_asked_for_are_an_error(table):
    X, y, weights = table
    for estimator in (classifier(), classifier().set_fit_request(sample_weight=True)):
        search = GridSearchCV(estimator, {"alpha": [0.0]}, cv=2)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            search.fit(X, y, sample_weight=weights)
    for model in (
        CalibratedClassifierCV(classifier(), cv=2),
        TunedThresholdClassifierCV(classifier(), cv=2),
    ):
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            model.fit(X, y, sample_weight=weights)
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        cross_validate(classifier(), X, y, cv=2, params={"sample_weight": weights})


def test_routing_changes_nothing_for_the_estimator_itself(table):
    rows, given, weights = with_validation(table)
    inside = stopping().fit(**rows, **given, sample_weight=weights[:100])
    with config_context(enable_metadata_routing=False):
        outside = stopping().fit(**rows, **given, sample_weight=weights[:100])
    np.testing.assert_array_equal(inside.params_, outside.params_)


@pytest.mark.parametrize("scoring", ["accuracy", "roc_auc", None])
def test_scores_of_weighted_validation_rows_need_no_request(table, scoring):
    """The scorer of early stopping is the estimator's own: it always gets the weights."""
    rows, given, weights = with_validation(table)
    given["sample_weight_val"] = weights[100:]
    inside = stopping(scoring=scoring).fit(**rows, **given)
    with config_context(enable_metadata_routing=False):
        outside = stopping(scoring=scoring).fit(**rows, **given)
    assert inside.validation_scores_ == outside.validation_scores_
