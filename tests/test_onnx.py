"""ONNX: onnxruntime predicts what the model predicts, of each part and of each kind of column."""

import json

import numpy as np
import pytest
from data import classifier
from scipy import sparse, special
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import skdnn
from skdnn import DeepBinaryClassifier, TabularEncoder
from skdnn.nn import Branch, Concatenate, Dense, FeatureScaling, Layer, LayerNorm, Residual
from skdnn.nn.activations import ACTIVATIONS
from skdnn.nn.functions import concat, maximum, mean, ones_like, where
from skdnn.onnx import MISSING_STRING, make_inputs, to_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3))
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)


def open_session(onnx_model):
    onnx.checker.check_model(onnx_model, full_check=True)
    return onnxruntime.InferenceSession(
        onnx_model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def check_same(model, X, onnx_model=None, inputs=None):
    """Compare predictions of all rows, and of one."""
    session = open_session(onnx_model or to_onnx(model))
    for n_rows in (len(X), 1):
        rows = X.iloc[:n_rows] if hasattr(X, "iloc") else X[:n_rows]
        given = inputs and {name: array[:n_rows] for name, array in inputs.items()}
        label, probabilities = session.run(None, given or make_inputs(session, rows))
        np.testing.assert_allclose(probabilities, model.predict_proba(rows), rtol=0, atol=2e-6)
        assert label.tolist() == model.predict(rows).tolist()
    return session


class Spread(Layer):
    """Use what formulas are made of, beyond what our own layers do."""

    def n_out(self, n_in):
        return 2 * n_in

    def forward(self, x, p, ctx):
        centred = x - mean(x, axis=1, keepdims=True)
        steps = where(x > 0.0, ones_like(x), -1.0 * (x <= 0.0)) * (x != 2.0)
        mixed = maximum(centred, steps[:, ::1]) ** 3 / (1.0 + abs(x))
        return concat([mixed, (x[:, 1:] * x[:, :1]).sum(axis=1)[:, None] + x], axis=1)

    def backward(self, grad_y, x, p, ctx):
        return grad_y[:, : x.shape[1]], {}


class OwnActivation:
    """An activation of its user's own, and what it is asked not to be."""

    def __init__(self, value):
        self._value = value

    def value(self, z):
        return self._value(z)

    def derivative(self, z):
        return np.ones_like(z)


NETWORKS = {
    **{name: {"activation": name} for name in ACTIVATIONS},
    "own activation": {"activation": OwnActivation(lambda z: np.exp(-z * z) + np.sign(z))},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "batch": {"normalization": "batch", "dropout": 0.2},
    "layer": {"normalization": "layer"},
    "residual": {"hidden_layer_sizes": (6, 6, 6), "residual": True},
    "members": {"n_members": 3, "normalization": "batch"},
    "float64": {"dtype": "float64", "activation": "gelu"},
    "periodic": {"encoder": "auto", "numeric_embedding": "periodic", "n_members": 2},
    "piecewise": {"encoder": "auto", "numeric_embedding": "piecewise"},
    "mixed": {"encoder": "auto", "numeric_embedding": "mixed", "n_members": 3},
    "float64 mixed": {"encoder": "auto", "dtype": "float64", "n_members": 2},
    "own layer": {"hidden_layer_sizes": (Spread(), 4), "n_members": 2},
    "layers": {
        "hidden_layer_sizes": (
            Concatenate((Branch(1, (Dense(2),)), Branch(2))),
            Residual((Dense(4), LayerNorm())),
            FeatureScaling(),
        )
    },
}


@pytest.mark.parametrize("parameters", NETWORKS.values(), ids=NETWORKS)
def test_networks_of_all_parts(parameters):
    check_same(classifier(max_iter=2).set_params(**parameters).fit(X, Y), X)


def test_the_default_and_its_temperature():
    model = DeepBinaryClassifier(max_iter=2, random_state=0).fit(X, Y)
    model.temperature_ = 1.7
    session = check_same(model, X)
    assert session.get_modelmeta().producer_name == "skdnn"


def test_a_table_that_is_multiplied_only_is_not_copied_for_each_member():
    model = classifier(n_members=2, encoder=None, max_iter=1).fit(X, Y)
    assert "Expand" not in {node.op_type for node in to_onnx(model).graph.node}
    check_same(model, X)


CLASSES = {
    "int": np.array([-3, 7]),
    "string": np.array(["dry", "rain"]),
    "object": np.array(["dry", "rain"], dtype=object),
    "bool": np.array([False, True]),
    "object bool": np.array([False, True], dtype=object),
    "float": np.array([0.0, 1.0]),
}


@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
def test_labels_are_those_of_the_model(classes):
    session = check_same(classifier(max_iter=1).fit(X, classes[Y]), X)
    label = session.run(["label"], {"X": X})[0]
    dtype = np.array(classes.tolist()).dtype
    assert label.dtype == (object if dtype.kind == "U" else dtype)


# ---- tables

LEVELS = [f"level {i}" for i in range(12)]
FIT_COLUMNS = {
    "number": lambda n: RNG.normal(size=n) * 1e5 + 3e9,
    "huge": lambda n: RNG.choice([-1.7e308, 1.0, 1.2e308], n) * RNG.random(n),
    "missing": lambda n: np.where(RNG.random(n) < 0.3, np.nan, RNG.normal(size=n)),
    "step": lambda n: RNG.choice([2.0, 5.0], n),
    "constant": lambda n: np.full(n, 4.0),
    "no value": lambda n: np.full(n, np.nan),
    "flag": lambda n: RNG.random(n) < 0.5,
    "pair": lambda n: RNG.choice(["no", "yes"], n),
    "few": lambda n: RNG.choice(["a", "b", "None", None], n, p=[0.4, 0.3, 0.2, 0.1]),
    "many": lambda n: RNG.choice(LEVELS, n),
    "numbers as levels": lambda n: pd.Categorical(RNG.choice([10, 20, 1 << 40], n)),
    "floats as levels": lambda n: pd.Categorical(RNG.choice([0.1, 0.1 + 1e-12, 7.0], n)),
    "no level": lambda n: pd.Series([None] * n, dtype="category"),
    "rare": lambda n: [f"{i}" for i in range(n)],
}


@pytest.fixture(scope="module")
def mixed():
    """Return a table with columns of each kind, and a model of it."""
    table = pd.DataFrame({name: make(200) for name, make in FIT_COLUMNS.items()})
    y = (table["number"] > 3e9) ^ (table["pair"] == "yes")
    model = classifier(encoder="auto", n_members=2, max_iter=3)
    with pytest.warns(UserWarning, match="Columns"):
        model.fit(table, y)
    return model, table


def spoil(table, how):
    table = table.copy()
    if how == "missing":
        for i, name in enumerate(table):
            values = table[name].astype(object)
            table[name] = values.where(np.arange(len(table)) % 3 != i % 3, None)
    elif how == "unknown":
        for name in ("pair", "few", "many"):
            table[name] = table[name].where(np.arange(len(table)) % 2 == 0, "some other")
        for name in ("numbers as levels", "floats as levels"):
            table[name] = table[name].astype(float) + (np.arange(len(table)) % 2) * 1e-7
    elif how == "far":
        for name in ("number", "step", "constant", "missing"):
            table[name] = np.where(np.arange(len(table)) % 2, 1e308, -1e308)
    return table


@pytest.mark.parametrize("n_members", [1, 2])
@pytest.mark.parametrize("n_columns", [1, 2, 3, 6])
def test_any_number_of_categories_and_of_numbers(n_columns, n_members):
    for n_numbers in (0, 1, 4):
        frame = pd.DataFrame(RNG.normal(size=(80, n_numbers))).add_prefix("x")
        for j in range(n_columns):
            frame[f"c{j}"] = pd.Categorical(RNG.integers(0, 2 + 3 * j, 80).astype(str))
        model = classifier(max_iter=2, encoder="auto", n_members=n_members)
        check_same(model.fit(frame, Y), frame)


@pytest.mark.parametrize("how", ["as it is", "missing", "unknown", "far"])
@pytest.mark.filterwarnings("ignore:In columns")
def test_tables_with_columns_of_all_kinds(mixed, how):
    model, table = mixed
    check_same(model, spoil(table, how))


def test_inputs_are_columns_by_name(mixed):
    model, table = mixed
    onnx_model = to_onnx(model)
    session = open_session(onnx_model)
    types = {tensor.name: tensor.type for tensor in session.get_inputs()}
    assert list(types) == list(table)
    strings = {"pair", "few", "many", "no level", "rare"}
    assert {name for name, kind in types.items() if kind == "tensor(string)"} == strings
    properties = {entry.key: entry.value for entry in onnx_model.metadata_props}
    assert json.loads(properties["feature_names"]) == list(table)
    assert onnx_model.producer_version == skdnn.__version__


@pytest.mark.parametrize("marker", [MISSING_STRING, None, np.nan, "<NA>"])
def test_missing_strings_are_read_as_such(mixed, marker):
    model, table = mixed
    session = open_session(to_onnx(model))
    rows = table.iloc[:5].assign(many=None, few=None)
    inputs = make_inputs(session, rows)
    inputs["many"] = np.array([[marker]] * 5, dtype=object)
    probabilities = session.run(["probabilities"], inputs)[0]
    np.testing.assert_allclose(probabilities, model.predict_proba(rows), atol=2e-6)


def test_a_level_called_none_is_a_level():
    table = pd.DataFrame({"a": ["None", "x"] * 40})
    model = classifier(encoder="auto").fit(table, [0, 1] * 40)
    session = check_same(model, table)
    label = session.run(["label"], {"a": np.array([["None"], ["x"]], dtype=object)})[0]
    assert label.tolist() == [0, 1]


BAD_LEVELS = {
    "empty": (["", "x"], "'', which stands for a missing value"),
    "types": ([1, "x"], "of the types number, str"),
    "bytes": ([b"x", b"y"], "of the types bytes"),
    "long": ([2**60, 2**60 + 1], "numbers too close"),
}


@pytest.mark.parametrize(("levels", "message"), BAD_LEVELS.values(), ids=BAD_LEVELS)
def test_levels_that_no_tensor_holds_are_named(levels, message):
    table = pd.DataFrame({"a": pd.Series(levels * 20, dtype="object").astype("category")})
    model = classifier(encoder="auto", max_iter=1).fit(table, [0, 1] * 20)
    with pytest.raises(ValueError, match=f"Column 'a' .*{message}"):
        to_onnx(model)


def test_levels_beyond_utf_8_are_named():
    table = np.array([["\ud800"], ["x"]] * 20, dtype=object)
    model = classifier(encoder="auto", categorical_features=[0], max_iter=1)
    with pytest.raises(ValueError, match=r"Column 0 .*UTF-8"):
        to_onnx(model.fit(table, [0, 1] * 20))


@pytest.mark.parametrize("name", ["label", ""])
def test_names_that_inputs_cannot_have_are_named(name):
    table = pd.DataFrame({name: ["x", "y"] * 20})
    model = classifier(encoder="auto", max_iter=1).fit(table, [0, 1] * 20)
    with pytest.raises(ValueError, match=rf"rename \['{name}'\] before fit"):
        to_onnx(model)


def test_columns_may_have_the_names_of_nodes():
    table = pd.DataFrame({"a": ["x", "y"] * 20, "b": range(40)})
    model = classifier(encoder="auto", max_iter=1).fit(table, [0, 1] * 20)
    name = to_onnx(model).graph.node[0].output[0]
    table.columns = [name, "b"]
    check_same(classifier(encoder="auto", max_iter=1).fit(table, [0, 1] * 20), table)


def test_levels_beyond_64_bits_are_written():
    table = pd.DataFrame({"a": pd.Categorical(np.array([2**64 - 1, 5, 7] * 20, np.uint64))})
    check_same(classifier(encoder="auto", max_iter=1).fit(table, [0, 1, 1] * 20), table)


@pytest.mark.parametrize("encoder", ["auto", None])
def test_rows_that_the_model_refuses_have_no_probability(encoder):
    model = classifier(encoder=encoder, activation="relu", max_iter=1).fit(X, Y)
    rows = np.vstack([X[:2], [np.inf, 0.0, 0.0], [0.0, -np.inf, 0.0]])
    probabilities = open_session(to_onnx(model)).run(["probabilities"], {"X": rows})[0]
    assert np.isnan(probabilities).all(axis=1).tolist() == [False, False, True, True]


def test_sparse_tables_become_dense_inputs():
    table = sparse.random(60, 4, density=0.3, random_state=0, format="csr")
    table = table @ sparse.diags_array([1.0, 1.0, 500.0, 1.0], format="csr")
    model = classifier(encoder="auto", max_iter=2).fit(table, Y[:60])
    session = open_session(to_onnx(model))
    probabilities = session.run(["probabilities"], {"X": table.toarray()})[0]
    np.testing.assert_allclose(probabilities, model.predict_proba(table), atol=2e-6)


def test_frozen_encoders_are_written():
    encoder = FrozenEstimator(TabularEncoder().fit(X))
    check_same(classifier(encoder=encoder).fit(X, Y), X)


# ---- what cannot be written

UNTRACEABLE = {
    "scipy": special.ndtr,
    "branch": lambda z: z if z.sum() > 0 else -z,
    "rows": lambda z: z - mean(z, axis=0),
    "all rows": lambda z: z - z.sum(),
    "shares": lambda z: z * np.full(z.shape, 1.0 / len(z)),
    "first row": lambda z: z - z[:1],
    "last row": lambda z: z - z[-1],
    "next row": lambda z: concat([z[1:, :2], z[:1, :2]]).sum(axis=1, keepdims=True) * z,
}


@pytest.mark.parametrize("value", UNTRACEABLE.values(), ids=UNTRACEABLE)
def test_a_formula_that_cannot_be_written_is_named(value):
    model = classifier(activation=OwnActivation(value), max_iter=1).fit(X, Y)
    with pytest.raises(TypeError, match="cannot be written as ONNX"):
        to_onnx(model)


def test_the_place_of_what_cannot_be_traced_is_told():
    model = classifier(activation=OwnActivation(special.ndtr), max_iter=1).fit(X, Y)
    with pytest.raises(TypeError, match=r"ndtr .*OwnActivation.value in .*test_onnx.py, line \d+"):
        to_onnx(model)


@pytest.mark.parametrize(
    "classes",
    [[1, "rain"], ["\ud800", "rain"], ["rain", "rain\0"], np.array([5, 2**63], np.uint64)],
    ids=["mixed", "surrogate", "NUL", "long"],
)
def test_classes_that_no_tensor_holds_are_refused(classes):
    model = classifier(max_iter=1).fit(X, Y)
    model.classes_ = classes if isinstance(classes, np.ndarray) else np.array(classes, object)
    with pytest.raises(ValueError, match=r"classes must be .* got \["):
        to_onnx(model)


def test_other_estimators_are_refused():
    with pytest.raises(TypeError, match=r"skl2onnx\.convert_sklearn"):
        to_onnx(make_pipeline(StandardScaler(), classifier()).fit(X, Y))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("skdnn.onnx.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs onnx: pip install skdnn\[onnx\]"):
        to_onnx(classifier(max_iter=1).fit(X, Y))


def test_a_table_with_other_columns_is_refused(mixed):
    model, table = mixed
    session = open_session(to_onnx(model))
    with pytest.raises(ValueError, match=r"the 14 columns of the model, got 13"):
        make_inputs(session, table.drop(columns="flag"))
    with pytest.raises(ValueError, match="Column 'pair' of X must hold strings, got 1"):
        make_inputs(session, table.assign(pair=1))
    with pytest.raises(ValueError, match="Column 'flag' of X must hold numbers, got '1'"):
        make_inputs(session, table.assign(flag="1"))
    with pytest.raises(ValueError, match="2-dimensional"):
        make_inputs(session, table["pair"])


# ---- skl2onnx


def convert(model, X, **options):
    skl2onnx = pytest.importorskip("skl2onnx")
    types = skl2onnx.common.data_types
    by_kind = {
        "f": types.DoubleTensorType,
        "O": types.StringTensorType,
        "b": types.BooleanTensorType,
    }
    if isinstance(X, np.ndarray):
        kind = types.FloatTensorType if X.dtype == np.float32 else types.DoubleTensorType
        return skl2onnx.convert_sklearn(
            model, initial_types=[("X", kind([None, X.shape[1]]))], options={"zipmap": False}
        )
    inputs = [(name, by_kind[X[name].to_numpy().dtype.kind]([None, 1])) for name in X]
    return skl2onnx.convert_sklearn(model, initial_types=inputs, options={"zipmap": False})


PIPELINES = {
    "scaler": (StandardScaler(), classifier()),
    "default": (classifier(encoder="auto", numeric_embedding="mixed", n_members=2),),
    "columns": (
        make_column_transformer((StandardScaler(), [0, 1]), remainder="passthrough"),
        classifier(),
    ),
    "encoder": (TabularEncoder(), classifier()),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", PIPELINES.values(), ids=PIPELINES)
def test_pipelines_convert(steps, dtype):
    table = X.astype(dtype)
    model = make_pipeline(*steps).fit(table, Y)
    check_same(model, table, convert(model, table), {"X": table})


def test_raw_scores_of_a_single_network_may_be_large():
    skl2onnx = pytest.importorskip("skl2onnx")
    model = classifier(dtype="float64", max_iter=1).fit(X, Y)
    model.params_[:, -1] += 2000.0
    options = {id(model): {"raw_scores": True, "zipmap": False}}
    onnx_model = skl2onnx.to_onnx(model, X, options=options)
    scores = open_session(onnx_model).run(None, {"X": X})[1]
    np.testing.assert_allclose(scores[:, 1], model.decision_function(X))


def test_estimators_around_it_convert():
    # Calibration goes by the logits, which skl2onnx asks for as raw scores.
    model = CalibratedClassifierCV(classifier(), cv=2).fit(X, Y)
    check_same(model, X, convert(model, X), {"X": X})


def test_pipelines_convert_tables_with_categories():
    table = pd.DataFrame({"a": X[:, 0], "b": np.array(["x", "y", "z", "x"] * 20, dtype=object)})
    table = table.assign(c=Y > 0)
    model = make_pipeline(classifier(encoder="auto")).fit(table, Y)
    inputs = {name: table[[name]].to_numpy() for name in table}
    inputs["b"] = inputs["b"].astype(object)
    typed = table.astype({"b": object})
    check_same(model, table, convert(model, typed), inputs)


@pytest.mark.parametrize("has_missing", [False, True])
def test_own_encoders_are_converted(has_missing):
    pytest.importorskip("skl2onnx")
    table, encoder = X.copy(), StandardScaler()
    if has_missing:
        table[::3, 1], encoder = np.nan, make_pipeline(SimpleImputer(), encoder)
    check_same(classifier(encoder=encoder).fit(table, Y), table)


def test_own_encoders_of_categories_take_initial_types():
    types = pytest.importorskip("skl2onnx").common.data_types
    table = pd.DataFrame({"a": X[:, 0], "b": ["x", "y"] * 40})
    encoder = make_column_transformer((StandardScaler(), ["a"]), (OneHotEncoder(), ["b"]))
    model = classifier(encoder=encoder).fit(table, Y)
    columns = [("a", types.DoubleTensorType([None, 1])), ("b", types.StringTensorType([None, 1]))]
    inputs = {name: table[[name]].to_numpy() for name in table}
    inputs["b"] = inputs["b"].astype(object)
    check_same(model, table, to_onnx(model, columns), inputs)


def test_an_own_encoder_that_cannot_be_converted_is_named():
    pytest.importorskip("skl2onnx")
    encoder = make_pipeline(FunctionTransformer(np.arcsinh), StandardScaler())
    model = classifier(encoder=encoder, max_iter=1).fit(X, Y)
    with pytest.raises(
        ValueError, match=r"(?s)cannot convert the encoder .*FunctionTransformer is not"
    ):
        to_onnx(model)


def test_initial_types_are_for_own_encoders():
    with pytest.raises(ValueError, match="got some for one whose inputs go by its table"):
        to_onnx(classifier(max_iter=1).fit(X, Y), [])


def test_a_target_opset_that_is_too_old_is_refused():
    skl2onnx = pytest.importorskip("skl2onnx")
    tensor = skl2onnx.common.data_types.FloatTensorType([None, 3])
    model = classifier(max_iter=1).fit(X, Y)
    with pytest.raises(ValueError, match="target_opset must be at least 13, got 12"):
        skl2onnx.convert_sklearn(model, initial_types=[("X", tensor)], target_opset=12)
