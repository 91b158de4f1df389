"""`skdnn.callbacks`: what hooks are told, and what the callbacks there make of it."""

import copy
import csv
import pickle
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from data import classifier, make_table
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from trainings import needs_callbacks

from skdnn.callbacks import (
    Callback,
    CSVLogger,
    MLflowLogger,
    OptunaPruning,
    TqdmProgressBar,
    WandbLogger,
)

pytestmark = needs_callbacks

METRICS = ["loss", "penalty", "validation_loss", "validation_score", "learning_rate", "seconds"]
VALIDATED = {"early_stopping": True, "max_iter": 4}


class Recorder(Callback):
    """Keep what each hook is told; stop after some epoch."""

    def __init__(self, stops_after=None):
        self.stops_after, self.told, self.n_predicted = stops_after, [], 0

    def on_fit_begin(self, **told):
        self.told.append(("begin", told))

    def on_epoch_end(self, **told):
        self.told.append(("epoch", told))
        self.n_predicted += len(told["estimator"].predict(make_table()[0]))
        return told["epoch"] == self.stops_after

    def on_fit_end(self, **told):
        self.told.append(("end", told))

    def of(self, hook, name):
        return [told[name] for kind, told in self.told if kind == hook]


# What hooks are told.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        VALIDATED,
        {"solver": "lbfgs", "batch_size": "auto", "tol": 1e-9},
        {"encoder": "auto", "n_members": 5, "early_stopping": "auto", "scoring": "roc_auc"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:L-BFGS ended")
def test_hooks_are_told_of_each_row_of_the_history(settings):
    recorder = Recorder()
    model = classifier(**settings).set_callbacks(recorder).fit(*make_table())
    n = model.n_iter_
    assert [kind for kind, _ in recorder.told] == ["begin", *["epoch"] * n, "end"]
    assert recorder.of("epoch", "epoch") == list(range(1, n + 1))
    for epoch, metrics in enumerate(recorder.of("epoch", "metrics")):
        assert list(metrics) == METRICS
        for name, value in metrics.items():
            known = model.history_[name][epoch] if name in model.history_ else np.nan
            np.testing.assert_equal(value, known)
    assert {m for _, told in recorder.told for m in [told["max_epochs"]]} == {model.max_iter}
    assert all(told["estimator"] is model for _, told in recorder.told)
    assert len({told["fit"] for _, told in recorder.told}) == 1


def test_epochs_count_on_after_warm_starts_and_in_streams():
    X, y = make_table()
    recorder = Recorder(stops_after=2)
    model = classifier(max_iter=4, warm_start=True).set_callbacks(recorder)
    model.fit(X, y).fit(X, y).fit(X, y).partial_fit(X, y)
    assert recorder.of("epoch", "epoch") == list(range(1, 10))
    assert recorder.of("begin", "max_epochs") == [4, 4, 8, 9]
    assert len(set(recorder.of("begin", "fit"))) == 4


@pytest.mark.filterwarnings("ignore:L-BFGS ended")
def test_networks_of_lbfgs_are_told_of_one_after_the_other():
    recorder = Recorder()
    settings = {"solver": "lbfgs", "batch_size": "auto", "n_members": 2, "tol": 1e-9}
    classifier(**settings).set_callbacks(recorder).fit(*make_table())
    assert recorder.of("epoch", "epoch") == [*range(1, 11)]


def test_hooks_get_what_their_signatures_name():
    class Named(Callback):
        def __init__(self):
            self.seen = []

        def on_fit_begin(self, max_epochs):
            self.seen.append(max_epochs)

        def on_epoch_end(self, epoch, *, metrics, **others):
            self.seen.append((epoch, metrics["loss"], sorted(others)))

    callback = Named()
    model = classifier(max_iter=1).set_callbacks(callback).fit(*make_table())
    others = ["estimator", "fit", "max_epochs"]
    assert callback.seen == [1, (1, model.history_["loss"][0], others)]

    class Wrong(Callback):
        def on_epoch_end(self, *, los):
            pass

    with pytest.raises(TypeError, match="'los'"):
        classifier().set_callbacks(Wrong()).fit(*make_table())


def test_other_estimators_are_refused_in_words():
    X, y = make_table()
    model = classifier()
    for other in (LogisticRegression(), GridSearchCV(model, {"alpha": [0.0]}, cv=2)):
        with pytest.raises(TypeError, match=f"DeepBinaryClassifier, got a {type(other).__name__}"):
            other.set_callbacks(Callback()).fit(X, y)


def make_all(folder):
    return [
        Callback(),
        CSVLogger(folder / "log.csv"),
        TqdmProgressBar(disable=True),
        MLflowLogger("run"),
        WandbLogger(),
    ]


def test_callbacks_are_pickled_copied_and_shared_by_clones(tmp_path):
    for callback in make_all(tmp_path):
        for twin in (pickle.loads(pickle.dumps(callback)), copy.deepcopy(callback)):
            assert vars(twin) == vars(callback)
        model = classifier().set_callbacks(callback)
        assert clone(model)._skl_callbacks[0] is callback


# CSV.


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_for_each_epoch_of_all_fits(tmp_path):
    X, y = make_table()
    path = tmp_path / "log.csv"
    with_score = classifier(**VALIDATED).set_callbacks(CSVLogger(path)).fit(X, y)
    without = classifier(max_iter=2).set_callbacks(CSVLogger(str(path))).fit(X, y)
    rows = read_csv(path)
    assert list(rows[0]) == ["fit", "epoch", *METRICS]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "1", "2"]
    assert len({row["fit"] for row in rows}) == 2
    for name in METRICS:
        values = [float(row[name]) if row[name] else np.nan for row in rows]
        known = with_score.history_[name] + without.history_.get(name, [np.nan] * 2)
        np.testing.assert_array_equal(values, known)
    assert rows[-1]["validation_loss"] == ""


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_csv_tells_the_fits_of_a_search_apart(tmp_path, n_jobs):
    X, y = make_table()
    path = tmp_path / "log.csv"
    pipeline = make_pipeline(
        StandardScaler(), classifier(max_iter=3).set_callbacks(CSVLogger(path))
    )
    grid = {"deepbinaryclassifier__alpha": [0.0, 1.0]}
    GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs).fit(X, y)
    rows = read_csv(path)
    epochs = {}
    for row in rows:
        epochs.setdefault(row["fit"], []).append(row["epoch"])
    assert len(epochs) == 5
    assert list(epochs.values()) == [["1", "2", "3"]] * 5


def test_csv_of_other_columns_is_refused_before_training(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n")
    model = classifier().set_callbacks(CSVLogger(path))
    with pytest.raises(ValueError, match="epoch,loss"):
        model.fit(*make_table())
    assert path.read_text() == "epoch,loss\n"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="Take another file"):
        model.fit(*make_table())
    path.write_text("")
    model.fit(*make_table())
    assert len(read_csv(path)) == 5


def test_csv_goes_on_after_an_editor(tmp_path):
    path = tmp_path / "log.csv"
    heading = ",".join(CSVLogger.columns)
    for content in (heading, f"{heading}\r\n"):
        path.write_bytes(content.encode())
        classifier().set_callbacks(CSVLogger(path)).fit(*make_table())
        assert len(read_csv(path)) == 5


# tqdm.


def test_bar_shows_epochs_and_is_closed(capsys):
    X, y = make_table()
    bar = TqdmProgressBar(desc="rain")
    model = classifier(warm_start=True, **VALIDATED).set_callbacks(bar)
    model.fit(X, y)
    shown = capsys.readouterr().err
    assert "rain: 100%" in shown
    assert "4/4 [" in shown
    assert f"validation_loss={model.history_['validation_loss'][-1]:.4f}" in shown
    assert shown.endswith("\n")
    model.fit(X, y)
    assert "8/8 [" in capsys.readouterr().err


def test_bar_is_closed_by_a_failure_and_left_out_of_pickles(capsys):

    class Pickling(Callback):
        def on_epoch_end(self, *, estimator, epoch):
            self.loaded = pickle.loads(pickle.dumps(estimator))
            if epoch == 2:
                raise RuntimeError("no more")

        def __reduce__(self):
            return Callback, ()

    X, y = make_table()
    other = Pickling()
    model = classifier().set_callbacks(TqdmProgressBar(), other)
    with pytest.raises(RuntimeError, match="no more"):
        model.fit(X, y)
    assert capsys.readouterr().err.endswith("\n")
    other.loaded.fit(X, y)
    assert "5/5" in capsys.readouterr().err


@pytest.mark.slow
def test_bar_is_text_in_a_notebook_without_widgets():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    code = """
import sys
import warnings

warnings.simplefilter("error")
sys.modules["ipywidgets"] = None
from sklearn.datasets import make_classification
from skdnn import DeepBinaryClassifier
from skdnn.callbacks import TqdmProgressBar

model = DeepBinaryClassifier(max_iter=3, n_members=2, early_stopping=False, random_state=0)
model.set_callbacks(TqdmProgressBar()).set_params(verbose=True).fit(*make_classification())
"""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    outputs = book.cells[0].outputs
    streams = [output for output in outputs if output.output_type == "stream"]
    shown, printed = (
        "".join(stream.text for stream in streams if stream.name == name)
        for name in ("stderr", "stdout")
    )
    assert "100%" in shown
    assert "3/3" in shown
    assert "Warning" not in shown
    assert printed.splitlines()[-1].startswith("max_iter is reached")


# Optuna.


class Trial:
    """A trial that is pruned after some reports."""

    def __init__(self, n_reports=100, direction="MINIMIZE"):
        self.n_reports, self.reports = n_reports, {}
        self.study = SimpleNamespace(direction=SimpleNamespace(name=direction))

    def report(self, value, step):
        assert step not in self.reports
        self.reports[step] = value

    def should_prune(self):
        return len(self.reports) >= self.n_reports


def test_trial_is_told_of_each_epoch():
    X, y = make_table()
    for metric, direction in (("validation_loss", "MINIMIZE"), ("validation_score", "MAXIMIZE")):
        trial = Trial(direction=direction)
        model = classifier(**VALIDATED, scoring="roc_auc")
        model.set_callbacks(OptunaPruning(trial, metric)).fit(X, y)
        assert trial.reports == dict(enumerate(model.history_[metric]))


@pytest.mark.parametrize("is_fitted", [False, True])
def test_pruned_fit_leaves_the_model_as_it_was(is_fitted):
    X, y = make_table()
    model = classifier(**VALIDATED)
    if is_fitted:
        model.fit(X, y)
        before = model.params_.copy(), model.history_
    trial = Trial(2)
    with pytest.raises(optuna.TrialPruned, match="epoch 2"):
        model.set_callbacks(OptunaPruning(trial)).fit(X, y)
    assert list(trial.reports) == [0, 1]
    assert hasattr(model, "params_") == is_fitted
    if is_fitted:
        np.testing.assert_array_equal(model.params_, before[0])
        assert model.history_ is before[1]
    assert model.set_callbacks().fit(X, y).n_iter_ == 4


def test_folds_of_a_trial_are_reported_one_after_the_other():
    X, y = make_table()
    trial = Trial()
    settings = {"early_stopping": True, "n_iter_no_change": 1, "tol": 0.05, "max_iter": 30}
    model = classifier(**settings).set_callbacks(OptunaPruning(trial))
    cross_val_score(model, X, y, cv=3, error_score="raise")
    starts = [step for step in trial.reports if step - 1 not in trial.reports]
    assert starts == [0, 30, 60]
    trial = Trial(len(trial.reports) - 1)
    model.set_callbacks(OptunaPruning(trial))
    with pytest.raises(optuna.TrialPruned):
        cross_val_score(model, X, y, cv=3, error_score="raise")
    assert max(trial.reports) >= 60


def test_warm_start_goes_on_with_the_steps():
    X, y = make_table()
    trial = Trial()
    model = classifier(max_iter=2, warm_start=True).set_callbacks(OptunaPruning(trial, "loss"))
    model.fit(X, y).fit(X, y)
    assert list(trial.reports) == [0, 1, 2, 3]


def test_study_prunes_bad_trials_and_keeps_good_ones():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    X, y = make_table()
    rates = iter([0.01, 0.02, 0.03, 1e-9])

    def objective(trial):
        model = classifier(**VALIDATED, learning_rate_init=next(rates))
        model.set_callbacks(OptunaPruning(trial)).fit(X, y)
        return min(model.history_["validation_loss"])

    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=2))
    study.optimize(objective, n_trials=4)
    assert [trial.state.name for trial in study.trials][-1] == "PRUNED"
    assert study.best_value == min(study.best_trial.intermediate_values.values())
    assert len(study.best_trial.intermediate_values) == 4


def test_trials_that_cannot_be_told_are_refused_in_words():
    X, y = make_table()
    with pytest.raises(ValueError, match="metric must be one of"):
        OptunaPruning(Trial(), "accuracy")
    with pytest.raises(ValueError, match="direction MAXIMIZE, but 'validation_loss'"):
        OptunaPruning(Trial(direction="MAXIMIZE"))
    trial = Trial()
    with pytest.raises(ValueError, match="early_stopping=True"):
        classifier().set_callbacks(OptunaPruning(trial)).fit(X, y)
    assert not trial.reports


def test_trial_is_refused_in_another_process():
    X, y = make_table()
    model = classifier(**VALIDATED).set_callbacks(OptunaPruning(SimpleNamespace()))
    search = GridSearchCV(model, {"alpha": [0.0, 1.0]}, cv=2, n_jobs=2, error_score="raise")
    with pytest.raises(ValueError, match="n_jobs=1"):
        search.fit(X, y)


# MLflow and Weights & Biases, by modules of their interface.


class StubMLflow:
    def __init__(self, run_id=None):
        self.run_id, self.logged = run_id, []

    def active_run(self):
        return self.run_id and SimpleNamespace(info=SimpleNamespace(run_id=self.run_id))

    def log_metrics(self, metrics, step=None, *, run_id=None):
        self.logged.append((run_id or self.run_id, step, metrics))


def test_mlflow_gets_the_metrics_that_are_known(monkeypatch):
    X, y = make_table()
    stub = StubMLflow("active")
    monkeypatch.setitem(sys.modules, "mlflow", stub)
    model = classifier(max_iter=2).set_callbacks(MLflowLogger(), MLflowLogger("mine")).fit(X, y)
    known = [name for name in METRICS if "validation" not in name]
    assert stub.logged == [
        (run_id, epoch, {name: model.history_[name][epoch - 1] for name in known})
        for epoch in (1, 2)
        for run_id in ("active", "mine")
    ]


def test_mlflow_without_a_run_is_refused_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", StubMLflow())
    with pytest.raises(ValueError, match="start_run"):
        classifier().set_callbacks(MLflowLogger()).fit(*make_table())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_itself_keeps_a_value_for_each_epoch(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        model = classifier(max_iter=3).set_callbacks(MLflowLogger()).fit(*make_table())
    values = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [(v.step, v.value) for v in values] == list(enumerate(model.history_["loss"], 1))


class StubWandb:
    def __init__(self):
        self.run, self.axes, self.logged = self, {}, []

    def define_metric(self, name, step_metric=None):
        self.axes[name] = step_metric

    def log(self, values):
        self.logged.append(values)


def test_wandb_gets_the_metrics_against_the_epoch(monkeypatch):
    X, y = make_table()
    stub = StubWandb()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    model = classifier(**VALIDATED).set_callbacks(WandbLogger()).fit(X, y)
    assert stub.axes == {"epoch": None, **dict.fromkeys(METRICS, "epoch")}
    assert stub.logged == [
        {"epoch": epoch, **{name: model.history_[name][epoch - 1] for name in METRICS}}
        for epoch in range(1, 5)
    ]
    stub.run = None
    with pytest.raises(ValueError, match=r"wandb\.init"):
        model.fit(X, y)


@pytest.mark.parametrize(
    ("package", "callback"),
    [("tqdm", TqdmProgressBar()), ("mlflow", MLflowLogger()), ("wandb", WandbLogger())],
)
def test_missing_package_is_named_with_the_command(monkeypatch, package, callback):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        classifier().set_callbacks(callback).fit(*make_table())


def test_warnings_of_the_fit_are_those_without_callbacks(tmp_path):
    X, y = make_table()
    model = classifier(n_iter_no_change=10, max_iter=3).set_callbacks(
        CSVLogger(tmp_path / "log.csv")
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    assert [w.category for w in caught] == [ConvergenceWarning]
