"""Files of fitted models: skops and pickle, plain data, formats, memory-mapped weights."""

import pickle
import tracemalloc
import zipfile
from copy import copy, deepcopy
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops import io as skops_io

import skdnn
from skdnn import DeepBinaryClassifier, TabularEncoder
from skdnn.nn.activations import ACTIVATIONS
from skdnn.optim.schedules import SCHEDULES
from skdnn.optim.solvers import SOLVERS

CLASSIFIER = "skdnn.classifier.DeepBinaryClassifier"
ENCODER = "skdnn.preprocessing.encoder.TabularEncoder"
OWN_ENCODER = "skdnn.estimator.encoders.OwnEncoder"
SPARSE_SCALER = "skdnn.preprocessing.scaling.SparseScaler"


def through_skops(estimator, *, types):
    """Return what skops loads again, after a look at what it wants to have trusted."""
    dumped = skops_io.dumps(estimator)
    untrusted = skops_io.get_untrusted_types(data=dumped)
    assert {name for name in untrusted if not name.startswith("sklearn.")} == types
    return skops_io.loads(dumped, trusted=untrusted)


def through_pickle(estimator, *, types):
    return pickle.loads(pickle.dumps(estimator))


each_way = pytest.mark.parametrize("save_and_load", [through_skops, through_pickle])

RNG = np.random.default_rng(0)
N = 120
COLUMNS = {
    "numbers": RNG.normal(size=N),
    "numbers with gaps": np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(size=N)),
    "two numbers": RNG.integers(0, 2, N) * 4.0,
    "one number": np.ones(N),
    "no number": np.full(N, np.nan),
    "booleans": RNG.integers(0, 2, N).astype(bool),
    "booleans with gaps": RNG.choice(np.array([True, False, None], object), N),
    "booleans among numbers": pd.Categorical(RNG.choice(np.array([True, 1, 0, 2.5], object), N)),
    "strings": RNG.choice(np.array([*"abcdefghijkl", None], object), N),
    "strings and numbers": RNG.choice(np.array(["a", 7, 2.5, None], object), N),
    "whole numbers": pd.Categorical(RNG.integers(0, 20, N)),
    "bytes": pd.Categorical(RNG.choice(np.array([b"a", b"\xff"], object), N)),
    "pairs": pd.Series([("a", int(i)) for i in RNG.integers(0, 3, N)]),
    "no level": pd.Categorical([None] * N, categories=["a"]),
}


@each_way
@pytest.mark.filterwarnings("ignore::UserWarning")  # of odd columns
@pytest.mark.parametrize("names", [*([name] for name in COLUMNS), list(COLUMNS)], ids=str)
def test_encoders_encode_as_before(save_and_load, names):
    table = pd.DataFrame({name: COLUMNS[name] for name in names})
    encoder = TabularEncoder().fit(table)
    loaded = save_and_load(encoder, types={ENCODER})
    np.testing.assert_array_equal(loaded.transform(table), encoder.transform(table))
    new = table[:4].copy()
    for name in names:
        new[name] = pd.Series([None, "never seen", False, 0], dtype=object)
        if not encoder.is_categorical_[names.index(name)]:
            new[name] = [np.nan, 1e9, -1.0, 0.0]
    np.testing.assert_array_equal(loaded.transform(new), encoder.transform(new))
    for levels, before in zip(loaded.categories_, encoder.categories_, strict=True):
        assert levels == before
        assert list(map(type, levels or [])) == list(map(type, before or []))
    assert vars(loaded).keys() == vars(encoder).keys()


@each_way
@pytest.mark.filterwarnings("ignore::UserWarning")  # of odd columns
def test_encoders_learn_on_from_a_file(save_and_load):
    table = pd.DataFrame(COLUMNS).drop(columns=["pairs", "bytes"])
    encoder, loaded = TabularEncoder(), TabularEncoder()
    for part in (table[:50], table[50:80], table[80:]):
        encoder.partial_fit(part)
        loaded = save_and_load(loaded.partial_fit(part), types={ENCODER})
    np.testing.assert_array_equal(loaded.transform(table), encoder.transform(table))
    assert loaded.categories_ == encoder.categories_


def test_state_of_an_encoder_has_no_keys_but_strings():
    """Text formats would make strings of others, and of False something that is true."""

    def check(value):
        if isinstance(value, dict):
            assert all(type(key) is str for key in value)
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, dict | list):
                check(part)
            else:
                assert part is None or isinstance(part, str | int | float | tuple | np.ndarray)

    check(TabularEncoder().fit(pd.DataFrame(COLUMNS)[["booleans", "strings"]]).__getstate__())


def test_encoder_of_another_format_says_so():
    state = TabularEncoder().fit(np.eye(3)).__getstate__()
    newer = state | {"skdnn_format": state["skdnn_format"] + 1, "skdnn_version": "9.8.7"}
    older = state | {"skdnn_format": 0, "skdnn_version": "0.0.1"}
    with pytest.raises(ValueError, match=r"written by skdnn 9\.8\.7 in format 2.*Upgrade skdnn"):
        TabularEncoder().__setstate__(newer)
    with pytest.raises(ValueError, match=r"Load it with skdnn==0\.0\.1, or fit it again"):
        TabularEncoder().__setstate__(older)
    del state["skdnn_format"], state["skdnn_version"]
    with pytest.raises(ValueError, match=r"This TabularEncoder was written by .* before 0\.1\.0"):
        TabularEncoder().__setstate__(state)


# ---- the classifier

TABLE = pd.DataFrame(COLUMNS)[["numbers", "numbers with gaps", "booleans", "strings"]]
NUMBERS = np.column_stack([COLUMNS["numbers"], COLUMNS["two numbers"]])
UNKNOWN = TABLE[:5].assign(strings=["never seen", None, "a", "b", "never seen either"])
Y = (NUMBERS.sum(axis=1) + RNG.normal(size=N) > 2.0).astype(int)
FEW = {"hidden_layer_sizes": (4,), "n_members": 2, "max_iter": 2, "random_state": 0}

MODELS = {
    "defaults": ({}, TABLE),
    "float64": ({"dtype": "float64"}, TABLE),
    "polars": ({}, pl.DataFrame({"a": NUMBERS[:, 0], "b": COLUMNS["strings"].tolist()})),
    "numbers": ({}, NUMBERS),
    "numbers as categories": ({"categorical_features": range(1, 2)}, NUMBERS),
    "columns of other names": ({}, pd.DataFrame(NUMBERS, columns=[("a", 1), 7])),
    "no encoder": ({"encoder": None}, NUMBERS),
    "own encoder": ({"encoder": StandardScaler()}, NUMBERS),
    "fitted encoder": ({"encoder": FrozenEstimator(TabularEncoder().fit(TABLE))}, TABLE),
    "encoder within": (
        {
            "encoder": ColumnTransformer(
                [
                    ("a", TabularEncoder(), ["numbers", "strings"]),
                    ("b", "passthrough", ["booleans"]),
                ]
            )
        },
        TABLE,
    ),
    "sparse": ({}, csr_array(NUMBERS * (RNG.random(NUMBERS.shape) < 0.4) * 100.0)),
    "class weights": ({"class_weight": {False: 1.0, True: 3.0}}, NUMBERS),
    "random state": ({"random_state": np.random.RandomState(3)}, NUMBERS),
    "one member": ({"n_members": 1}, TABLE),
    "one member and a score": (
        {"n_members": 1, "early_stopping": True, "scoring": "roc_auc"},
        NUMBERS,
    ),
    "deep": ({"hidden_layer_sizes": (4, 4), "residual": True, "normalization": "batch"}, NUMBERS),
    "calibrated": ({"calibration": "temperature"}, TABLE),
    "focal": ({"loss": "focal"}, NUMBERS),
    **{str(kind): ({"numeric_embedding": kind}, TABLE) for kind in ("periodic", "piecewise", None)},
    **{f"solver {name}": ({"solver": name}, NUMBERS) for name in SOLVERS},
    "solver lbfgs": ({"solver": "lbfgs", "max_iter": 30}, NUMBERS),
    **{f"rate {name}": ({"solver": "sgd", "learning_rate": name}, NUMBERS) for name in SCHEDULES},
    **{f"activation {name}": ({"activation": name}, NUMBERS) for name in ACTIVATIONS},
}
TYPES = {
    "no encoder": {CLASSIFIER},
    "own encoder": {CLASSIFIER, OWN_ENCODER},
    "encoder within": {CLASSIFIER, OWN_ENCODER, ENCODER},
    "sparse": {CLASSIFIER, SPARSE_SCALER},
}
LABELS = {"class weights": Y == 1, "numbers": np.where(Y == 1, "yes", "no")}


def predict(model, table):
    return [model.decision_function(rows) for rows in (table, table[:3])]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of few iterations
@pytest.mark.parametrize("name", MODELS)
def test_loaded_models_predict_and_go_on_to_the_bit(name):
    settings, table = MODELS[name]
    y = LABELS.get(name, Y)
    model = DeepBinaryClassifier(**{**FEW, **settings, "warm_start": True}).fit(table, y)
    loaded = through_skops(model, types=TYPES.get(name, {CLASSIFIER, ENCODER}))
    np.testing.assert_equal(predict(loaded, table), predict(model, table))
    assert vars(loaded).keys() == vars(model).keys()
    for attribute in ("history_", "loss_curve_", "validation_scores_", "n_iter_", "class_weight"):
        assert repr(getattr(loaded, attribute)) == repr(getattr(model, attribute)), attribute
    assert loaded.resolved_params_.keys() == model.resolved_params_.keys()
    for one in (loaded, model):
        one.fit(table, y)
    np.testing.assert_array_equal(loaded.params_, model.params_)
    np.testing.assert_equal(predict(loaded, table), predict(model, table))


@each_way
def test_loaded_models_know_the_same_levels(save_and_load):
    model = DeepBinaryClassifier(**FEW).fit(TABLE, Y)
    loaded = save_and_load(model, types={CLASSIFIER, ENCODER})
    np.testing.assert_array_equal(loaded.predict_proba(UNKNOWN), model.predict_proba(UNKNOWN))


@each_way
def test_streams_go_on_to_the_bit(save_and_load):
    model = DeepBinaryClassifier(**FEW, learning_rate="constant")
    loaded = clone(model)
    for part in (slice(0, 60), slice(60, 90), slice(90, N)):
        model.partial_fit(TABLE[part], Y[part], classes=[0, 1])
        loaded.partial_fit(TABLE[part], Y[part], classes=[0, 1])
        loaded = save_and_load(loaded, types={CLASSIFIER, ENCODER})
    np.testing.assert_array_equal(loaded.params_, model.params_)


@each_way
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_networks_of_mlp_classifier_go_on_to_the_bit(save_and_load):
    mlp = MLPClassifier((4,), max_iter=3, random_state=0).fit(NUMBERS, Y)
    model = DeepBinaryClassifier.from_mlp(mlp)
    loaded = save_and_load(model, types={CLASSIFIER})
    np.testing.assert_equal(predict(loaded, NUMBERS), predict(model, NUMBERS))
    for one in (loaded, model):
        one.partial_fit(NUMBERS, Y)
    np.testing.assert_array_equal(loaded.params_, model.params_)


@each_way
@pytest.mark.parametrize("is_fitted", [False, True])
def test_searches_of_pipelines_can_be_loaded(save_and_load, is_fitted):
    model = make_pipeline(StandardScaler(), DeepBinaryClassifier(**FEW))
    search = GridSearchCV(model, {"deepbinaryclassifier__alpha": [0.0, 1.0]}, cv=2)
    if is_fitted:
        search.fit(NUMBERS, Y)
    loaded = save_and_load(search, types={CLASSIFIER, ENCODER} if is_fitted else {CLASSIFIER})
    if not is_fitted:
        loaded, search = loaded.fit(NUMBERS, Y), search.fit(NUMBERS, Y)
    np.testing.assert_equal(predict(loaded, NUMBERS), predict(search, NUMBERS))


def test_model_of_another_format_says_so():
    state = DeepBinaryClassifier(**FEW).fit(NUMBERS, Y).__getstate__()
    with pytest.raises(ValueError, match=r"written by skdnn 9\.8\.7 in format 2.*Upgrade skdnn"):
        DeepBinaryClassifier().__setstate__(
            state | {"skdnn_format": state["skdnn_format"] + 1, "skdnn_version": "9.8.7"}
        )
    with pytest.raises(
        ValueError, match=r"This DeepBinaryClassifier .* before 0\.1\.0.*fit it again"
    ):
        DeepBinaryClassifier().__setstate__(
            {name: value for name, value in state.items() if name != "skdnn_format"}
        )


def test_weights_of_another_network_are_refused():
    state = DeepBinaryClassifier(**FEW).fit(NUMBERS, Y).__getstate__()
    for params in (state["params_"][:1], state["params_"][:, 1:], state["params_"].astype(int)):
        with pytest.raises(ValueError, match=r"DeepBinaryClassifier is damaged.*have the shape"):
            DeepBinaryClassifier().__setstate__(state | {"params_": params})


@pytest.mark.parametrize(
    "name",
    ["_encoder", "_resume", "classes_", "executor", "n_features_in_", "temperature_", "history_"],
)
def test_damaged_attributes_are_refused(name):
    state = DeepBinaryClassifier(**FEW).fit(TABLE, Y).__getstate__()
    missing = {key: value for key, value in state.items() if key != name}
    for damaged in (missing, state | {name: ()}):
        with pytest.raises(ValueError, match=r"This DeepBinaryClassifier is damaged"):
            DeepBinaryClassifier().__setstate__(damaged)


def shorten_labels(state):
    state["labels"].pop()


def drop_columns(state):
    del state["columns"]


def shorten_table(state):
    category = state["columns"]["categories"][0]
    category["table"] = category["table"][1:]


def count_rows_by_text(state):
    state["columns"]["categories"][0]["n_rows"] = "120"


@pytest.mark.parametrize(
    "damage", [shorten_labels, drop_columns, shorten_table, count_rows_by_text]
)
def test_damaged_encoders_are_refused(damage):
    state = deepcopy(TabularEncoder().fit(TABLE).__getstate__())
    damage(state)
    with pytest.raises(ValueError, match=r"This TabularEncoder is damaged"):
        TabularEncoder().__setstate__(state)


def drop_progress(packed):
    del packed["progress"]["waited"]


def drop_streams(packed):
    del packed["dropout"][1:]


def damage_stream(packed):
    packed["shuffling"][0] = {"bit_generator": "MT19937"}


def add_something(packed):
    packed["else"] = 1


def make_text(packed):
    packed["progress"]["running"] = "all"


def count_by_text(packed):
    packed["progress"]["n_epochs"] = "2"


def count_by_nothing(packed):
    packed["n_samples_seen"] = None


DAMAGES = [drop_progress, drop_streams, damage_stream, add_something]
DAMAGES += [make_text, count_by_text, count_by_nothing]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_training_state_is_refused(damage):
    model = DeepBinaryClassifier(**FEW, warm_start=True).fit(NUMBERS, Y)
    before = model.params_.copy()
    damage(model._resume)
    loaded = pickle.loads(pickle.dumps(model))
    with pytest.raises(
        ValueError, match=r"training state of this model is damaged.*warm_start=False"
    ):
        loaded.fit(NUMBERS, Y)
    np.testing.assert_array_equal(loaded.params_, before)
    assert loaded.set_params(warm_start=False).fit(NUMBERS, Y).score(NUMBERS, Y) > 0.5


def test_progress_of_another_shape_is_not_gone_on_with():
    model = DeepBinaryClassifier(**FEW, warm_start=True).fit(NUMBERS, Y)
    progress = model._resume["progress"]
    progress["lowest"] = progress["lowest"][:1]
    model.fit(NUMBERS, Y)
    assert model._resume["progress"]["n_epochs"] == 2


# ---- without what training needs


def test_small_copy_predicts_the_same():
    model = DeepBinaryClassifier(**FEW, warm_start=True).fit(TABLE, Y)
    small = model.without_training_state()
    np.testing.assert_equal(predict(small, TABLE), predict(model, TABLE))
    np.testing.assert_array_equal(small.predict(UNKNOWN), model.predict(UNKNOWN))
    assert small.get_params() == clone(small).get_params() == model.get_params()
    assert small.history_ == model.history_
    assert hasattr(model, "oof_decision_function_")
    assert not hasattr(small, "oof_decision_function_")
    model.fit(TABLE, Y)  # which is whole


@each_way
def test_small_copy_is_little_larger_than_the_weights(save_and_load):
    X = np.random.default_rng(0).normal(size=(1_000, 20))
    model = DeepBinaryClassifier(max_iter=1, random_state=0).fit(X, X[:, 0] > 0)
    small = model.without_training_state()
    dump = pickle.dumps if save_and_load is through_pickle else skops_io.dumps
    assert len(dump(small)) < 1.3 * model.params_.nbytes < 0.25 * len(dump(model))
    loaded = save_and_load(small, types={CLASSIFIER, ENCODER})
    np.testing.assert_equal(predict(loaded, X), predict(model, X))


def test_training_does_not_go_on_from_a_small_copy():
    model = DeepBinaryClassifier(**FEW, warm_start=True).fit(NUMBERS, Y)
    small = pickle.loads(pickle.dumps(model.without_training_state()))
    before = small.params_.copy()
    for go_on in (small.fit, small.partial_fit):
        with pytest.raises(
            ValueError, match=r"without_training_state\(\).*moments.*warm_start=False"
        ):
            go_on(NUMBERS, Y)
    np.testing.assert_array_equal(small.params_, before)
    small.set_params(warm_start=False).fit(NUMBERS, Y)
    whole = clone(model).fit(NUMBERS, Y)
    np.testing.assert_array_equal(small.params_, whole.params_)
    small.partial_fit(NUMBERS, Y)  # a fit has a state again


def test_small_copy_of_nothing_is_refused():
    with pytest.raises(NotFittedError):
        DeepBinaryClassifier().without_training_state()


@pytest.mark.parametrize("copied", [copy, deepcopy])
def test_copies_are_whole(copied):
    model = DeepBinaryClassifier(**FEW, warm_start=True).fit(TABLE, Y)
    other = copied(model)
    for one in (other, model):
        one.fit(TABLE, Y)
    np.testing.assert_array_equal(other.params_, model.params_)


# ---- weights in a file that processes share


def test_weights_stay_in_the_file(tmp_path):
    settings = {**FEW, "warm_start": True, "dtype": "float32"}
    model = DeepBinaryClassifier(**settings).fit(TABLE, Y)
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    weights = loaded.params_
    assert isinstance(weights, np.memmap)
    assert not weights.flags.writeable
    many = pd.concat([TABLE] * 4)
    for table in (TABLE[:1], many, UNKNOWN):
        np.testing.assert_array_equal(loaded.predict_proba(table), model.predict_proba(table))
    assert loaded.params_ is weights
    assert all(isinstance(view.base, np.memmap) for view in loaded.coefs_[:1])
    again = through_skops(loaded, types={CLASSIFIER, ENCODER})
    for one in (loaded, model, again):
        one.fit(TABLE, Y)
        assert type(one.params_) is np.ndarray
        np.testing.assert_array_equal(one.params_, model.params_)
    through_skops(loaded, types={CLASSIFIER, ENCODER})


def test_predictions_take_less_memory_than_weights_in_a_file(monkeypatch, tmp_path):
    """One member after the other, where the memory that all need together is not kept."""
    monkeypatch.setattr("skdnn.training.prediction.LARGEST_KEPT", 1 << 20)
    settings = {**FEW, "hidden_layer_sizes": (512, 512), "n_members": 8, "max_iter": 1}
    model = DeepBinaryClassifier(**settings).fit(NUMBERS, Y).without_training_state()
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    tracemalloc.start()
    probability = loaded.predict_proba(NUMBERS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * loaded.params_.nbytes
    np.testing.assert_array_equal(probability, model.predict_proba(NUMBERS))


# ---- files of releases

FILES = Path(__file__).parent / "files"


def make_stored_table():
    """Return a table of numbers, gaps, strings and booleans, and labels; without a random one."""
    i = np.arange(80)
    table = pd.DataFrame(
        {
            "number": np.sin(i) * 10.0 ** (i % 4),
            "gaps": np.where(i % 7 == 0, np.nan, i % 11),
            "levels": [None if n % 13 == 0 else "abcdefghijkl"[n * n % 12] for n in i.tolist()],
            "few levels": ["xyz"[n % 3] for n in i.tolist()],
            "is_odd": i % 2 == 1,
        }
    )
    return table, np.where(np.sin(i) + (i % 2) > 0.4, "yes", "no")


def write_files():
    """Write the files of this release, and what the model in them predicts."""
    table, y = make_stored_table()
    model = DeepBinaryClassifier(**FEW, warm_start=True).fit(table, y)
    name = f"{FILES}/model-{skdnn.__version__}"
    skops_io.dump(model, f"{name}.skops", compression=zipfile.ZIP_DEFLATED)
    Path(f"{name}.pickle").write_bytes(pickle.dumps(model))
    np.save(f"{name}.npy", model.predict_proba(table))


@pytest.mark.parametrize(
    "path", sorted(set(FILES.iterdir()) - set(FILES.glob("*.npy"))), ids=lambda path: path.name
)
def test_files_of_releases_can_be_read(path):
    """Written by `cd tests && python -c "import test_files; test_files.write_files()"`.

    Before a release; those of earlier ones stay.
    """
    table, y = make_stored_table()
    if path.suffix == ".skops":
        types = skops_io.get_untrusted_types(file=path)
        assert set(types) == {CLASSIFIER, ENCODER}
        model = skops_io.load(path, trusted=types)
    else:
        model = pickle.loads(path.read_bytes())
    expected = np.load(path.with_suffix(".npy"))
    np.testing.assert_allclose(model.predict_proba(table), expected, rtol=0, atol=1e-6)
    weights = model.params_.copy()
    assert not np.array_equal(model.fit(table, y).params_, weights)  # it goes on


def test_there_are_files_of_releases():
    assert {path.suffix for path in FILES.iterdir()} == {".skops", ".pickle", ".npy"}


@pytest.mark.parametrize("make", [DeepBinaryClassifier, TabularEncoder])
def test_parameters_that_are_newer_than_a_file_have_their_defaults(make):
    estimator = make(categorical_features=[0])
    state = estimator.__getstate__()
    missing = next(name for name in estimator.get_params() if name != "categorical_features")
    del state[missing]
    loaded = make(**{missing: 7})
    vars(loaded).clear()
    loaded.__setstate__(state)
    assert loaded.get_params() == estimator.get_params()
