"""Ctrl-C: the first stops training and keeps what was learned, the second aborts."""

import os
import re
import signal
import threading
import time
import warnings
from copy import deepcopy

import numpy as np
import pytest
from data import classifier, make_table
from sklearn.exceptions import ConvergenceWarning
from trainings import AfterEpoch, needs_callbacks

pytestmark = [
    pytest.mark.skipif(
        not hasattr(signal, "pthread_kill"), reason="needs signals of its own process"
    ),
    pytest.mark.usefixtures("handles_ctrl_c"),
]
LAST_REQUEST = "skdnn.training.interrupt.Interrupt.last_request"

SOLVERS = {
    "adam": {"solver": "adam"},
    "sgd in one batch": {"solver": "sgd", "batch_size": 120},
    "members": {"solver": "adam", "n_members": 3, "dropout": 0.2},
    "moving average": {"solver": "adam", "ema_decay": 0.9},
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs with members": {"solver": "lbfgs", "n_members": 3},
}
settings = pytest.mark.parametrize("setting", SOLVERS.values(), ids=SOLVERS)


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def raise_keyboard_interrupt():
    raise KeyboardInterrupt


class Tanh:
    """An activation that acts in its n-th derivatives: within a step, before the update.

    Or in its n-th values since the last derivative: when training is over. It is no formula, and so
    each step calls it. To see what it does, it is tried out before, on arrays of equal rows.
    """

    def __init__(self, actions, at_the_end=None):
        self.actions, self.at_the_end = actions, at_the_end or {}
        self.n_steps = self.n_values = 0

    def value(self, z):
        z = np.asarray(z)
        if is_trial(z):
            return np.tanh(z)
        self.n_values += 1
        if self.n_steps == self.n_steps_in_all and self.n_values in self.at_the_end:
            self.at_the_end[self.n_values]()
        return np.tanh(z)

    n_steps_in_all = -1

    def derivative(self, z):
        if not is_trial(z):
            self.n_steps += 1
            self.n_values = 0
            if self.n_steps in self.actions:
                self.actions[self.n_steps]()
        return 1.0 - np.tanh(z) ** 2

    def __deepcopy__(self, memo):  # clones share the count
        return self


def is_trial(z):
    return bool((z == z[:1]).all())


def interrupted_in_step(step, action=press_ctrl_c, **parameters):
    """Fit 20 epochs of 4 batches each; the action happens in the step with this number."""
    X, y = make_table()
    estimator = classifier((8,), Tanh({step: action}), max_iter=20, **parameters)
    with pytest.warns(ConvergenceWarning, match="interrupted") as caught:
        estimator.fit(X, y)
    return estimator, [str(w.message) for w in caught if w.category is ConvergenceWarning]


@pytest.mark.parametrize("action", [press_ctrl_c, raise_keyboard_interrupt])
@pytest.mark.parametrize("step", [1, 4, 5, 8, 9, 42, 79])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_interrupted_fit_keeps_what_it_has_learned(step, action, early_stopping):
    """Whole epochs count; the signal is noted and acted on after the batch."""
    parameters = {"early_stopping": early_stopping, "batch_size": 24 if early_stopping else 30}
    estimator, [message] = interrupted_in_step(step, action, **parameters)
    is_at_the_end_of_an_epoch = step % 4 == 0 and action is press_ctrl_c
    n_done = (step - 1) // 4 + is_at_the_end_of_an_epoch
    assert f"after {n_done} of 20 epochs" in message
    assert estimator.n_iter_ == len(estimator.loss_curve_) == n_done
    X, y = make_table()
    assert np.isfinite(estimator.predict_proba(X)).all()
    assert estimator.score(X, y) >= 0.0


@settings
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("action", [press_ctrl_c, raise_keyboard_interrupt])
def test_interrupted_fit_is_usable_for_every_solver(setting, early_stopping, action):
    estimator, [message] = interrupted_in_step(
        7, action, early_stopping=early_stopping, tol=0.0, **setting
    )
    X, _ = make_table()
    assert np.isfinite(estimator.predict_proba(X)).all()
    assert re.search(f"after {estimator.n_iter_} of [26]0 epochs", message)
    assert estimator.n_iter_ < 20
    assert len(estimator.loss_curve_) == estimator.n_iter_


@needs_callbacks
@settings
@pytest.mark.parametrize("n_epochs", [1, 3])
def test_interrupt_between_epochs_ends_training_there(setting, n_epochs):
    X, y = make_table()
    estimator = classifier(max_iter=10, **setting)
    estimator.set_callbacks(AfterEpoch(n_epochs, press_ctrl_c))
    with pytest.warns(ConvergenceWarning, match=f"interrupted after {n_epochs} of [13]0"):
        estimator.fit(X, y)
    assert estimator.n_iter_ == n_epochs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = classifier(max_iter=n_epochs, **setting).fit(X, y)
    assert estimator.loss_curve_ == whole.loss_curve_ or setting.get("n_members")
    np.testing.assert_array_equal(estimator.params_[0], whole.params_[0])


@needs_callbacks
@pytest.mark.parametrize("setting", [{}, {"n_members": 3}], ids=str)
def test_interrupted_fit_keeps_the_best_epoch_so_far(setting):
    X, y = make_table()
    settings = {"early_stopping": True, "learning_rate_init": 0.5, **setting}
    expected = classifier((32,), max_iter=12, **settings).fit(X, y)
    assert 0 < expected.best_iter_ < 12
    estimator = classifier((32,), max_iter=30, **settings)
    estimator.set_callbacks(AfterEpoch(12, press_ctrl_c))
    with pytest.warns(ConvergenceWarning, match="interrupted after 12 of 30"):
        estimator.fit(X, y)
    np.testing.assert_array_equal(estimator.params_, expected.params_)
    assert estimator.best_iter_ == expected.best_iter_


@pytest.mark.parametrize("action", [press_ctrl_c, raise_keyboard_interrupt])
@pytest.mark.parametrize("evaluation", [2, 3, 4, 5, 9])
def test_interrupted_lbfgs_keeps_its_last_iterate_and_no_point_tried_on_the_way(evaluation, action):
    estimator, _ = interrupted_in_step(evaluation, action, solver="lbfgs", tol=0.0)
    X, y = make_table()
    n_done = estimator.n_iter_
    assert n_done < evaluation
    if n_done:
        with pytest.warns(ConvergenceWarning, match="without converging"):
            whole = classifier((8,), Tanh({}), solver="lbfgs", tol=0.0, max_iter=n_done).fit(X, y)
        np.testing.assert_array_equal(estimator.params_, whole.params_)


@pytest.mark.parametrize("seconds", [np.inf, pytest.param(0.5, marks=pytest.mark.slow)])
def test_interrupt_by_a_timer_ends_a_long_fit(monkeypatch, seconds):
    """By NumPy, and by numba, which may have to compile at first."""
    monkeypatch.setattr("skdnn.engine.loading.SECONDS_BEFORE_LOADING", seconds)
    X, y = make_table()
    for seconds in (
        0.2,
        0.4,
        0.8,
        5.0,
        30.0,
    ):  # a busy machine may not have come to the second epoch
        timer = threading.Timer(seconds, press_ctrl_c)
        timer.start()
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            estimator = classifier(max_iter=1_000_000).fit(X, y)
        timer.join()
        if estimator.n_iter_ > 1:
            break
    assert 1 < estimator.n_iter_ < 1_000_000
    assert estimator.loss_ < estimator.loss_curve_[0]


@settings
@pytest.mark.parametrize("action", [press_ctrl_c, raise_keyboard_interrupt])
def test_interrupted_fit_is_not_gone_on_with(setting, action):
    """Somewhere in an epoch is no place to begin from; the weights kept are."""
    X, y = make_table()
    estimator, _ = interrupted_in_step(7, action, warm_start=True, tol=0.0, **setting)
    n_first, first = estimator.n_iter_, estimator.params_.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.set_params(max_iter=5).fit(X, y)
    assert len(estimator.loss_curve_) == n_first + estimator.n_iter_
    assert estimator.n_iter_ <= 5 * (estimator.n_members if setting["solver"] == "lbfgs" else 1)
    assert not np.array_equal(estimator.params_, first)


# When training is over.

ENDS = {
    "one network": {},
    "validation": {"early_stopping": True, "calibration": "temperature"},
    "folds": {"early_stopping": True, "calibration": "temperature", "n_members": 5, "max_iter": 3},
    "folds and average": {"early_stopping": True, "n_members": 5, "max_iter": 3, "ema_decay": 0.9},
    "lbfgs": {"solver": "lbfgs", "max_iter": 3},
    "lbfgs, validation": {"solver": "lbfgs", "early_stopping": True, "calibration": "temperature"},
}
JUDGEMENTS = ("temperature_", "oof_decision_function_")


def fit_by(activation, X, y, **setting):
    """Fit, and return what is said about interrupts."""
    estimator = classifier(
        (4,), activation, **{"batch_size": 60, "max_iter": 2, "n_jobs": 1, **setting}
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(X, y)
    return estimator, [str(w.message) for w in caught if "interrupted" in str(w.message)]


@pytest.mark.parametrize("action", [press_ctrl_c, raise_keyboard_interrupt])
@pytest.mark.parametrize("setting", ENDS.values(), ids=ENDS)
def test_interrupt_of_what_follows_training_keeps_the_model(monkeypatch, setting, action):
    """Wherever the network is evaluated: at last weights, on rows that were held out."""
    X, y = make_table()
    whole, said = fit_by(Tanh({}), X, y, **setting)
    assert said == []
    n_steps, n_values = whole.activation.n_steps, whole.activation.n_values
    assert n_values > 0
    for value in range(1, n_values + 1):
        monkeypatch.setattr(LAST_REQUEST, -1e9)
        activation = Tanh({}, {value: action})
        activation.n_steps_in_all = n_steps
        try:
            estimator, said = fit_by(activation, X, y, **setting)
        except KeyboardInterrupt:  # of another source, before the weights were chosen
            assert action is raise_keyboard_interrupt
            continue
        assert len(said) == 1
        assert np.isfinite(estimator.predict_proba(X)).all()
        if "training was over" in said[0] or action is press_ctrl_c:
            np.testing.assert_array_equal(estimator.params_, whole.params_)
            assert estimator.loss_curve_ == whole.loss_curve_
            assert estimator.best_iter_ == whole.best_iter_
        # Rows have been judged as ever, or not at all.
        has_judged = estimator.temperature_ != 1.0 or hasattr(estimator, JUDGEMENTS[1])
        for name in JUDGEMENTS if has_judged and estimator.best_iter_ == whole.best_iter_ else ():
            np.testing.assert_array_equal(
                getattr(estimator, name, None), getattr(whole, name, None)
            )
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("setting", ENDS.values(), ids=ENDS)
def test_second_interrupt_of_what_follows_training_aborts(setting):
    X, y = make_table()
    whole, _ = fit_by(Tanh({}), X, y, **setting)
    before = deepcopy(vars(whole))
    activation = whole.activation
    activation.actions[activation.n_steps + 2] = press_ctrl_c
    activation.n_steps_in_all = activation.n_steps + 2
    activation.at_the_end = {1: press_ctrl_c}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(KeyboardInterrupt):
            whole.fit(X, y)
    assert set(vars(whole)) == set(before)
    np.testing.assert_array_equal(whole.params_, before["params_"])
    assert whole.temperature_ == before["temperature_"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@needs_callbacks
@pytest.mark.parametrize("action", [press_ctrl_c, raise_keyboard_interrupt])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_interrupt_of_the_last_callback_keeps_the_model(action, method):
    X, y = make_table()

    class AtTheEnd(AfterEpoch):
        def on_fit_task_end(self, estimator, context, **kwargs):
            if context.task_name != "epoch":
                self.action()

    estimator = classifier(early_stopping=True, n_members=5).set_callbacks(AtTheEnd(0, action))
    arguments = {"classes": [0, 1]} if method == "partial_fit" else {}
    with pytest.warns(ConvergenceWarning, match="interrupted when training was over"):
        getattr(estimator, method)(X, y, **arguments)
    whole = getattr(classifier(early_stopping=True, n_members=5), method)(X, y, **arguments)
    np.testing.assert_array_equal(estimator.predict_proba(X), whole.predict_proba(X))
    assert hasattr(estimator, "oof_decision_function_") == (method == "fit")


# A second one.


@settings
@pytest.mark.parametrize("is_fitted", [False, True])
def test_second_interrupt_aborts_and_leaves_the_estimator_as_it_was(setting, is_fitted):
    """Both within one step: before the first one could be acted on."""
    X, y = make_table()
    estimator = classifier((8,), Tanh({}), max_iter=3, warm_start=True, **setting)
    if is_fitted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(X, y)
    before = deepcopy(vars(estimator))

    def press_twice():
        press_ctrl_c()
        press_ctrl_c()

    estimator.activation.actions[estimator.activation.n_steps + 3] = press_twice
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    estimator.activation.actions.clear()
    assert set(vars(estimator)) == set(before)
    if is_fitted:
        np.testing.assert_array_equal(estimator.params_, before["params_"])
        assert estimator.history_ == before["history_"]
        assert estimator.n_iter_ == before["n_iter_"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_aborts_however_late_it_comes(monkeypatch):
    """Within one fit they need not follow each other quickly."""
    monkeypatch.setattr("skdnn.training.interrupt.IN_QUICK_SUCCESSION", 0.0)
    X, y = make_table()

    def press_twice():
        press_ctrl_c()
        time.sleep(0.01)
        press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        classifier((8,), Tanh({3: press_twice})).fit(X, y)


def test_interrupts_of_two_fits_in_quick_succession_abort_the_second():
    X, y = make_table()
    interrupted_in_step(3)
    with pytest.raises(KeyboardInterrupt):
        classifier((8,), Tanh({3: press_ctrl_c})).fit(X, y)


def test_interrupts_of_two_fits_that_are_far_apart_stop_each_gently(monkeypatch):
    interrupted_in_step(3)
    monkeypatch.setattr(LAST_REQUEST, time.monotonic() - 2.1)
    estimator, _ = interrupted_in_step(9)
    assert estimator.n_iter_ == 2


def test_grid_search_can_be_aborted():
    """Otherwise the search would only go on to its next fit."""
    from sklearn.model_selection import GridSearchCV

    X, y = make_table()
    activation = Tanh(dict.fromkeys(range(1, 1000, 50), press_ctrl_c))
    search = GridSearchCV(classifier((8,), activation, max_iter=20), {"alpha": [0.1, 1.0]}, cv=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(KeyboardInterrupt):
            search.fit(X, y)


def test_partial_fit_can_be_interrupted_too():
    X, y = make_table()
    estimator = classifier((8,), Tanh({6: press_ctrl_c})).partial_fit(X, y, classes=[0, 1])
    with pytest.warns(ConvergenceWarning, match="interrupted after 0 of 1"):
        estimator.partial_fit(X, y)
    assert np.isfinite(estimator.predict_proba(X)).all()
    estimator.partial_fit(X, y)
    assert np.isfinite(estimator.params_).all()


@pytest.mark.parametrize("train", ["fit", "partial_fit"])
@pytest.mark.parametrize("batch_size", [120, 30])
def test_interrupt_in_the_last_step_of_all_is_not_swallowed(train, batch_size):
    """A stream of parts of one batch each could otherwise hardly be stopped."""
    X, y = make_table()
    estimator = classifier((8,), Tanh({120 // batch_size: press_ctrl_c}), max_iter=1)
    estimator.set_params(batch_size=batch_size)
    arguments = {"classes": [0, 1]} if train == "partial_fit" else {}
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        getattr(estimator, train)(X, y, **arguments)
    assert np.isfinite(estimator.params_).all()


def test_interrupt_of_the_very_first_step_keeps_weights_to_predict_with():
    estimator, [message] = interrupted_in_step(1, early_stopping=True)
    X, _ = make_table()
    assert "after 0 of 20 epochs" in message
    assert estimator.n_iter_ == 0
    assert np.isfinite(estimator.predict_proba(X)).all()


def test_member_that_lbfgs_had_no_time_for_takes_the_weights_of_one_that_it_had():
    """An untrained network must not spoil the average."""
    estimator, _ = interrupted_in_step(6, solver="lbfgs", n_members=3, tol=0.0)
    for member in (1, 2):
        np.testing.assert_array_equal(estimator.params_[member], estimator.params_[0])


@pytest.mark.parametrize("action", [press_ctrl_c, raise_keyboard_interrupt])
def test_interrupt_before_the_first_iteration_of_a_later_member_is_no_divergence(action):
    """It falls on the first evaluation of the second member, which has nothing better yet."""
    X, y = make_table()
    single = Tanh({})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier((8,), single, solver="lbfgs", max_iter=4).fit(X, y)
    estimator = classifier((8,), Tanh({single.n_steps + 1: action}), solver="lbfgs", n_members=3)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        estimator.set_params(max_iter=4).fit(X, y)
    assert estimator.score(X, y) > 0.6


# Whose signal it is.


@pytest.mark.parametrize("setting", [{}, {"solver": "lbfgs"}], ids=str)
def test_handler_is_ours_during_training_and_restored_after_it(setting):
    X, y = make_table()
    seen = []
    activation = Tanh({2: lambda: seen.append(signal.getsignal(signal.SIGINT))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier((8,), activation, **setting).fit(X, y)
    assert len(seen) == 1
    assert seen[0] is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handler_is_restored_after_an_error():
    X, y = make_table()

    def fail():
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        classifier((8,), Tanh({3: fail})).fit(X, y)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    interrupted_in_step(3)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL], ids=str)
def test_signal_that_is_ignored_or_deadly_stays_so(handler):
    X, y = make_table()
    seen = []
    signal.signal(signal.SIGINT, handler)
    activation = Tanh({2: lambda: seen.append(signal.getsignal(signal.SIGINT))})
    classifier((8,), activation).fit(X, y)
    assert [*seen, signal.getsignal(signal.SIGINT)] == [handler, handler]


def test_handler_of_the_user_is_respected():
    X, y = make_table()
    calls = []

    def own(number, frame):
        calls.append(number)

    signal.signal(signal.SIGINT, own)
    estimator = classifier((8,), Tanh({3: press_ctrl_c})).fit(X, y)
    assert calls == [signal.SIGINT]
    assert estimator.n_iter_ == 5
    assert signal.getsignal(signal.SIGINT) is own


def test_handler_of_the_user_may_raise_keyboard_interrupt():
    X, y = make_table()

    def own(number, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, own)
    with pytest.warns(ConvergenceWarning, match="interrupted after 0 of 5"):
        classifier((8,), Tanh({3: press_ctrl_c})).fit(X, y)
    assert signal.getsignal(signal.SIGINT) is own


def test_no_handler_is_installed_outside_the_main_thread():
    X, y = make_table()
    seen, fitted = [], []
    activation = Tanh({2: lambda: seen.append(signal.getsignal(signal.SIGINT))})
    thread = threading.Thread(
        target=lambda: fitted.append(classifier((8,), activation).fit(X, y).n_iter_)
    )
    thread.start()
    thread.join()
    assert fitted == [5]
    assert seen == [signal.default_int_handler]


def test_fit_within_a_fit_leaves_the_outer_one_in_charge():
    X, y = make_table()
    inner = classifier((8,), Tanh({2: press_ctrl_c}))
    outer = classifier((8,), Tanh({6: lambda: inner.fit(X, y)}))
    with pytest.warns(ConvergenceWarning, match="interrupted after 1 of 5"):
        outer.fit(X, y)
    assert inner.n_iter_ == 5


# Whose line it is.


def test_warnings_of_a_fit_name_the_line_that_asked_for_it():
    X, y = make_table()
    activation = Tanh({}, {1: press_ctrl_c})
    activation.n_steps_in_all = 8
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier((4,), "relu", learning_rate_init=1000.0).fit(X, y)
        classifier((4,), solver="lbfgs", max_iter=1).fit(X, y)
        classifier((4,), activation, max_iter=2).fit(X, y)
        streamed = classifier((4,), encoder="auto", max_iter=1)
        streamed.partial_fit(X[:1], y[:1], classes=[0, 1])
    words = ("diverged", "without converging", "training was over", "first part")
    for word, warning in zip(words, caught, strict=True):
        assert word in str(warning.message)
        assert warning.filename == __file__
