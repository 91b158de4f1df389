"""scikit-learn's callbacks: who is told what and when, and that being watched changes nothing."""

import copy
import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
from data import classifier, make_table, make_weights
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from trainings import needs_callbacks

from skdnn import DeepBinaryClassifier

# L-BFGS says so where max_iter ends it.
pytestmark = [needs_callbacks, pytest.mark.filterwarnings("ignore:L-BFGS ended")]

LBFGS = {"solver": "lbfgs", "batch_size": "auto"}

SETTINGS = {
    "one member": {},
    "members and dropout": {"n_members": 3, "dropout": 0.2},
    "early stopping": {
        "early_stopping": True,
        "n_iter_no_change": 4,
        "tol": 0.02,
        "max_iter": 100,
    },
    "early stopping by a score": {"early_stopping": True, "scoring": "roc_auc"},
    "moving average": {"ema_decay": 0.9},
    "batch normalisation": {"normalization": "batch", "n_members": 2},
    "schedule with an end": {"learning_rate": "one_cycle"},
    "encoder and folds": {"encoder": "auto", "n_members": 5, "early_stopping": "auto"},
    "lbfgs": LBFGS,
    "lbfgs, members, early stopping": {**LBFGS, "n_members": 2, "early_stopping": True},
}
every_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


class Recorder:
    """Write down every call, and what was handed over; ask for a stop after some epoch."""

    def __init__(self, *, stops_at=None):
        self.stops_at = stops_at
        self.calls, self.contexts, self.given, self.fitted = [], [], [], []

    def setup(self, estimator, context):
        self._note("setup", context)

    def teardown(self, estimator, context):
        self._note("teardown", context)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self._note("begin", context)
        self.given.append((X, y, metadata))

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self._note("end", context)
        self.given.append((X, y, metadata))
        self.fitted.append(fitted_estimator)
        return context.task_name == "epoch" and context.task_id == self.stops_at

    def _note(self, hook, context):
        self.calls.append((hook, context.task_name))
        self.contexts.append((context.task_name, context.task_id, context.max_subtasks))

    @property
    def hooks(self):
        return [hook for hook, _ in self.calls]

    def ids_of(self, hook):
        return [
            task_id
            for (name, _), (task, task_id, _) in zip(self.calls, self.contexts, strict=True)
            if name == hook and task == "epoch"
        ]


class Minimal:
    """The four methods that scikit-learn asks for, with nothing in them."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        pass


class Failing(Recorder):
    """Fail in one hook."""

    def __init__(self, hook):
        super().__init__()
        self.hook = hook

    def _note(self, hook, context):
        super()._note(hook, context)
        if hook == self.hook and context.task_name == "epoch":
            raise RuntimeError(f"failed in {hook}")


def assert_same_fit(one, other):
    """Two estimators have learned the same, to the bit, and remember the same of it."""
    np.testing.assert_array_equal(one.params_, other.params_)
    assert one.history_.keys() == other.history_.keys()
    for name in one.history_.keys() - {"seconds"}:
        np.testing.assert_array_equal(one.history_[name], other.history_[name])
    assert (one.n_iter_, one.best_iter_, one.t_) == (other.n_iter_, other.best_iter_, other.t_)


# Order.


@every_setting
def test_hooks_come_in_order_with_one_task_for_each_epoch(settings):
    recorder = Recorder()
    estimator = classifier(**settings).set_callbacks(recorder).fit(*make_table())
    n_epochs = len(recorder.ids_of("end"))
    expected = [("setup", "fit"), ("begin", "fit")]
    expected += [("begin", "epoch"), ("end", "epoch")] * n_epochs
    expected += [("end", "fit"), ("teardown", "fit")]
    assert recorder.calls == expected
    assert recorder.ids_of("begin") == recorder.ids_of("end") == list(range(n_epochs))
    assert n_epochs == estimator.n_iter_ > 1
    assert {c[2] for c in recorder.contexts if c[0] == "epoch"} == {0}


def test_number_of_epochs_is_announced():
    X, y = make_table()
    recorder = Recorder()
    estimator = classifier(max_iter=4, warm_start=True).set_callbacks(recorder).fit(X, y)
    estimator.set_params(max_iter=6).fit(X, y)  # goes on for so many
    recorder.stops_at = 1
    estimator.fit(X, y)
    recorder.stops_at = None
    estimator.fit(X, y)  # what is left of these
    estimator.partial_fit(X, y)
    estimator.set_params(**LBFGS).fit(X, y)
    begun = zip(recorder.hooks, recorder.contexts, strict=True)
    assert [n for hook, (_, _, n) in begun if hook == "setup"] == [4, 6, 6, 4, 1, 6]


def test_each_callback_is_told_of_everything():
    recorders = Recorder(), Recorder(), Minimal()
    classifier().set_callbacks(*recorders).fit(*make_table())
    assert recorders[0].calls == recorders[1].calls


@pytest.mark.parametrize("settings", [{}, LBFGS], ids=["adam", "lbfgs"])
def test_second_fit_is_told_from_the_beginning(settings):
    recorder = Recorder()
    estimator = classifier(**settings).set_callbacks(recorder)
    estimator.fit(*make_table())
    first, recorder.calls = recorder.calls, []
    estimator.fit(*make_table())
    assert recorder.calls == first


# Requests to stop.


@pytest.mark.parametrize("stops_at", [0, 1, 3])
@every_setting
def test_request_to_stop_ends_training_after_the_epoch(settings, stops_at):
    recorder = Recorder(stops_at=stops_at)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        estimator = classifier(**settings).set_callbacks(recorder).fit(*make_table())
    assert estimator.n_iter_ == stops_at + 1
    assert len(estimator.history_["loss"]) == stops_at + 1
    assert recorder.hooks[-2:] == ["end", "teardown"]
    assert estimator.score(*make_table()) > 0.3


@pytest.mark.parametrize("stops_at", [0, 2])
def test_stopped_training_is_that_of_fewer_epochs(stops_at):
    X, y = make_table()
    stopped = classifier(max_iter=50).set_callbacks(Recorder(stops_at=stops_at)).fit(X, y)
    short = classifier(max_iter=stops_at + 1).fit(X, y)
    assert_same_fit(stopped, short)


def test_best_weights_are_restored_after_a_request_to_stop():
    """Not the last ones: here the validation loss rises in the end."""
    X, y = make_table()
    settings = {
        "hidden_layer_sizes": (32,),
        "learning_rate_init": 0.1,
        "batch_size": 8,
        "early_stopping": True,
        "max_iter": 40,
    }
    stopped = classifier(**settings).set_callbacks(Recorder(stops_at=14)).fit(X, y)
    losses = stopped.history_["validation_loss"]
    assert len(losses) == 15
    best = int(np.argmin(losses)) + 1
    assert stopped.best_iter_ == best < 15
    at_best = classifier(**{**settings, "max_iter": best}).fit(X, y)
    np.testing.assert_array_equal(stopped.params_, at_best.params_)


def test_request_to_stop_without_convergence_is_no_warning():
    """Where max_iter ends the same training, there is one."""
    settings = {"n_iter_no_change": 10, "max_iter": 3}
    with pytest.warns(ConvergenceWarning):
        classifier(**settings).fit(*make_table())
    recorder = Recorder(stops_at=1)
    classifier(**settings).set_callbacks(recorder).fit(*make_table())


def test_stopped_training_can_be_brought_to_its_end():
    X, y = make_table()
    settings = {"max_iter": 8, "learning_rate": "cosine", "warm_start": True, "n_members": 2}
    stopped = classifier(**settings).set_callbacks(Recorder(stops_at=2)).fit(X, y)
    stopped.set_callbacks().fit(X, y)
    through = classifier(**settings).fit(X, y)
    np.testing.assert_array_equal(stopped.params_, through.params_)
    np.testing.assert_array_equal(stopped.history_["loss"], through.history_["loss"])


# Failure.


@pytest.mark.parametrize("settings", [{}, LBFGS], ids=["adam", "lbfgs"])
@pytest.mark.parametrize("hook", ["begin", "end"])
def test_teardown_comes_even_if_the_fit_fails(hook, settings):
    callback, other = Failing(hook), Recorder()
    estimator = classifier(**settings).set_callbacks(callback, other)
    with pytest.raises(RuntimeError, match=f"failed in {hook}"):
        estimator.fit(*make_table())
    assert callback.hooks.count("teardown") == other.hooks.count("teardown") == 1
    assert callback.hooks[-1] == other.hooks[-1] == "teardown"
    assert not hasattr(estimator, "params_")
    assert not {name for name in vars(estimator) if "callback" in name} - {"_skl_callbacks"}


def test_teardown_comes_if_training_diverges():
    X, y = make_table()
    recorder = Recorder()
    estimator = classifier(solver="sgd", activation="identity", learning_rate_init=1e300)
    estimator.set_callbacks(recorder)
    with pytest.raises(ValueError, match="diverged"):
        estimator.partial_fit(1e9 * X, y, classes=[0, 1])
    assert recorder.hooks[0] == "setup"
    assert recorder.hooks[-1] == "teardown"


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("warm_start", [False, True])
def test_failure_leaves_a_fitted_estimator_as_it_was(method, warm_start):
    X, y = make_table()
    estimator = classifier(warm_start=warm_start).fit(X, y)
    before = copy.deepcopy(vars(estimator))
    callback = Failing("end")
    estimator.set_callbacks(callback)
    with pytest.raises(RuntimeError):
        getattr(estimator, method)(X[:80], y[:80])
    assert callback.hooks[-1] == "teardown"
    estimator.set_callbacks()
    assert vars(estimator).keys() == before.keys()
    np.testing.assert_array_equal(estimator.params_, before["params_"])
    assert estimator.history_ == before["history_"]
    reference = classifier(warm_start=warm_start).fit(X, y)
    assert_same_fit(estimator.partial_fit(X, y), reference.partial_fit(X, y))


def test_data_that_cannot_be_used_are_refused_before_anybody_is_told():
    recorder = Recorder()
    with pytest.raises(ValueError, match="NaN"):
        classifier().set_callbacks(recorder).fit([[np.nan], [1.0]], [0, 1])
    assert recorder.calls in ([], ["setup", "teardown"])


def test_snapshots_predict_tables_that_need_the_encoder():
    X, y = make_table()
    X[::7, 2] = np.nan
    recorder = Recorder()
    settings = {"encoder": "auto", "n_members": 5, "early_stopping": "auto"}
    estimator = classifier(**settings, calibration="temperature").set_callbacks(recorder).fit(X, y)
    for snapshot in recorder.fitted[:-1]:
        assert snapshot.temperature_ == 1.0
        assert np.isfinite(snapshot.predict_proba(X)).all()
    last = recorder.fitted[-1]
    assert last.temperature_ == estimator.temperature_ != 1.0
    np.testing.assert_array_equal(last.predict_proba(X), estimator.predict_proba(X))


# Checkpoints: a model at each epoch, as consistent as a fitted one.


class Checkpointing(Recorder):
    """Keep pickles of the estimator at work, and of its copy, with what they predict."""

    def __init__(self, X):
        super().__init__()
        self.X, self.pickles, self.probabilities = X, [], []

    def on_fit_task_begin(self, estimator, context):
        estimator.predict_proba(self.X)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            for model in (estimator, fitted_estimator):
                self.pickles.append(pickle.dumps(model))
                self.probabilities.append(model.predict_proba(self.X))

    def __reduce__(self):
        return Minimal, ()


CHECKPOINTED = {
    "one member": {},
    "members and dropout": {"n_members": 3, "dropout": 0.2},
    "moving average": {"ema_decay": 0.9, "early_stopping": True, "scoring": "roc_auc"},
    "encoder and folds": {"encoder": "auto", "n_members": 5, "early_stopping": "auto"},
    "calibration": {"n_members": 5, "early_stopping": True, "calibration": "temperature"},
    "schedule with an end": {"learning_rate": "cosine", "normalization": "batch"},
}


@pytest.mark.parametrize("settings", CHECKPOINTED.values(), ids=CHECKPOINTED)
@pytest.mark.parametrize("is_refit", [False, True])
def test_checkpoints_go_on_to_where_the_fit_has_come(settings, is_refit):
    """Also in a refit, of which nothing of the earlier table is left in them."""
    X, y = make_table()
    estimator = classifier(max_iter=4, warm_start=False, **settings)
    if is_refit:
        estimator.fit(3.0 * X + 1.0, 1 - y)
    checkpointing = Checkpointing(X)
    estimator.set_callbacks(checkpointing).fit(X, y)
    assert len(checkpointing.pickles) == 8
    for place, dump in enumerate(checkpointing.pickles):
        loaded = pickle.loads(dump)
        assert not {name for name in vars(loaded) if "callback" in name} - {"_skl_callbacks"}
        np.testing.assert_array_equal(
            loaded.predict_proba(X), checkpointing.probabilities[place - place % 2]
        )
        assert not hasattr(loaded, "oof_decision_function_")
        assert loaded.best_iter_ == loaded.n_iter_ == len(loaded.loss_curve_) == place // 2 + 1
        assert loaded.n_layers_ == 3
        if loaded.n_iter_ < 4:
            assert_same_course(
                loaded.set_callbacks().set_params(warm_start=True).fit(X, y), estimator
            )
        part = pickle.loads(dump).set_params(learning_rate_init=1e-12).partial_fit(X, y)
        if "normalization" not in settings:
            np.testing.assert_allclose(
                part.predict_proba(X), checkpointing.probabilities[place], atol=1e-5
            )


def assert_same_course(one, other):
    """Two estimators have learned the same on the way to the same place."""
    np.testing.assert_array_equal(one.params_, other.params_)
    assert one.loss_curve_ == other.loss_curve_
    assert (one.best_iter_, one.t_) == (other.best_iter_, other.t_)
    assert one.temperature_ == other.temperature_
    np.testing.assert_array_equal(
        getattr(one, "oof_decision_function_", None), getattr(other, "oof_decision_function_", None)
    )


@pytest.mark.parametrize("is_refit", [False, True])
@pytest.mark.parametrize("n_members", [1, 2])
def test_checkpoint_of_lbfgs_is_begun_with(is_refit, n_members):
    X, y = make_table()
    estimator = classifier(max_iter=4, n_members=n_members, **LBFGS)
    if is_refit:
        estimator.fit(3.0 * X + 1.0, 1 - y)
    checkpointing = Checkpointing(X)
    estimator.set_callbacks(checkpointing).fit(X, y)
    for dump, probability in zip(checkpointing.pickles, checkpointing.probabilities, strict=True):
        loaded = pickle.loads(dump).set_callbacks().set_params(warm_start=True)
        np.testing.assert_array_equal(loaded.predict_proba(X), probability)
        n_done, loss = len(loaded.loss_curve_), loaded.loss_
        loaded.fit(X, y)
        assert len(loaded.loss_curve_) == n_done + loaded.n_iter_
        assert loaded.loss_ < loss


def test_checkpoint_in_a_search_has_nothing_of_the_search():
    X, y = make_table()
    checkpointing = Checkpointing(X)
    search = GridSearchCV(
        classifier(max_iter=2).set_callbacks(checkpointing), {"alpha": [1.0]}, cv=2
    )
    search.set_callbacks(Minimal()).fit(X, y)
    for dump in checkpointing.pickles:
        loaded = pickle.loads(dump)
        assert {name for name in vars(loaded) if "callback" in name} == {"_skl_callbacks"}
        loaded.set_params(warm_start=True).fit(X, y)


def test_checkpoint_of_a_stream_goes_on_with_the_stream():
    X, y = make_table()
    parts = np.array_split(np.arange(len(y)), 4)
    checkpointing = Checkpointing(X)
    estimator = classifier(ema_decay=0.8, n_members=2).set_callbacks(checkpointing)
    for part in parts:
        estimator.partial_fit(X[part], y[part], classes=[0, 1])
    for place, dump in enumerate(checkpointing.pickles):
        loaded = pickle.loads(dump)
        for part in parts[place // 2 + 1 :]:
            loaded.partial_fit(X[part], y[part])
        assert_same_course(loaded, estimator)


# Being watched changes nothing.


@every_setting
def test_results_do_not_depend_on_callbacks(settings):
    X, y = make_table()
    weights = make_weights(len(y)) + 1.0
    alone = classifier(**settings).fit(X, y, weights)
    watched = classifier(**settings).set_callbacks(Recorder(), Minimal()).fit(X, y, weights)
    assert_same_fit(watched, alone)
    np.testing.assert_array_equal(watched.predict_proba(X), alone.predict_proba(X))


def test_warm_start_does_not_depend_on_callbacks():
    X, y = make_table()
    alone, watched = (classifier(n_members=2, dropout=0.1, warm_start=True) for _ in range(2))
    watched.set_callbacks(Recorder())
    for _ in range(3):
        assert_same_fit(watched.fit(X, y), alone.fit(X, y))


def test_partial_fit_is_a_fit_of_one_epoch():
    X, y = make_table()
    recorder = Recorder()
    alone, watched = classifier(), classifier().set_callbacks(recorder)
    for start in (0, 60):
        part = X[start : start + 60], y[start : start + 60]
        alone.partial_fit(*part, classes=[0, 1])
        watched.partial_fit(*part, classes=[0, 1])
        assert recorder.hooks == ["setup", "begin", "begin", "end", "end", "teardown"]
        assert recorder.ids_of("begin") == [0]
        assert recorder.given[0][0] is part[0]
        recorder.calls, recorder.contexts, recorder.given = [], [], []
    assert_same_fit(watched, alone)


# What is handed over.


@every_setting
def test_snapshots_differ_stay_and_predict(settings):
    X, y = make_table()

    class Predicting(Recorder):
        def on_fit_task_end(
            self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
        ):
            super().on_fit_task_end(
                estimator, context, X=X, y=y, metadata=metadata, fitted_estimator=fitted_estimator
            )
            self.probabilities.append(fitted_estimator.predict_proba(X))

    recorder = Predicting()
    recorder.probabilities = []
    estimator = classifier(**settings).set_callbacks(recorder).fit(X, y)
    of_epochs = recorder.fitted[:-1]
    for one, other in pairwise(of_epochs):
        assert not np.array_equal(one.params_, other.params_)
    for snapshot, probability in zip(recorder.fitted, recorder.probabilities, strict=True):
        np.testing.assert_array_equal(snapshot.predict_proba(X), probability)
        assert isinstance(snapshot, DeepBinaryClassifier)
    np.testing.assert_array_equal(recorder.probabilities[-1], estimator.predict_proba(X))
    if "early_stopping" not in settings and settings.get("solver") != "lbfgs":
        np.testing.assert_array_equal(recorder.probabilities[-2], estimator.predict_proba(X))


@pytest.mark.parametrize("settings", [{}, LBFGS], ids=["adam", "lbfgs"])
def test_snapshots_tell_of_their_epoch(settings):
    recorder = Recorder()
    estimator = classifier(max_iter=3, **settings).set_callbacks(recorder).fit(*make_table())
    for epoch, snapshot in enumerate(recorder.fitted[:-1], start=1):
        assert snapshot.n_iter_ == epoch
        assert len(snapshot.history_["loss"]) == len(snapshot.loss_curve_) == epoch
        assert snapshot.loss_curve_ == estimator.loss_curve_[:epoch]
        assert snapshot.classes_.tolist() == [0, 1]
        assert snapshot.t_ == epoch * 120


@pytest.mark.parametrize("names", [[], ["sample_weight"], ["X_val", "y_val"], None])
def test_metadata_are_among_what_the_user_gave(names):
    """The weights always; validation rows are of no use to a callback that scores by them."""
    X, y = make_table()
    weights = make_weights(len(y)) + 1.0
    given = {
        "sample_weight": weights[:100],
        "X_val": X[100:],
        "y_val": y[100:],
        "sample_weight_val": weights[100:],
    }
    given = given if names is None else {name: given[name] for name in names}
    recorder = Recorder()
    rows = X[:100], y[:100]
    estimator = classifier(early_stopping="auto", max_iter=2).set_callbacks(recorder)
    estimator.fit(*rows, **given)
    assert len(recorder.given) == 6
    for seen_X, seen_y, metadata in recorder.given:
        assert seen_X is rows[0]
        assert seen_y is rows[1]
        assert ("sample_weight" in metadata) == ("sample_weight" in given)
        assert all(metadata[name] is given[name] for name in metadata)


def test_metadata_of_partial_fit_are_the_weights():
    X, y = make_table()
    weights, recorder = np.ones(len(y)), Recorder()
    estimator = classifier().set_callbacks(recorder)
    estimator.partial_fit(X, y, classes=[0, 1], sample_weight=weights)
    assert all(given[2]["sample_weight"] is weights for given in recorder.given)
    assert all("X_val" not in given[2] for given in recorder.given)


# Setting, clearing, copying.


def test_callbacks_are_set_cleared_and_checked():
    estimator, recorder = classifier(), Recorder()
    parameters = estimator.get_params()
    assert estimator.set_callbacks(recorder) is estimator
    assert estimator.get_params() == parameters
    assert "Recorder" not in repr(estimator)
    estimator.set_callbacks().fit(*make_table())
    assert recorder.calls == []
    for wrong in (Recorder, "callback", object()):
        with pytest.raises(TypeError, match="FitCallback"):
            estimator.set_callbacks(wrong)


@pytest.mark.parametrize("is_fitted", [False, True])
def test_callbacks_survive_pickle(is_fitted):
    X, y = make_table()
    estimator = classifier(warm_start=True).set_callbacks(Minimal())
    if is_fitted:
        estimator.fit(X, y)
    loaded = pickle.loads(pickle.dumps(estimator))
    assert isinstance(loaded._skl_callbacks[0], Minimal)
    assert_same_fit(loaded.fit(X, y), estimator.fit(X, y))


# scikit-learn's own callbacks.


def scoring_monitor(scoring="neg_log_loss"):
    from sklearn.callback import ScoringMonitor

    return ScoringMonitor(scoring=scoring)


@pytest.mark.parametrize("settings", [{}, LBFGS], ids=["adam", "lbfgs"])
def test_scoring_monitor_scores_each_epoch(settings):
    X, y = make_table()
    monitor = scoring_monitor(["neg_log_loss", "roc_auc"])
    estimator = classifier(max_iter=4, **settings).set_callbacks(monitor).fit(X, y)
    log = monitor.get_logs().data
    epochs = [row["neg_log_loss"] for row in log if row["task_name"] == "epoch"]
    assert len(epochs) == 4
    assert epochs == sorted(epochs)
    [final] = [row["neg_log_loss"] for row in log if row["task_name"] == "fit"]
    probability = estimator.predict_proba(X)[np.arange(len(y)), y]
    assert final == pytest.approx(np.log(probability).mean())


def test_scoring_monitor_weighs_rows():
    X, y = make_table()
    weights = make_weights(len(y)) + 1.0
    monitor = scoring_monitor()
    estimator = classifier(max_iter=2).set_callbacks(monitor).fit(X, y, sample_weight=weights)
    [final] = [r["neg_log_loss"] for r in monitor.get_logs().data if r["task_name"] == "fit"]
    probability = estimator.predict_proba(X)[np.arange(len(y)), y]
    assert final == pytest.approx(np.average(np.log(probability), weights=weights))


def test_scoring_monitor_works_beside_validation_rows():
    X, y = make_table()
    monitor = scoring_monitor()
    estimator = classifier(early_stopping="auto", max_iter=2).set_callbacks(monitor)
    estimator.fit(X[:100], y[:100], X_val=X[100:], y_val=y[100:])
    assert len(monitor.get_logs().data) == 3


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scoring_monitor_works_in_a_search(n_jobs):
    X, y = make_table()
    monitor = scoring_monitor()
    network = classifier(max_iter=3).set_callbacks(monitor)
    grid = {"deepbinaryclassifier__alpha": [0.0, 1.0]}
    pipeline = make_pipeline(StandardScaler(), network)
    GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs).fit(X, y)
    rows = [
        row for row in monitor.get_logs().data if row["estimator_name"] == type(network).__name__
    ]
    assert len(rows) == (4 + 1) * (3 + 1)


@pytest.mark.parametrize("settings", [{}, LBFGS], ids=["adam", "lbfgs"])
def test_progress_bar_shows_the_fit(settings, capsys):
    pytest.importorskip("rich", reason="ProgressBar draws with rich")
    from sklearn.callback import ProgressBar

    X, y = make_table()
    network = classifier(max_iter=3, **settings)
    network.set_callbacks(ProgressBar()).fit(X, y)
    assert_same_fit(network, classifier(max_iter=3, **settings).fit(X, y))
    make_pipeline(StandardScaler(), network.set_callbacks()).set_callbacks(ProgressBar()).fit(X, y)
    shown = capsys.readouterr().out
    assert "DeepBinaryClassifier" in shown
    assert "Pipeline" in shown
