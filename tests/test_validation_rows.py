"""Early stopping: on rows that the user hands in, or on rows held out, by the loss or a score."""

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
from data import classifier, make_table, make_weights
from sklearn import config_context
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    make_scorer,
    roc_auc_score,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skdnn import DeepBinaryClassifier

N_TRAIN = 90

# Learns quickly, and soon too much: the best epoch is neither the first nor the last.
OVERFITTING = {
    "hidden_layer_sizes": (32,),
    "learning_rate_init": 0.05,
    "batch_size": 8,
    "max_iter": 12,
}


def stopping(**parameters):
    """Return a classifier that takes validation rows, and trains on whatever they say."""
    return classifier(**{"early_stopping": "auto", "max_iter": 4, **parameters})


def make_rows():
    """Return rows to train and to validate on, by the names of `fit`."""
    X, y = make_table(150)
    return {"X": X[:N_TRAIN], "y": y[:N_TRAIN], "X_val": X[N_TRAIN:], "y_val": y[N_TRAIN:]}


@pytest.fixture
def rows():
    return make_rows()


@pytest.fixture(scope="module")
def overfitted():
    """Networks that trained for 1, 2, ... epochs, until they had learned too much."""
    return fit_by_epoch(make_rows(), **OVERFITTING)


def fit_by_epoch(rows, **parameters):
    """Return networks that trained for 1, 2, ... epochs without any validation."""
    n_epochs = parameters["max_iter"]
    models = [classifier(**{**parameters, "max_iter": n + 1}) for n in range(n_epochs)]
    return [model.fit(rows["X"], rows["y"], rows.get("sample_weight")) for model in models]


# Names and refusals, as HistGradientBoostingClassifier has them.


def test_fit_takes_the_names_of_hist_gradient_boosting():
    theirs = inspect.signature(HistGradientBoostingClassifier.fit).parameters
    if "X_val" not in theirs:
        pytest.skip("this scikit-learn's HistGradientBoostingClassifier takes no validation rows")
    ours = inspect.signature(DeepBinaryClassifier.fit).parameters
    assert list(ours) == [*theirs, "groups"]
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["X_val"], "X_val is provided, but y_val was not provided"),
        (["y_val"], "y_val is provided, but X_val was not provided"),
        (["sample_weight_val"], "sample_weight_val is provided, but X_val and y_val were not"),
        (["X_val", "sample_weight_val"], "y_val was not provided"),
    ],
)
@pytest.mark.parametrize("early_stopping", ["auto", True])
def test_validation_rows_and_labels_belong_together(rows, given, words, early_stopping):
    rows["sample_weight_val"] = np.ones(60)
    kept = {name: rows[name] for name in ["X", "y", *given]}
    with pytest.raises(ValueError, match=words):
        stopping(early_stopping=early_stopping).fit(**kept)


def test_validation_rows_without_early_stopping_are_refused(rows):
    with pytest.raises(ValueError, match="early_stopping=False"):
        stopping(early_stopping=False).fit(**rows)


@pytest.mark.parametrize("early_stopping", ["auto", True])
def test_validation_rows_turn_early_stopping_on(rows, early_stopping):
    model = stopping(early_stopping=early_stopping).fit(**rows)
    assert len(model.history_["validation_loss"]) == 4
    assert model.t_ == 4 * N_TRAIN  # none was held out


def test_early_stopping_auto_of_one_network_is_off_without_validation_rows(rows):
    model = stopping().fit(rows["X"], rows["y"])
    assert "validation_loss" not in model.history_
    assert model.t_ == 4 * N_TRAIN
    assert model.resolved_params_["early_stopping"] is False


def test_early_stopping_auto_of_several_members_is_on_without_validation_rows(rows):
    """Each holds out rows of its own; all rows are learned from."""
    model = stopping(n_members=5).fit(rows["X"], rows["y"])
    assert len(model.history_["validation_loss"]) == 4
    assert model.resolved_params_["early_stopping"] is True
    without = stopping(n_members=5, solver="lbfgs", hidden_layer_sizes=(), max_iter=100)
    assert "validation_loss" not in without.fit(rows["X"], rows["y"]).history_


def test_members_hold_nothing_out_where_validation_rows_are_given(rows):
    model = stopping(n_members=5).fit(**rows)
    assert model.t_ == 4 * N_TRAIN
    assert not hasattr(model, "oof_decision_function_")
    alone = stopping().fit(**{**rows, "y_val": 1 - rows["y_val"]})
    assert model.history_["loss"] != alone.history_["loss"]
    np.testing.assert_array_equal(
        model.history_["loss"],
        stopping(n_members=5, early_stopping=False).fit(rows["X"], rows["y"]).history_["loss"],
    )


def change(rows, name, value):
    return {**rows, name: value}


BAD_ROWS = {
    "columns": (lambda r: change(r, "X_val", r["X_val"][:, 1:]), "features"),
    "one column": (lambda r: change(r, "X_val", r["X_val"][:, 0]), "2D"),
    "NaN": (lambda r: change(r, "X_val", np.full_like(r["X_val"], np.nan)), "NaN"),
    "infinity": (lambda r: change(r, "X_val", np.full_like(r["X_val"], np.inf)), "infinity"),
    "lengths": (lambda r: change(r, "y_val", r["y_val"][1:]), "inconsistent"),
    "no rows": (lambda r: {**r, "X_val": r["X_val"][:0], "y_val": r["y_val"][:0]}, "0 sample"),
    "unknown label": (lambda r: change(r, "y_val", r["y_val"] + 1), r"y_val has labels array\(\[2"),
    "labels of another type": (lambda r: change(r, "y_val", r["y_val"].astype(str)), "y_val"),
    "missing label": (
        lambda r: change(r, "y_val", np.where(r["y_val"], None, 0)),
        "missing|None|NaN",
    ),
    "no weight": (lambda r: change(r, "sample_weight_val", np.zeros(60)), "zero"),
    "negative weight": (
        lambda r: change(r, "sample_weight_val", -np.ones(60)),
        "sample_weight_val",
    ),
    "number of weights": (lambda r: change(r, "sample_weight_val", np.ones(3)), "sample_weight"),
}


@pytest.mark.parametrize(("spoil", "words"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_validation_rows_that_cannot_be_used_are_refused(rows, spoil, words):
    model = stopping()
    with pytest.raises(ValueError, match=words):
        model.fit(**spoil(rows))
    assert not hasattr(model, "params_")


@pytest.mark.parametrize("name", ["NaN", "infinity", "one column"])
def test_refusal_names_the_validation_rows(rows, name):
    with pytest.raises(ValueError, match="X_val"):
        stopping().fit(**BAD_ROWS[name][0](rows))


@pytest.mark.parametrize("name", ["infinity", "one column", "columns"])
def test_refusal_by_the_encoder_names_the_validation_rows(rows, name):
    with pytest.raises(ValueError, match="X_val"):
        stopping(encoder="auto").fit(**BAD_ROWS[name][0](rows))


def test_encoder_of_the_training_rows_encodes_the_validation_rows(rows):
    """Missing values too; what stands in the validation rows moves no scale."""
    rows["X"][::7, 2] = np.nan
    rows["X_val"][::5, 2] = np.nan
    model = stopping(encoder="auto").fit(**rows)
    others = {**rows, "X_val": 5.0 * rows["X_val"] + 1.0}
    assert model.history_["loss"] == stopping(encoder="auto").fit(**others).history_["loss"]
    expected = log_loss(rows["y_val"], model.predict_proba(rows["X_val"]).astype(np.float64))
    best = model.best_iter_ - 1
    assert model.history_["validation_loss"][best] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["no weight", "number of weights"])
def test_refusal_names_the_validation_weights(rows, name):
    with pytest.raises(ValueError, match="sample_weight_val"):
        stopping().fit(**BAD_ROWS[name][0](rows))


def test_validation_rows_have_the_names_of_the_columns(rows):
    names = list("abcdef")
    framed = {
        **rows,
        "X": pd.DataFrame(rows["X"], columns=names),
        "X_val": pd.DataFrame(rows["X_val"], columns=names),
    }
    model = stopping().fit(**framed)
    np.testing.assert_array_equal(model.params_, stopping().fit(**rows).params_)
    framed["X_val"] = framed["X_val"][names[::-1]]
    with pytest.raises(ValueError, match="feature names"):
        stopping().fit(**framed)


def test_scores_raise_no_warning_about_names(rows):
    names = list("abcdef")
    rows["X"] = pd.DataFrame(rows["X"], columns=names)
    rows["X_val"] = pd.DataFrame(rows["X_val"], columns=names)
    model = stopping(scoring="roc_auc").fit(**rows)
    assert model.feature_names_in_.tolist() == names


# Equal to an evaluation by hand.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dropout": 0.3},
        {"normalization": "batch"},
        {"ema_decay": 0.8},
        {"solver": "sgd", "learning_rate": "invscaling"},
    ],
    ids=str,
)
def test_validation_loss_is_the_log_loss_of_each_epoch(rows, settings, dtype):
    rows["X"], rows["X_val"] = rows["X"].astype(dtype), rows["X_val"].astype(dtype)
    model = stopping(**settings).fit(**rows)
    by_hand = [
        log_loss(rows["y_val"], network.predict_proba(rows["X_val"])[:, 1].astype(np.float64))
        for network in fit_by_epoch(rows, max_iter=4, **settings)
    ]
    rtol = 1e-10 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(model.history_["validation_loss"], by_hand, rtol=rtol)
    np.testing.assert_allclose(model.validation_scores_, -np.array(by_hand), rtol=rtol)


def test_validation_loss_of_several_members_is_their_mean(rows):
    model = stopping(n_members=3).fit(**rows)
    for epoch, network in enumerate(fit_by_epoch(rows, max_iter=4, n_members=3)):
        alone = [
            log_loss(rows["y_val"], one.predict_proba(rows["X_val"])) for one in members(network)
        ]
        assert model.history_["validation_loss"][epoch] == pytest.approx(np.mean(alone), rel=1e-10)


def members(model):
    """Return each member of a fitted estimator as one of its own."""
    return [model._for_encoded_rows(params[np.newaxis]) for params in model.params_]


def test_validation_rows_are_not_learned_from(rows):
    """Other labels there give the same progress and another verdict."""
    one = stopping().fit(**rows)
    other = stopping().fit(**{**rows, "y_val": 1 - rows["y_val"]})
    np.testing.assert_array_equal(one.history_["loss"], other.history_["loss"])
    assert one.history_["validation_loss"] != other.history_["validation_loss"]


@pytest.mark.parametrize("scoring", ["loss", "neg_log_loss", "accuracy", "roc_auc"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.filterwarnings("ignore:L-BFGS ended")
def test_weight_of_a_validation_row_is_how_often_it_counts(rows, scoring, solver):
    times = make_weights(60)
    weighted = stopping(scoring=scoring, solver=solver).fit(**rows, sample_weight_val=times)
    repeated = {**rows, **{n: rows[n].repeat(times, axis=0) for n in ("X_val", "y_val")}}
    repeated = stopping(scoring=scoring, solver=solver).fit(**repeated)
    for name in {"validation_loss", "validation_score"} & weighted.history_.keys():
        np.testing.assert_allclose(
            weighted.history_[name], repeated.history_[name], rtol=1e-12, atol=1e-13
        )
    assert (
        weighted.history_["validation_loss"] != stopping().fit(**rows).history_["validation_loss"]
    )


@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_equal_validation_weights_are_none(rows, factor):
    one = stopping(scoring="accuracy").fit(**rows)
    other = stopping(scoring="accuracy").fit(**rows, sample_weight_val=np.full(60, factor))
    np.testing.assert_array_equal(one.params_, other.params_)
    assert one.history_["validation_loss"] == other.history_["validation_loss"]


@pytest.mark.parametrize("class_weight", [{0: 1.0, 1: 5.0}, "balanced"], ids=str)
def test_class_weight_applies_to_validation_rows(rows, class_weight):
    """Those of the rows to train on, where it is "balanced"."""
    rows = {**rows, "y": np.where(np.arange(N_TRAIN) < 20, 1 - rows["y"], 0)}
    weights = make_weights(60) + 0.5
    model = stopping(class_weight=class_weight).fit(**rows, sample_weight_val=weights)
    count = np.bincount(rows["y"])
    factors = N_TRAIN / (2 * count) if class_weight == "balanced" else np.array([1.0, 5.0])
    weights = weights * factors[rows["y_val"]]
    for epoch, network in enumerate(fit_by_epoch(rows, max_iter=4, class_weight=class_weight)):
        probability = network.predict_proba(rows["X_val"])
        expected = log_loss(rows["y_val"], probability, sample_weight=weights)
        assert model.history_["validation_loss"][epoch] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("scoring", ["loss", "roc_auc", None])
def test_labels_of_any_kind_give_the_same(rows, scoring):
    named = {**rows, **{n: np.take(["no", "yes"], rows[n]) for n in ("y", "y_val")}}
    one, other = stopping(scoring=scoring).fit(**rows), stopping(scoring=scoring).fit(**named)
    np.testing.assert_array_equal(one.params_, other.params_)
    assert one.validation_scores_ == other.validation_scores_
    assert other.classes_.tolist() == ["no", "yes"]


def test_validation_rows_may_be_of_one_class_and_in_lists(rows):
    model = stopping().fit(
        rows["X"].tolist(), rows["y"].tolist(), X_val=rows["X_val"][:5].tolist(), y_val=[1] * 5
    )
    assert np.isfinite(model.history_["validation_loss"]).all()


def test_held_out_rows_equal_the_same_rows_handed_in(rows):
    """The split takes a stream of random numbers of its own."""
    X, y = rows["X"], rows["y"]
    held_out = []

    def spy(estimator, X, y):
        held_out.append((X, y))
        return 0.0

    stopping(early_stopping=True, scoring=spy).fit(X, y)
    X_val, y_val = held_out[-1]
    is_held_out = (X[:, np.newaxis] == X_val).all(axis=2).any(axis=1)
    assert is_held_out.sum() == len(X_val) == len(y_val)
    one = stopping(alpha=0.0, early_stopping=True).fit(X, y)
    other = stopping(alpha=0.0).fit(X[~is_held_out], y[~is_held_out], X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(one.params_, other.params_)


def test_pipeline_transforms_validation_rows_as_it_transforms_rows(rows):
    with config_context(enable_metadata_routing=True):
        network = stopping().set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
        steps = [("scale", StandardScaler()), ("network", network)]
        pipeline = Pipeline(steps, transform_input=["X_val"])
        weights = make_weights(60) + 1.0
        pipeline.fit(**rows, sample_weight_val=weights)
    scaler = StandardScaler().fit(rows["X"])
    by_hand = stopping().fit(
        scaler.transform(rows["X"]),
        rows["y"],
        X_val=scaler.transform(rows["X_val"]),
        y_val=rows["y_val"],
        sample_weight_val=weights,
    )
    np.testing.assert_array_equal(pipeline[-1].params_, by_hand.params_)
    assert pipeline[-1].history_["validation_loss"] == by_hand.history_["validation_loss"]


def test_warm_start_goes_on_with_the_same_validation_rows(rows):
    long = stopping(max_iter=6, scoring="accuracy", n_members=2).fit(**rows)
    short = stopping(max_iter=3, scoring="accuracy", n_members=2, warm_start=True)
    short.fit(**rows).fit(**rows)
    np.testing.assert_array_equal(short.params_, long.params_)
    assert short.validation_scores_ == long.validation_scores_
    assert short.best_iter_ == long.best_iter_


def test_warm_start_with_other_validation_rows_judges_anew(rows):
    model = stopping(warm_start=True).fit(**rows)
    model.fit(**{**rows, "y_val": 1 - rows["y_val"]})
    assert len(model.history_["validation_loss"]) == 8


# Scores.


def negative_brier(estimator, X, y):
    return -brier_score_loss(y, estimator.predict_proba(X)[:, 1])


SCORES = {
    "roc_auc": lambda y, p, w: roc_auc_score(y, p, sample_weight=w),
    "accuracy": lambda y, p, w: accuracy_score(y, p > 0.5, sample_weight=w),
    "neg_log_loss": lambda y, p, w: -log_loss(y, p, sample_weight=w),
    "neg_brier_score": lambda y, p, w: -brier_score_loss(y, p, sample_weight=w),
    None: lambda y, p, w: accuracy_score(y, p > 0.5, sample_weight=w),
    negative_brier: lambda y, p, w: -brier_score_loss(y, p, sample_weight=w),
    make_scorer(f1_score): lambda y, p, w: f1_score(y, p > 0.5, sample_weight=w),
}
every_score = pytest.mark.parametrize(
    ("scoring", "by_hand"), SCORES.items(), ids=[str(s).split(" at ")[0] for s in SCORES]
)


@every_score
@pytest.mark.parametrize("is_weighted", [False, True], ids=["equal weights", "weights"])
def test_validation_score_is_the_score_of_each_epoch(rows, scoring, by_hand, is_weighted):
    takes_weights = scoring is not negative_brier
    weights = make_weights(60) + 0.5 if is_weighted and takes_weights else None
    model = stopping(scoring=scoring).fit(**rows, sample_weight_val=weights)
    expected = [
        by_hand(rows["y_val"], network.predict_proba(rows["X_val"])[:, 1], weights)
        for network in fit_by_epoch(rows, max_iter=4)
    ]
    np.testing.assert_allclose(model.history_["validation_score"], expected, rtol=1e-10)
    assert model.validation_scores_ == model.history_["validation_score"]
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.best_loss_ is None
    assert len(model.history_["validation_loss"]) == 4


@every_score
def test_best_epoch_by_the_score_is_restored(rows, overfitted, scoring, by_hand):
    model = stopping(scoring=scoring, **OVERFITTING).fit(**rows)
    probabilities = [n.predict_proba(rows["X_val"])[:, 1] for n in overfitted]
    best = int(np.argmax(np.round([by_hand(rows["y_val"], p, None) for p in probabilities], 12)))
    assert model.best_iter_ == best + 1
    np.testing.assert_array_equal(model.params_, overfitted[best].params_)


def test_best_epoch_by_the_loss_is_restored(rows, overfitted):
    model = stopping(**OVERFITTING).fit(**rows)
    losses = [log_loss(rows["y_val"], n.predict_proba(rows["X_val"])) for n in overfitted]
    best = int(np.argmin(losses))
    assert 0 < best < 11
    assert model.best_iter_ == best + 1
    assert model.best_validation_score_ == pytest.approx(-losses[best])
    np.testing.assert_array_equal(model.params_, overfitted[best].params_)
    assert model.history_["validation_score"] == [
        -loss for loss in model.history_["validation_loss"]
    ]


def test_scores_disagree_about_the_best_epoch(rows):
    """Otherwise the tests above would not tell one from the other."""
    best = {s: stopping(scoring=s, **OVERFITTING).fit(**rows).best_iter_ for s in ("loss", None)}
    assert len(set(best.values())) == 2


@pytest.mark.parametrize("scoring", ["loss", "accuracy"])
def test_each_member_keeps_its_own_best_epoch(rows, scoring):
    model = stopping(scoring=scoring, n_members=3, **OVERFITTING).fit(**rows)
    networks = fit_by_epoch(rows, n_members=3, **OVERFITTING)
    best = []
    for i in range(3):
        ones = [list(members(network))[i] for network in networks]
        proba = [one.predict_proba(rows["X_val"])[:, 1] for one in ones]
        score = SCORES["neg_log_loss" if scoring == "loss" else scoring]
        best.append(int(np.argmax([score(rows["y_val"], p, None) for p in proba])))
        np.testing.assert_array_equal(model.params_[i], networks[best[i]].params_[i])
    assert len(set(best)) > 1
    assert model.best_iter_ == max(best) + 1


def test_score_of_several_members_is_the_mean_of_each_by_itself(rows):
    model = stopping(scoring="accuracy", n_members=3).fit(**rows)
    for epoch, network in enumerate(fit_by_epoch(rows, max_iter=4, n_members=3)):
        alone = [one.score(rows["X_val"], rows["y_val"]) for one in members(network)]
        assert model.history_["validation_score"][epoch] == pytest.approx(np.mean(alone))


def test_scorer_sees_labels_as_the_user_gave_them(rows):
    named = {**rows, **{n: np.take(["no", "yes"], rows[n]) for n in ("y", "y_val")}}
    for pos_label in ("yes", "no"):
        scorer = make_scorer(f1_score, pos_label=pos_label)
        model = stopping(scoring=scorer).fit(**named)
        expected = [
            scorer(n, named["X_val"], named["y_val"]) for n in fit_by_epoch(named, max_iter=4)
        ]
        assert model.validation_scores_ == pytest.approx(expected)


def test_scorer_sees_a_fitted_estimator_and_the_rows(rows):
    seen = []

    def scorer(estimator, X, y, sample_weight=None):
        seen.append((estimator, X, y, sample_weight))
        return estimator.score(X, y, sample_weight)

    weights = make_weights(60)
    stopping(scoring=scorer, n_members=2).fit(**rows, sample_weight_val=weights)
    assert len(seen) == 2 * (1 + 4)  # before training too, to see whether it works
    counts = weights > 0
    for estimator, X, y, given_weights in seen:
        assert isinstance(estimator, DeepBinaryClassifier)
        assert estimator.classes_.tolist() == [0, 1]
        np.testing.assert_array_equal(X, rows["X_val"][counts])
        np.testing.assert_array_equal(y, rows["y_val"][counts])
        np.testing.assert_array_equal(given_weights, weights[counts])


def test_callable_without_weights_is_refused_where_there_are_some(rows):
    """But for whole numbers, which are rows."""
    calls = []

    def scorer(estimator, X, y):
        calls.append(y)
        return 0.5

    model = stopping(scoring=scorer)
    for weights in ({"sample_weight_val": 0.5 * make_weights(60)}, {}):
        if not weights:
            model.set_params(class_weight={0: 2.5})
        with pytest.raises(ValueError, match="does not take sample_weight"):
            model.fit(**rows, **weights)
    assert calls == []
    assert not hasattr(model, "params_")
    stopping(scoring=scorer).fit(**rows, sample_weight_val=np.full(60, 2.5))
    assert {len(y) for y in calls} == {60}
    stopping(scoring=scorer).fit(**rows, sample_weight_val=make_weights(60))
    assert len(calls[-1]) == make_weights(60).sum()


@pytest.mark.parametrize(
    "scoring", ["neg_mean_squared_error", "adjusted_rand_score", "neg_median_absolute_error"]
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_score_that_cannot_be_computed_fails_before_training(rows, scoring, solver, capsys):
    named = {**rows, **{n: np.take(["no", "yes"], rows[n]) for n in ("y", "y_val")}}
    weights = make_weights(60) + 0.5
    model = stopping(scoring=scoring, solver=solver, verbose=1)
    with pytest.raises((ValueError, TypeError)):
        model.fit(**named, sample_weight_val=weights)
    assert capsys.readouterr().out == ""
    assert not hasattr(model, "params_")


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_scorer_that_raises_fails_before_training(rows, solver, capsys):
    def scorer(estimator, X, y):
        raise RuntimeError("does not work")

    model = stopping(solver=solver).fit(**rows) if solver == "adam" else stopping(solver=solver)
    before = vars(model).copy()
    model.set_params(scoring=scorer, verbose=1)
    with pytest.raises(ValueError, match=r"scor.*RuntimeError: does not work.*array") as failure:
        model.fit(**rows)
    assert isinstance(failure.value.__cause__, RuntimeError)
    assert capsys.readouterr().out == ""
    model.set_params(scoring="loss", verbose=False)
    assert vars(model) == before


def test_score_that_is_no_number_is_not_called_divergence(rows):
    """For instance the area under the curve on rows of one class."""

    def scorer(estimator, X, y):
        return float("nan")

    with pytest.raises(ValueError, match="scor") as failure:
        stopping(scoring=scorer).fit(**rows)
    assert "diverged" not in str(failure.value)


def test_unknown_score_is_refused_by_name(rows):
    with pytest.raises(ValueError, match="'scoring' parameter"):
        stopping(scoring="beauty").fit(**rows)


def test_training_ends_after_epochs_without_a_better_score(rows):
    parameters = {**OVERFITTING, "max_iter": 200, "n_iter_no_change": 3}
    model = stopping(scoring="accuracy", **parameters).fit(**rows)
    assert model.n_iter_ < 200
    assert model.n_iter_ >= model.best_iter_ + 3
    scores = model.validation_scores_
    assert max(scores[-3:]) <= max(scores[:-3])


def test_score_can_be_monitored_in_held_out_rows_too():
    X, y = make_table()
    model = stopping(early_stopping=True, scoring="roc_auc").fit(X, y, make_weights(len(y)) + 1.0)
    assert len(model.validation_scores_) == 4
    assert all(0.0 <= score <= 1.0 for score in model.validation_scores_)


def test_attributes_without_early_stopping(rows):
    model = stopping().fit(rows["X"], rows["y"])
    assert model.validation_scores_ is None
    assert model.best_validation_score_ is None
    assert model.best_loss_ == min(model.loss_curve_)
    assert model.loss_ == model.loss_curve_[-1]
    assert model.best_iter_ == model.n_iter_ == 4


def test_best_iter_counts_in_the_history_of_all_fits(rows):
    model = stopping(warm_start=True, **OVERFITTING).fit(**rows)
    first = model.best_iter_
    model.fit(**{**rows, "X": rows["X"][1:], "y": rows["y"][1:]})
    assert len(model.validation_scores_) == 24
    assert model.best_iter_ in (first, *range(13, 25))  # where nothing later was any better
    assert 0 < first <= 12


@pytest.mark.filterwarnings("ignore:L-BFGS ended")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_overfitting_is_not_called_divergence(rows, solver):
    """The loss of the rows to train on falls and falls: all that early stopping is there for."""
    rows["y"] = np.random.default_rng(0).permutation(rows["y"])
    model = stopping(solver=solver, hidden_layer_sizes=(64,), alpha=0.0, max_iter=100)
    model.set_params(learning_rate_init=0.05)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(**rows)
    assert model.history_["loss"][-1] < 0.25
    assert not [str(w.message) for w in caught if "diverged" in str(w.message)]


@pytest.mark.filterwarnings("ignore:L-BFGS ended")
@pytest.mark.parametrize("scoring", ["loss", "accuracy"])
def test_lbfgs_restores_its_best_iteration(rows, scoring):
    parameters = {"solver": "lbfgs", "hidden_layer_sizes": (32,), "alpha": 0.1}
    model = stopping(scoring=scoring, max_iter=14, **parameters).fit(**rows)
    best = int(np.argmax(model.validation_scores_))
    assert best + 1 == model.best_iter_ < len(model.validation_scores_)
    short = classifier(max_iter=best + 1, **parameters).fit(rows["X"], rows["y"])
    np.testing.assert_allclose(model.params_, short.params_, rtol=1e-6, atol=1e-8)
    score = -log_loss(rows["y_val"], model.predict_proba(rows["X_val"]))
    score = score if scoring == "loss" else model.score(rows["X_val"], rows["y_val"])
    assert score == pytest.approx(model.best_validation_score_)


# Few rows.


@pytest.mark.parametrize("scoring", ["loss", None, "neg_log_loss"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    "y", [[0, 1, 0, 1, 0], [0, 1, 1], [0, 1], [0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]], ids=str
)
@pytest.mark.parametrize("validation_fraction", [0.1, 0.9])
def test_few_rows_never_break_the_split(y, solver, scoring, validation_fraction):
    X = np.random.default_rng(0).normal(size=(len(y), 3))
    model = stopping(
        early_stopping=True,
        scoring=scoring if scoring != "neg_log_loss" or min(y.count(0), y.count(1)) > 1 else None,
        solver=solver,
        validation_fraction=validation_fraction,
        max_iter=3,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    if y == [0, 1]:  # neither of which can be left out
        assert model.validation_scores_ is None
    else:
        assert 1 <= len(model.validation_scores_) <= 3


@pytest.mark.parametrize("n_members", [1, 4])
def test_default_network_stops_early_on_few_rows(n_members):
    X, y = make_table(20)
    model = DeepBinaryClassifier(
        early_stopping=True, scoring="accuracy", n_members=n_members, max_iter=5, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[:5], y[:5])
    assert np.isfinite(model.predict_proba(X)).all()
