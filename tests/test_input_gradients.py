"""What moves a logit: gradients at the features, by another way of computing them."""

import numpy as np
import pandas as pd
import pytest
from data import classifier, make_people, make_table
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from skdnn import DeepBinaryClassifier

SETTINGS = {
    "one member": {},
    "several members": {"n_members": 4},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "no hidden layer, members": {"hidden_layer_sizes": (), "n_members": 3},
    "deep": {"hidden_layer_sizes": (7, 6, 5), "activation": ["elu", "gelu", "logistic"]},
    "trained with dropout": {"dropout": 0.3, "n_members": 3},
    "batch normalisation": {"normalization": "batch", "n_members": 2, "hidden_layer_sizes": (8, 6)},
    "layer normalisation": {"normalization": "layer", "n_members": 2, "hidden_layer_sizes": (8, 6)},
    "residual": {"residual": True, "hidden_layer_sizes": (8, 8, 8), "n_members": 2},
    "everything": {
        "hidden_layer_sizes": (8, 8, 4),
        "activation": "silu",
        "normalization": "batch",
        "residual": True,
        "dropout": 0.2,
        "n_members": 3,
        "ema_decay": 0.9,
    },
    "lbfgs": {"solver": "lbfgs", "max_iter": 30},
}
every_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)

pytestmark = pytest.mark.filterwarnings("ignore:L-BFGS ended")


FITTED: dict[str, DeepBinaryClassifier] = {}


def fit(**parameters):
    """Return a model, which is fitted once for all tests: they leave it as it is."""
    key = repr(sorted(parameters.items()))
    if key not in FITTED:
        FITTED[key] = classifier(**{"max_iter": 15, **parameters}).fit(*make_table())
    return FITTED[key]


def central_differences(function, X, step=1e-5):
    """Return the derivatives of a function of rows with respect to each feature."""
    columns = []
    for j in range(X.shape[1]):
        shift = np.zeros(X.shape[1])
        shift[j] = step
        columns.append((function(X + shift) - function(X - shift)) / (2 * step))
    return np.column_stack(columns)


# At a row.


@every_setting
def test_gradient_is_the_slope_of_the_decision(settings):
    X, _ = make_table(25, random_state=1)
    model = fit(**settings)
    expected = central_differences(model.decision_function, X)
    np.testing.assert_allclose(model.input_gradients(X), expected, rtol=1e-6, atol=1e-7)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_gradient_is_exact_by_complex_step(n_members, scale):
    """The averaged logit, written down once more in complex numbers: to the last digits."""
    X, _ = make_table(25, random_state=1)
    X = X * scale
    model = fit(hidden_layer_sizes=(8, 5), n_members=n_members, dropout=0.2)
    coefs = [W.reshape(n_members, *W.shape[-2:]) for W in model.coefs_]
    intercepts = [b.reshape(n_members, 1, -1) for b in model.intercepts_]

    def averaged_logit(rows):
        a = rows[np.newaxis]
        for W, b in zip(coefs[:-1], intercepts[:-1], strict=True):
            a = np.tanh(a @ W + b)
        z = (a @ coefs[-1] + intercepts[-1])[:, :, 0]
        return np.log((1 / (1 + np.exp(-z))).mean(axis=0) / (1 / (1 + np.exp(z))).mean(axis=0))

    np.testing.assert_allclose(averaged_logit(X), model.decision_function(X), rtol=1e-9, atol=1e-9)
    step = 1e-30
    expected = np.column_stack(
        [averaged_logit(X + 1j * step * unit).imag / step for unit in np.eye(X.shape[1])]
    )
    np.testing.assert_allclose(model.input_gradients(X), expected, rtol=1e-9, atol=1e-12)


def test_gradient_of_several_members_is_not_the_mean_of_theirs():
    """Each counts by the slope of its own probability."""
    X, _ = make_table(25, random_state=1)
    model = fit(n_members=3, hidden_layer_sizes=(), learning_rate_init=0.3)
    mean = np.tile(np.mean(model.coefs_[0], axis=0).T, (25, 1))
    assert np.abs(model.input_gradients(X) - mean).max() > 1e-3


def test_gradient_of_a_linear_network_is_its_coefficients():
    X, _ = make_table(9)
    model = fit(hidden_layer_sizes=())
    np.testing.assert_allclose(
        model.input_gradients(X), np.tile(model.coefs_[0].T, (9, 1)), rtol=1e-12
    )


def test_gradient_of_very_sure_members_is_finite():
    X, _ = make_table(9)
    model = fit(hidden_layer_sizes=(), n_members=3)
    for factor in (1e2, 1e4, 1e6):
        gradients = model.input_gradients(factor * X)
        assert np.isfinite(gradients).all()
        steepest = np.abs(model.coefs_[0]).max()
        assert np.abs(gradients).max() <= 3 * steepest * (1 + 1e-9)


def test_gradient_does_not_depend_on_the_other_rows_or_their_number():
    X, y = make_table(3_000)
    model = classifier((64,), max_iter=1, n_members=4, normalization="batch").fit(X, y)
    together = model.input_gradients(X)
    for rows in (slice(0, 1), slice(1_000, 1_017), slice(2_990, None)):
        np.testing.assert_allclose(model.input_gradients(X[rows]), together[rows], atol=1e-12)


def test_asking_changes_nothing():
    X, _ = make_table()
    model = fit(n_members=2, dropout=0.2, normalization="batch")
    before, given = model.params_.copy(), X.copy()
    first = model.input_gradients(X)
    np.testing.assert_array_equal(model.input_gradients(X), first)
    model.input_gradients(X, method="integrated", steps=3)
    np.testing.assert_array_equal(model.params_, before)
    np.testing.assert_array_equal(X, given)


# Shape and dtype.


@pytest.mark.parametrize("method", ["gradient", "integrated"])
@pytest.mark.parametrize("trained", [np.float32, np.float64])
@pytest.mark.parametrize("asked", [np.float32, np.float64, int])
def test_dtype_is_that_of_the_decision(method, trained, asked):
    X, y = make_table()
    model = classifier(n_members=2).fit(X.astype(trained), y)
    X = (10 * X).astype(asked)
    gradients = model.input_gradients(X, method=method, steps=8)
    assert gradients.dtype == model.decision_function(X).dtype
    assert gradients.shape == X.shape
    wide = model.input_gradients(X.astype(np.float64), method=method, steps=8)
    np.testing.assert_allclose(gradients, wide, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["gradient", "integrated"])
@pytest.mark.parametrize("encoder", [None, "auto"])
def test_data_frames_are_accepted_and_their_names_compared(encoder, method):
    X, y = make_table()
    frame = pd.DataFrame(X, columns=list("abcdef"))
    model = classifier(encoder=encoder).fit(frame, y)
    np.testing.assert_array_equal(
        model.input_gradients(frame, method=method, steps=8),
        classifier(encoder=encoder).fit(X, y).input_gradients(X, method=method, steps=8),
    )
    with pytest.raises(ValueError, match="feature names"):
        model.input_gradients(frame[list("fedcba")], method=method)


# Through an encoder.

ENCODED = {"encoder": "auto", "dtype": "float64", "n_members": 3, "calibration": None}


@pytest.fixture
def gaps():
    """A table with features of any unit, a flag of two values, and values that are missing."""
    X, y = make_table()
    X = X * [1.0, 1e3, 1e-3, 1.0, 1.0, 1.0] + [0.0, 50.0, 0.0, 0.0, 0.0, 0.0]
    X[:, 5] = X[:, 5] > 0.0
    X[::7, 2] = np.nan
    return X, y


@pytest.mark.parametrize("numeric_embedding", ["auto", None])
@pytest.mark.parametrize("calibration", [None, "temperature"])
def test_gradient_through_the_encoder_is_in_units_of_the_given_features(
    gaps, numeric_embedding, calibration
):
    X, y = gaps
    settings = {"numeric_embedding": numeric_embedding, "calibration": calibration}
    model = classifier(**ENCODED, max_iter=15).set_params(early_stopping="auto", **settings)
    model.fit(X, y)
    X, units = X[:25], np.array([1.0, 1e3, 1e-3, 1.0, 1.0])
    columns = []
    for j, unit in enumerate(units):
        step = 1e-6 * unit * (np.arange(6) == j)
        difference = model.decision_function(X + step) - model.decision_function(X - step)
        columns.append(difference / (2e-6 * unit))
    expected = np.column_stack(columns)
    gradients = model.input_gradients(X)
    assert gradients.shape == (25, 6)
    np.testing.assert_allclose(gradients[:, :5] * units, expected * units, rtol=1e-5, atol=1e-6)
    assert np.abs(expected * units).max() > 0.1
    assert not gradients[np.isnan(X)].any()
    assert gradients[~np.isnan(X[:, 2]), 2].any()
    # Along a flag it is the slope between its two values, at the row.
    assert gradients[:, 5].any()


@pytest.mark.parametrize(
    ("numeric_embedding", "steps", "tolerance"), [("periodic", 128, 2e-4), ("mixed", 1_000, 5e-3)]
)
def test_integrated_gradients_through_the_encoder_sum_to_the_difference(
    gaps, numeric_embedding, steps, tolerance
):
    """Ramps are steep and have kinks: with them more steps are needed, and less is gained.

    A missing number enters as the median and a flag: there is a way to that.
    """
    X, y = gaps
    model = classifier(**ENCODED, max_iter=15, numeric_embedding=numeric_embedding).fit(X, y)
    X = X[1:9]
    assert np.isnan(X[6, 2])
    baseline = np.array([0.0, 50.0, 0.0, 0.0, 0.0, 0.0])
    options = {"method": "integrated", "baseline": baseline, "steps": steps}
    shares = model.input_gradients(X, **options)
    logits = model.decision_function(X)
    difference = logits - model.decision_function(baseline[np.newaxis])
    assert X[:, 5].any(), "a flag on the way stands between its two values"
    assert shares[6, 2] != 0.0
    atol = tolerance * np.ptp(logits)
    np.testing.assert_allclose(shares.sum(axis=1), difference, rtol=0, atol=atol)


def test_default_baseline_behind_an_encoder_is_the_median_row():
    X, y = make_table()
    X = X * [1.0, 1e3, 1e-3, 1.0, 1.0, 1.0] + [0.0, 5e3, 0.0, 7.0, -2.0, 0.0]
    model = classifier(**ENCODED, max_iter=15, numeric_embedding="periodic").fit(X, y)
    median = np.quantile(X, 0.5, axis=0, method="inverted_cdf")
    shares = model.input_gradients(X[:9], method="integrated")
    known = model.input_gradients(X[:9], method="integrated", baseline=median)
    np.testing.assert_allclose(shares, known, rtol=0, atol=1e-9)
    difference = model.decision_function(X[:9]) - model.decision_function(median[np.newaxis])
    np.testing.assert_allclose(shares.sum(axis=1), difference, rtol=0, atol=1e-3)


@pytest.fixture
def people():
    """A number, two categories and a boolean."""
    frame, y = make_people()
    return frame.iloc[:, :4], y


def test_gradients_of_categories_are_not_a_number(people):
    frame, y = people
    model = classifier(**ENCODED, max_iter=15, numeric_embedding="periodic").fit(frame, y)
    gradients = model.input_gradients(frame)
    assert np.isnan(gradients[:, 1:3]).all()
    assert np.isfinite(gradients[:, [0, 3]]).all()
    steps = [frame.assign(income=frame["income"] + step) for step in (1.0, -1.0)]
    up, down = map(model.decision_function, steps)
    is_known = frame["income"].notna().to_numpy()
    expected = (up - down)[is_known] / 2.0
    np.testing.assert_allclose(gradients[is_known, 0], expected, rtol=1e-3, atol=1e-8)
    assert not gradients[~is_known, 0].any()


def test_gradients_of_booleans_are_those_of_the_numbers_0_and_1(people):
    frame, y = people
    frame = frame[["income", "is_new"]]
    numbers = frame.to_numpy(np.float64)
    first, second = (classifier(**ENCODED, max_iter=15).fit(T, y) for T in (frame, numbers))
    np.testing.assert_allclose(
        first.decision_function(frame), second.decision_function(numbers), rtol=1e-9
    )
    for method in ("gradient", "integrated"):
        gradients = first.input_gradients(frame, method=method, steps=9)
        np.testing.assert_allclose(
            gradients, second.input_gradients(numbers, method=method, steps=9), rtol=1e-7
        )
        assert gradients[:, 1].all()


def test_missing_booleans_have_no_gradient(people):
    frame, y = people
    frame["is_new"] = frame["is_new"].astype("boolean")
    frame.loc[::5, "is_new"] = pd.NA
    gradients = classifier(**ENCODED).fit(frame, y).input_gradients(frame)
    assert not gradients[::5, 3].any()
    assert gradients[1::5, 3].all()


def test_integrated_gradients_leave_categories_as_they_are(people):
    frame, y = people
    model = classifier(**ENCODED, max_iter=15, numeric_embedding="periodic").fit(frame, y)
    rows = frame.iloc[1:9]
    baseline = [3e4, np.nan, np.nan, 0.0]  # entries of categories are not read
    shares = model.input_gradients(rows, method="integrated", baseline=baseline)
    row = pd.Series([3e4, "red", None, False])
    again = model.input_gradients(rows, method="integrated", baseline=row)
    np.testing.assert_array_equal(again, shares)
    with pytest.raises(ValueError, match="baseline cannot be used: could not convert"):
        model.input_gradients(rows, method="integrated", baseline=["red", 0.0, 0.0, 0.0])
    assert np.isnan(shares[:, 1:3]).all()
    at_baseline = rows.assign(income=3e4, is_new=False)
    difference = model.decision_function(rows) - model.decision_function(at_baseline)
    np.testing.assert_allclose(np.nansum(shares, axis=1), difference, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="one finite number for each of the 4 features"):
        model.input_gradients(rows, method="integrated", baseline=[np.nan, 0.0, 0.0, 0.0])


def test_gradient_through_an_encoder_without_slopes_is_refused():
    X, y = make_table()
    model = classifier(encoder=StandardScaler()).fit(X, y)
    with pytest.raises(ValueError, match=r"cannot see through the encoder StandardScaler\(\)"):
        model.input_gradients(X)


# On the way from a baseline.


@every_setting
@pytest.mark.parametrize("is_given", [False, True], ids=["zeros", "given"])
def test_integrated_gradients_sum_to_the_difference_of_the_logits(settings, is_given):
    X, _ = make_table(10, random_state=1)
    model = fit(**settings)
    baseline = X.mean(axis=0) + 0.3 if is_given else None
    start = np.zeros((1, 6)) if baseline is None else baseline[np.newaxis]
    shares = model.input_gradients(X, method="integrated", baseline=baseline)
    logits = model.decision_function(X)
    difference = logits - model.decision_function(start)
    np.testing.assert_allclose(shares.sum(axis=1), difference, rtol=0, atol=1e-3 * np.ptp(logits))


@pytest.mark.parametrize("n_members", [1, 4])
@pytest.mark.parametrize("hidden_layer_sizes", [(32,), (64, 64)])
def test_integrated_gradients_of_relu_networks_sum_on_real_data(hidden_layer_sizes, n_members):
    """The slope jumps along the way: the default number of steps is enough."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = DeepBinaryClassifier(
        hidden_layer_sizes,
        "relu",
        encoder=None,
        early_stopping=False,
        n_members=n_members,
        max_iter=20,
        random_state=0,
    ).fit(X, y)
    X = X[::40]
    shares = model.input_gradients(X, method="integrated")
    logits = model.decision_function(X)
    difference = logits - model.decision_function(np.zeros((1, X.shape[1])))
    error = np.abs(shares.sum(axis=1) - difference)
    assert error.max() < 1e-3 * np.ptp(logits)


def test_integrated_gradients_come_closer_with_more_steps():
    X, _ = make_table(25, random_state=1)
    model = fit(n_members=2)
    difference = model.decision_function(X) - model.decision_function(np.zeros((1, 6)))
    errors = [
        np.abs(
            model.input_gradients(X, method="integrated", steps=n).sum(axis=1) - difference
        ).max()
        for n in (1, 4, 16, 64)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < errors[2] / 8  # the error of the midpoint rule falls with the square


@pytest.mark.parametrize("steps", [1, 7, 128])
@pytest.mark.parametrize("baseline", [None, [0.5, -1.0, 2.0, 0.0, 1.0, 3.0]], ids=str)
def test_integrated_gradients_of_a_linear_network_are_exact(steps, baseline):
    X, _ = make_table(9)
    model = fit(hidden_layer_sizes=())
    way = X - (np.zeros(6) if baseline is None else np.array(baseline))
    shares = model.input_gradients(X, method="integrated", baseline=baseline, steps=steps)
    np.testing.assert_allclose(shares, model.coefs_[0].T * way, rtol=1e-12, atol=1e-14)


def test_integrated_gradients_of_the_baseline_are_zero():
    X, _ = make_table()
    model = fit(n_members=2)
    shares = model.input_gradients(X[:1], method="integrated", baseline=X[0])
    np.testing.assert_array_equal(shares, np.zeros((1, 6)))
    assert model.input_gradients(X[1:2], method="integrated", baseline=X[0]).any()


def test_feature_without_effect_has_no_share():
    X, y = make_table()
    model = classifier(n_members=2).fit(X, y)
    for W in model.coefs_[0]:
        W[3] = 0.0
    for method in ("gradient", "integrated"):
        gradients = model.input_gradients(X, method=method)
        assert not gradients[:, 3].any()
        assert gradients[:, 2].any()


# Refusals.


@pytest.mark.parametrize("method", ["gradients", "Integrated", None, 1])
def test_unknown_method_is_refused_by_name(method):
    with pytest.raises(ValueError, match=f"method .*{method!r}"):
        fit().input_gradients(make_table()[0], method=method)


@pytest.mark.parametrize(
    "baseline", [np.zeros(5), np.zeros((1, 6)), 0.0, [np.nan] * 6, [np.inf] * 6, []], ids=str
)
def test_baseline_of_wrong_shape_or_value_is_refused(baseline):
    with pytest.raises(ValueError, match="baseline"):
        fit().input_gradients(make_table()[0], method="integrated", baseline=baseline)


@pytest.mark.parametrize("steps", [0, -3, 2.5, "many", None])
def test_steps_that_are_no_number_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps must be an integer of at least 1, got {steps!r}"):
        fit().input_gradients(make_table()[0], method="integrated", steps=steps)


def test_rows_that_cannot_be_predicted_are_refused():
    X, _ = make_table()
    model = fit()
    with pytest.raises(ValueError, match="features"):
        model.input_gradients(X[:, 1:])
    with pytest.raises(ValueError, match="NaN"):
        model.input_gradients(np.full_like(X, np.nan))
    with pytest.raises(NotFittedError):
        classifier().input_gradients(X)
