"""What `verbose` prints: lines of the same columns, and how training stopped."""

import re
import warnings
from math import isnan

import numpy as np
import pytest
from data import classifier, make_table
from sklearn.exceptions import ConvergenceWarning
from trainings import AfterEpoch, needs_callbacks

HEADINGS = ["epoch", "loss", "val. loss", "val. score", "learning rate", "seconds", "time left"]


def read_lines(output):
    """Return the rows below the headings, as lists of cells, and the other lines."""
    lines = output.splitlines()
    rows = [re.split(r" {2,}", line.strip()) for line in lines if line.startswith(" ")]
    assert len({len(line) for line in lines if line.startswith(" ")}) <= 1
    assert all(row == HEADINGS or len(row) == len(HEADINGS) for row in rows)
    headings = [i for i, row in enumerate(rows) if row == HEADINGS]
    return (
        [row for row in rows if row != HEADINGS],
        [line for line in lines if not line.startswith(" ")],
        len(headings),
    )


def fit_quietly(model, *args, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*args, **given)


@pytest.mark.parametrize(
    ("verbose", "epochs"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (True, range(1, 6)), (9, [5])]
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_lines_are_those_of_the_history_every_so_many_epochs(
    capsys, verbose, epochs, early_stopping
):
    X, y = make_table()
    model = classifier(verbose=verbose, early_stopping=early_stopping, scoring="roc_auc")
    model.fit(X, y)
    rows, others, n_headings = read_lines(capsys.readouterr().out)
    assert n_headings == len(others) == 1
    assert [row[0] for row in rows] == [f"{epoch}/5" for epoch in epochs]
    for epoch, row in zip(epochs, rows, strict=True):
        for cell, name in zip(
            row[1:4], ["loss", "validation_loss", "validation_score"], strict=True
        ):
            value = model.history_.get(name, [np.nan] * 5)[epoch - 1]
            assert cell == ("-" if isnan(value) else f"{value:.6f}")
        assert row[4] == "1.00e-02"
        assert re.fullmatch(r"\d+\.\d\d", row[5])
        assert re.fullmatch(r"\d+\.\d s", row[6])
    assert rows[-1][6] == "0.0 s"


def test_lines_stay_aligned_whatever_the_loss(capsys):
    X, y = make_table()
    settings = {"activation": "identity", "solver": "sgd", "learning_rate_init": 30.0}
    fit_quietly(classifier(verbose=1, max_iter=12, **settings), X * 50, y)
    fit_quietly(classifier(verbose=1, max_iter=12), X, y)
    rows, _, _ = read_lines(capsys.readouterr().out)
    losses = [float(row[1]) for row in rows if row[1] != "-"]
    assert max(losses) > 1000 > 10 > min(losses)


@pytest.mark.parametrize(
    "settings", [{}, {"learning_rate": "cosine"}, {"solver": "lbfgs", "batch_size": "auto"}]
)
def test_epochs_count_on_after_a_warm_start(capsys, settings):
    X, y = make_table()
    model = classifier(max_iter=3, warm_start=True, verbose=1, tol=1e-9, **settings)
    fit_quietly(fit_quietly(model, X, y), X, y)
    rows, others, _ = read_lines(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["1/3", "2/3", "3/3", "4/6", "5/6", "6/6"]
    assert [line.partition(";")[0] for line in others] == [
        f"max_iter is reached: stopped after epoch {n}" for n in (3, 6)
    ]


def test_parts_of_a_stream_are_lines_of_one_table(capsys):
    X, y = make_table()
    model = classifier(verbose=1)
    for _ in range(3):
        model.partial_fit(X, y, [0, 1])
    rows, others, n_headings = read_lines(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["1/1", "2/2", "3/3"]
    assert (others, n_headings) == ([], 1)


def test_networks_of_lbfgs_follow_each_other(capsys):
    X, y = make_table()
    model = classifier(solver="lbfgs", batch_size="auto", n_members=2, max_iter=3, verbose=2)
    fit_quietly(model, X, y)
    rows, others, n_headings = read_lines(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["2/6", "4/6", "6/6"]
    assert (len(others), n_headings) == (1, 1)


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


RISING = {"hidden_layer_sizes": (32,), "learning_rate_init": 0.1, "batch_size": 8}
"""The validation loss rises in the end."""


def test_early_stopping_says_what_it_kept(capsys):
    X, y = make_table()
    settings = {"early_stopping": True, "n_iter_no_change": 4, "max_iter": 100, **RISING}
    model = classifier(verbose=1, warm_start=True, **settings).fit(X, y)
    stopped, kept = model.n_iter_, model.best_iter_
    assert kept < stopped < 100
    expected = f"Early stopping: stopped after epoch {stopped}; kept epoch {kept}."
    assert last_line(capsys) == expected
    model.fit(X, y)  # goes on from those kept, and gains nothing
    assert model.best_iter_ == kept
    end = f"stopped after epoch {stopped + model.n_iter_}; kept the weights from before."
    assert last_line(capsys).endswith(end)


def test_members_that_stop_by_themselves_keep_several_epochs(capsys):
    X, y = make_table()
    settings = {"early_stopping": True, "n_iter_no_change": 4, "max_iter": 100, **RISING}
    model = classifier(verbose=1, n_members=4, **settings)
    model.fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    pattern = r"Early stopping: stopped after epoch (\d+); kept epochs (\d+) to (\d+)\."
    stopped, first, last = map(int, re.fullmatch(pattern, last_line(capsys)).groups())
    assert first < last == model.best_iter_
    assert stopped == model.n_iter_


def test_progress_that_ends_is_said_without_validation(capsys):
    X, y = make_table()
    model = classifier(verbose=1, n_iter_no_change=2, tol=0.1, max_iter=50).fit(X, y)
    n = model.n_iter_
    assert last_line(capsys) == f"No more progress: stopped after epoch {n}; kept epoch {n}."


def test_limits_are_said(capsys):
    X, y = make_table()
    fit_quietly(classifier(verbose=1, max_iter=3), X, y)
    assert last_line(capsys) == "max_iter is reached: stopped after epoch 3; kept epoch 3."
    fit_quietly(classifier(verbose=9, max_time=1e-9), X, y)
    assert last_line(capsys) == "max_time=1e-09 is over: stopped after epoch 1; kept epoch 1."
    lbfgs = {"solver": "lbfgs", "batch_size": "auto", "verbose": 1}
    fit_quietly(classifier(max_fun=3, max_iter=100, **lbfgs), X, y)
    assert re.match(r"STOP: .*LIMIT: stopped after epoch \d; kept epoch \d\.", last_line(capsys))
    model = classifier((), max_iter=1000, tol=1e-3, **lbfgs).fit(X, y)
    assert last_line(capsys).startswith(f"Converged: stopped after epoch {model.n_iter_}; kept")


def test_divergence_is_said(capsys):
    X, y = make_table()
    settings = {"activation": "identity", "solver": "sgd", "learning_rate_init": 1e30}
    fit_quietly(classifier(verbose=1, max_iter=20, **settings), X, y)
    rows, [end], _ = read_lines(capsys.readouterr().out)
    assert 1 < len(rows) < 20
    assert end.startswith(f"Diverged: stopped after epoch {len(rows)}; kept")


@needs_callbacks
def test_requests_to_stop_are_said_after_a_line_of_the_last_epoch(capsys):
    X, y = make_table()
    classifier(verbose=10).set_callbacks(AfterEpoch(2)).fit(X, y)
    rows, [end], _ = read_lines(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["2/5"]
    assert end == "Asked by a callback: stopped after epoch 2; kept epoch 2."

    def press_ctrl_c():
        raise KeyboardInterrupt

    fit_quietly(classifier(verbose=1).set_callbacks(AfterEpoch(2, press_ctrl_c)), X, y)
    assert last_line(capsys) == "Interrupted: stopped after epoch 2; kept epoch 2."


def test_verbose_changes_nothing_and_silence_is_the_rule(capsys):
    X, y = make_table()
    silent = classifier(verbose=False).fit(X, y)
    assert capsys.readouterr() == ("", "")
    np.testing.assert_array_equal(classifier(verbose=1).fit(X, y).params_, silent.params_)
