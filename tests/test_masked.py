"""Masked means missing: what lies below the mask of an array is never read."""

import numpy as np
import pytest
from data import classifier, make_table, needs
from numpy.testing import assert_array_equal
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdnn.preprocessing import TabularEncoder

X, Y = make_table(80)
MASK = np.zeros(X.shape, dtype=bool)
MASK[::7, 2] = MASK[1::5, 0] = True
GAPPY = np.where(MASK, np.nan, X)
BELOW = np.where(MASK, -9999.0, X)


def encoded(**parameters):
    return classifier(**{"encoder": "auto", "max_iter": 2, "batch_size": 80, **parameters})


def masked(dtype=float, values=BELOW):
    return np.ma.array(values.astype(dtype), mask=MASK, fill_value=-9999)


TABLES = {
    "array": masked,
    "float32": lambda: masked(np.float32),
    "list of rows": lambda: list(masked()),
    "tuple of rows": lambda: tuple(masked()),
    "objects": lambda: masked(object),
}


def assert_as_gappy(estimator, table, **more):
    """Check that a masked table is the same as one with NaN to every method."""
    missing = GAPPY.astype(np.float32).astype(getattr(table, "dtype", float), copy=False)
    missing = missing if getattr(table, "dtype", None) == np.float32 else GAPPY
    model, plain = (estimator().fit(T, Y) for T in (table, missing))
    assert_array_equal(model.params_, plain.params_)
    assert_array_equal(model.predict_proba(table), plain.predict_proba(missing))
    assert_array_equal(model.predict(table[:9]), plain.predict(missing[:9]))
    assert_array_equal(
        model.partial_fit(table, Y).decision_function(table),
        plain.partial_fit(missing, Y).decision_function(missing),
    )
    return model, plain, missing


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_masked_numbers_are_missing(make):
    model, plain, missing = assert_as_gappy(encoded, make())
    assert_array_equal(model.input_gradients(make()), plain.input_gradients(missing))
    shares = [
        m.input_gradients(T, method="integrated", steps=2)
        for m, T in ((model, make()), (plain, missing))
    ]
    assert_array_equal(*shares)


def test_masked_numbers_are_missing_for_an_encoder_of_the_user():
    impute = make_pipeline(SimpleImputer(), StandardScaler())
    assert_as_gappy(lambda: encoded(encoder=impute), masked())


def test_masked_numbers_of_validation_rows_are_missing():
    val = {"y_val": Y[40:]}
    models = [
        encoded(early_stopping=True).fit(T[:40], Y[:40], X_val=T[40:], **val)
        for T in (masked(), GAPPY)
    ]
    assert models[0].history_["validation_loss"] == models[1].history_["validation_loss"]


def test_masked_rows_without_weight_are_judged():
    weights = np.where(np.arange(80) % 9 == 0, 0.0, 1.0)
    models = [
        encoded(early_stopping=True, n_members=5).fit(T, Y, weights) for T in (masked(), GAPPY)
    ]
    assert_array_equal(*(model.oof_decision_function_ for model in models))


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.arange(80) % 4, [0, 1, 2, 3]),
        (np.array(list("abcd"))[np.arange(80) % 4], list("abcd")),
        (np.array(list("abcd"), object)[np.arange(80) % 4], list("abcd")),
        (np.arange(80) % 2 == 0, [0, 1]),
    ],
    ids=["whole numbers", "strings", "objects", "booleans"],
)
def test_masked_levels_are_missing(values, levels):
    table = np.ma.array(values[:, None], mask=(np.arange(80) % 5 == 0)[:, None])
    table = np.ma.hstack([table, table])
    encoder = TabularEncoder([0, 1]).fit(table)
    assert encoder.categories_ == [levels, levels]
    flags = [name for name in encoder.get_feature_names_out() if name.endswith("_missing")]
    assert len(flags) == 2
    assert np.unique(encoder.transform(table[::5]), axis=0).shape[0] == 1


def test_masked_numbers_are_refused_without_an_encoder():
    estimator = classifier(max_iter=1)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        estimator.fit(masked(), Y)
    estimator.fit(np.ma.array(X), Y)
    for call in (estimator.predict, estimator.input_gradients):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            call(masked())
    assert_array_equal(estimator.predict(np.ma.array(X)), estimator.predict(X))


@pytest.mark.parametrize("encoder", [None, "auto", StandardScaler()], ids=str)
@pytest.mark.parametrize("missing", [np.nan, np.ma.masked], ids=str)
def test_missing_weights_are_refused_by_name(encoder, missing):
    weights = np.ma.ones(80)
    weights[3] = missing
    estimator = encoded(encoder=encoder)
    with pytest.raises(ValueError, match="sample_weight contains NaN"):
        estimator.fit(X, Y, weights)
    with pytest.raises(ValueError, match="sample_weight contains NaN"):
        estimator.partial_fit(X, Y, classes=[0, 1], sample_weight=weights)
    with pytest.raises(ValueError, match=r"sample_weight_val.*contains NaN"):
        encoded(early_stopping=True).fit(X, Y, X_val=X, y_val=Y, sample_weight_val=weights)
    with pytest.raises(ValueError, match="sample_weight contains NaN"):
        TabularEncoder().fit(X, sample_weight=weights)


def test_masked_labels_are_refused():
    labels = np.ma.array(Y, mask=np.arange(80) == 4)
    with pytest.raises(ValueError, match="y has masked"):
        encoded().fit(X, labels)
    with pytest.raises(ValueError, match="y has masked"):
        encoded().partial_fit(X, labels, classes=[0, 1])
    with pytest.raises(ValueError, match="y_val has masked"):
        encoded(early_stopping=True).fit(X, Y, X_val=X, y_val=labels)
    assert_array_equal(encoded().fit(X, np.ma.array(Y)).params_, encoded().fit(X, Y).params_)


def test_masked_groups_are_refused():
    groups = np.ma.array(np.arange(80) // 4, mask=np.arange(80) == 9)
    with pytest.raises(ValueError, match="groups contains missing labels, the first in row 9"):
        encoded(n_members=3, early_stopping=True).fit(X, Y, groups=groups)


@needs("scikit-learn>=1.8", "a check of the weights of scores")
def test_masked_weights_are_refused_by_score():
    masked_ones = np.ma.array(np.ones(80), mask=np.arange(80) == 4)
    with pytest.raises(ValueError, match="NaN"):
        encoded().fit(X, Y).score(X, Y, masked_ones)


def test_masked_labels_are_refused_by_score():
    estimator = encoded().fit(X, Y)
    with pytest.raises(ValueError, match="y has masked"):
        estimator.score(X, np.ma.array(Y, mask=np.arange(80) == 4))
    assert estimator.score(masked(), Y) == estimator.score(GAPPY, Y)


def test_masked_baseline_is_refused():
    estimator = encoded().fit(X, Y)
    with pytest.raises(ValueError, match="baseline must be one finite number"):
        estimator.input_gradients(X, method="integrated", baseline=np.ma.masked_less(X[0], 0.0))
