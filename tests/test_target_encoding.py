"""Target encoding: statistics of levels, which only rows that a member learns from enter."""

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss

from skdnn import DeepBinaryClassifier, TabularEncoder
from skdnn.nn import Branch, CategoricalEmbedding, Concatenate, Dense, Network
from skdnn.nn.initializers import zeros
from skdnn.training.fitted_layers import N_PARTS, N_TABLES, SMOOTHING, fit_target_encoding
from skdnn.training.rows import Rows

FEW = {"random_state": 0, "max_iter": 3, "n_members": 5, "hidden_layer_sizes": (8,)}
N_LEVELS, N_MEMBERS = 12, 3


def make_table(n_samples=600, n_levels=200, seed=0):
    """Return a table whose labels depend on a number and on levels of three rows each."""
    rng = np.random.default_rng(seed)
    effects, levels = rng.normal(size=n_levels), rng.integers(n_levels, size=n_samples)
    x, few = rng.normal(size=n_samples), rng.integers(12, size=n_samples)
    y = (x + 2.0 * effects[levels] + rng.logistic(size=n_samples) > 0.0).astype(int)
    table = {"few": few.astype(str), "many": [f"level {i}" for i in levels]}
    return pd.DataFrame({"x": x} | {name: pd.Categorical(c) for name, c in table.items()}), y


def read_tables(model):
    """Return the tables of statistics of all members, (n_members, n_tables, n_levels, 2)."""
    layout = model._predictor.network.layout
    found = [n for n, spec in layout.specs.items() if "categorical" in n and not spec.trainable]
    assert len(found) <= 1
    tables = [layout.view(model.params_, name) for name in found]
    return tables[0].reshape(len(tables[0]), N_TABLES, -1, 2) if tables else None


def fit_tables(y, weight=None, group=None, folds=None, codes=None):
    """Fill the tables of some members by rows of the same codes; return tables and new codes."""
    rng = np.random.default_rng(1)
    own = rng.integers(N_LEVELS, size=len(y)).astype(float) if codes is None else codes.copy()
    lookup = CategoricalEmbedding((N_TABLES * N_LEVELS,), (2,), zeros, trainable=False)
    network = Network((Concatenate((Branch(1, (lookup,)),)), Dense(1)), 1, N_MEMBERS)
    params = np.zeros((N_MEMBERS, network.layout.n_params))
    state = SimpleNamespace(params=params, ema_params=None, final_params=None, seed=2)
    is_held_out = None if folds is None else folds == np.arange(N_MEMBERS)[:, np.newaxis]
    rows = Rows(own[:, np.newaxis], y.astype(float), weight, None, group, is_held_out)
    fit_target_encoding(network, (0,), state, rows)
    (name,) = (name for name, spec in network.layout.specs.items() if not spec.trainable)
    tables = network.layout.view(params, name).reshape(N_MEMBERS, N_TABLES, N_LEVELS, 2)
    return tables, rows.X[:, 0].astype(int)


def make_folds(n_samples):
    """Return the member that holds out each row, or -1 for none."""
    return np.random.default_rng(3).integers(-1, N_MEMBERS, size=n_samples)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("has_folds", [False, True])
def test_statistics_are_those_of_the_rows_that_a_member_learns_from(has_folds, is_weighted):
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=80)
    weight = rng.uniform(0.5, 2.0, size=80) if is_weighted else None
    folds = make_folds(80) if has_folds else None
    tables, codes = fit_tables(y, weight, folds=folds)
    table_of_row, level = np.divmod(codes, N_LEVELS)
    assert set(table_of_row) == set(range(1, N_TABLES))
    weights = np.ones(80) if weight is None else weight
    for member in range(N_MEMBERS):
        learns = np.ones(80, bool) if folds is None else folds != member
        for number in range(N_TABLES):
            own = learns & (table_of_row != number)
            p = (weights[own] @ y[own] + 1.0) / (weights[own].sum() + 2.0)
            for code in range(N_LEVELS):
                of_level = own & (level == code)
                n, s = weights[of_level].sum(), weights[of_level] @ y[of_level]
                odds = (s + SMOOTHING * p) / (n - s + SMOOTHING * (1.0 - p))
                expected = np.log(odds) - np.log(p / (1.0 - p)), n / (n + SMOOTHING)
                assert_allclose(tables[member, number, code], expected, rtol=1e-10, atol=1e-12)


def test_labels_of_rows_held_out_change_nothing():
    y, folds = np.random.default_rng(0).integers(2, size=80), make_folds(80)
    tables, codes = fit_tables(y, folds=folds)
    changed, same_codes = fit_tables(np.where(folds == 1, 1 - y, y), folds=folds)
    assert_array_equal(codes, same_codes)
    assert_array_equal(tables[1], changed[1])
    assert (tables[[0, 2]] != changed[[0, 2]]).any()


def test_the_label_of_a_row_does_not_enter_what_it_reads():
    y = np.random.default_rng(0).integers(2, size=80)
    tables, codes = fit_tables(y, folds=make_folds(80))
    for row in range(80):
        y_changed = y.copy()
        y_changed[row] = 1 - y[row]
        changed, _ = fit_tables(y_changed, folds=make_folds(80))
        number, level = divmod(int(codes[row]), N_LEVELS)
        assert_array_equal(tables[:, number, level], changed[:, number, level])


def test_a_level_without_rows_has_zeros():
    tables, _ = fit_tables(np.arange(40) % 2, codes=np.full(40, 4.0))
    assert (np.delete(tables, 4, axis=2) == 0.0).all()
    assert (tables[:, :, 4, 1] > 0.9).all()


def test_rows_of_a_group_read_the_same_table():
    group = np.arange(80) // 5
    _, codes = fit_tables(np.arange(80) % 2, group=group)
    parts = (codes // N_LEVELS).reshape(-1, 5)
    assert (parts == parts[:, :1]).all()
    assert len(np.unique(parts)) == N_PARTS
    _, codes = fit_tables(np.arange(80) % 2, group=group // 8)  # of which there are two
    assert len(np.unique(codes // N_LEVELS)) == N_PARTS


def test_columns_with_few_rows_of_a_level_are_encoded():
    X, y = make_table()
    model = DeepBinaryClassifier(**FEW).fit(X, y)
    n_levels = X["many"].nunique()
    assert read_tables(model).shape == (5, N_TABLES, 2 + n_levels, 2)
    few = X.loc[:, ["x", "few"]]
    assert read_tables(DeepBinaryClassifier(**FEW).fit(few, y)) is None
    alone = DeepBinaryClassifier(**FEW).fit(X[["many"]], y)
    assert read_tables(alone).shape == (5, N_TABLES, 2 + n_levels, 2)
    without = DeepBinaryClassifier(**FEW, target_encoding=None).fit(X, y)
    assert read_tables(without) is None
    assert "target_encoding" not in model.resolved_params_


def test_levels_of_few_rows_tell_more_than_by_embeddings():
    X, y = make_table(4_000, 1_200)
    losses = []
    for params in ({}, {"target_encoding": None, "encoder": TabularEncoder(min_frequency=2)}):
        model = DeepBinaryClassifier(**FEW | {"max_iter": 12} | params)
        model.fit(X[:3_000], y[:3_000])
        losses.append(log_loss(y[3_000:], model.predict_proba(X[3_000:])))
    assert losses[0] < 0.98 * losses[1]


@pytest.mark.parametrize(
    ("params", "arguments"),
    [
        ({"n_members": 1}, {}),
        ({"n_members": 3}, {}),
        ({"early_stopping": False}, {}),
        ({"normalization": "batch"}, {}),
        ({"dtype": "float64"}, {}),
        ({"class_weight": "balanced", "solver": "sgd"}, {}),
        ({"scoring": "roc_auc"}, {}),
        ({}, {"sample_weight": np.arange(600) % 3}),
        ({}, {"groups": np.arange(600) // 6}),
        ({}, {"X_val": make_table(seed=1)[0], "y_val": make_table(seed=1)[1]}),
    ],
)
def test_every_kind_of_fit(params, arguments):
    X, y = make_table()
    model = DeepBinaryClassifier(**FEW | params).fit(X, y, **arguments)
    tables = read_tables(model)
    assert np.isfinite(tables).all()
    assert (tables[:, :, 2:].std(axis=2) > 0.1).all()
    assert np.isfinite(model.predict_proba(X)).all()


def test_unknown_and_missing_levels():
    X, y = make_table()
    missing = X.assign(many=X["many"].where(np.arange(600) % 10 > 0))
    model = DeepBinaryClassifier(**FEW).fit(missing, y)
    tables = read_tables(model)
    assert (tables[:, :, 0] == 0.0).all()
    assert (tables[:, :, 1, 1] > 0.8).all()
    others = X.iloc[:5].assign(many=pd.Categorical(["level 3", "new", None, "also new", "new"]))
    logits = model.decision_function(others.assign(x=0.0, few=others["few"].iloc[0]))
    assert logits[1] == logits[3] == logits[4]
    assert len(np.unique(logits)) == 3


def test_copies_of_a_row_are_held_out_together():
    X, y = make_table(300)
    model = DeepBinaryClassifier(**FEW).fit(pd.concat([X, X]), np.append(y, y))
    halves = model.oof_decision_function_.reshape(2, 300)
    assert np.isfinite(halves).all()
    assert np.abs(halves[0] - halves[1]).mean() < np.abs(halves).mean()


def test_the_result_does_not_depend_on_threads():
    X, y = make_table()
    one, two = (DeepBinaryClassifier(**FEW, n_jobs=n).fit(X, y) for n in (1, 2))
    assert_array_equal(one.params_, two.params_)


def test_pickled_models_predict_the_same():
    X, y = make_table()
    model = DeepBinaryClassifier(**FEW).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert_array_equal(model.without_training_state().predict_proba(X), model.predict_proba(X))


def test_skops_keeps_the_statistics():
    io = pytest.importorskip("skops.io")
    X, y = make_table()
    model = DeepBinaryClassifier(**FEW).fit(X, y)
    written = io.dumps(model)
    copy = io.loads(written, trusted=io.get_untrusted_types(data=written))
    assert_array_equal(copy.predict_proba(X), model.predict_proba(X))


def test_onnx_keeps_the_statistics():
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("skdnn.onnx")
    X, y = make_table()
    model = DeepBinaryClassifier(**FEW).fit(X, y)
    new = X.assign(many=X["many"].cat.add_categories("new").where(np.arange(600) > 9, "new"))
    session = onnxruntime.InferenceSession(onnx.to_onnx(model).SerializeToString())
    found = session.run(["probabilities"], onnx.make_inputs(session, new))[0]
    assert_allclose(found, model.predict_proba(new), atol=1e-5)


def test_contributions_add_up_to_the_logit():
    X, y = make_table()
    model = DeepBinaryClassifier(**FEW).fit(X, y)
    explanation = model.explain(X[:20], X[300:310])
    total = explanation.values.sum(axis=1) + explanation.base_values
    assert_allclose(total, model.decision_function(X[:20]), atol=1e-4)
    assert (model.feature_importances_ > 0.0).all()
    assert np.isnan(model.input_gradients(X[:3])).tolist() == [[False, True, True]] * 3


def test_a_warm_start_goes_on_exactly():
    X, y = make_table()
    params = FEW | {"learning_rate": "constant", "n_iter_no_change": np.inf}
    whole = DeepBinaryClassifier(**params | {"max_iter": 6}).fit(X, y)
    model = DeepBinaryClassifier(**params, warm_start=True).fit(X, y).fit(X, y)
    assert_array_equal(model.params_, whole.params_)


def test_a_warm_start_on_other_rows_takes_their_statistics():
    X, y = make_table()
    model = DeepBinaryClassifier(**FEW, warm_start=True).fit(X, y)
    before = read_tables(model).copy()
    model.fit(X[:300], y[:300])
    after = read_tables(model)
    # of all rows: a member knows half as many
    assert after[:, 0, :, 1].mean() < 0.8 * before[:, 0, :, 1].mean()
    with pytest.raises(ValueError, match="same network, but target_encoded changed"):
        model.set_params(target_encoding=None).fit(X, y)


def test_later_parts_leave_the_statistics_as_they_are():
    X, y = make_table()
    assert read_tables(DeepBinaryClassifier(**FEW).partial_fit(X, y, [0, 1])) is None
    model = DeepBinaryClassifier(**FEW).fit(X, y)
    before, weights = read_tables(model).copy(), model.params_.copy()
    model.partial_fit(X[:200], y[:200])
    assert_array_equal(read_tables(model), before)
    assert (model.params_ != weights).any()


def test_a_table_of_the_user_is_not_changed():
    X, y = make_table()
    encoded = TabularEncoder().fit_transform(X)
    before = encoded.copy()
    model = DeepBinaryClassifier(**FEW).fit(encoded, y)
    assert read_tables(model) is not None
    assert_array_equal(encoded, before)
