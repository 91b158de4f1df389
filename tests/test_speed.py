"""The comparison of speed: its rows, targets and spread, and what is said of what is missing."""

import json
import sys
import time
import warnings
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.fixes import parse_version

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import speed
import speed_costs
import speed_fits
import speed_imports
import speed_measure
import speed_predict
import speed_reach
import speed_steps
from speed_report import (
    Row,
    at_least,
    at_most,
    cells,
    describe,
    show,
    show_time,
    summarize,
    to_json,
    to_markdown,
)

from skdnn import DeepBinaryClassifier

needs_callbacks = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="scikit-learn's callbacks"
)

# ---- rows and their table


def test_row_has_the_median_and_the_quartiles_of_its_runs():
    row = Row("a", "b", (1.0, 2.0, 3.0, 4.0, 100.0), target=at_least(3.0))
    assert row.figure == 3.0
    assert row.quartiles == (2.0, 4.0)
    assert row.is_met is True  # the bound itself is met
    assert cells(row)[2:6] == ["3.00x", "2.00x to 4.00x", ">= 3.00x", "yes"]


@pytest.mark.parametrize(
    ("target", "is_met"),
    [(at_least(2.1), False), (at_least(1.9), True), (at_most(1.9), False), (at_most(2.1), True)],
)
def test_target_has_a_direction(target, is_met):
    assert Row("a", "b", (2.0,), target=target).is_met is is_met


def test_single_run_has_no_quartiles():
    row = Row("a", "b", (40.0,), "MB", at_most(32.0))
    assert cells(row) == ["a", "b", "40.0 MB", "", "<= 32.0 MB", "no", ""]


def test_missing_row_stays_in_the_table_with_its_reason():
    row = Row("a", "torch", target=at_least(5.0), missing="torch is not installed")
    assert (row.figure, row.quartiles, row.is_met) == (None, None, None)
    assert cells(row) == ["a", "torch", "torch is not installed", "", ">= 5.00x", "", ""]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(1.236, "x", "1.24x"), (0.8994, "%", "89.9%"), (-3.21, "ms", "-3.2 ms")],
)
def test_figures_are_shown_with_their_unit(value, unit, text):
    assert show(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.34, "12.3 s"), (0.0123, "12.3 ms"), (5.61e-5, "56.1 us")]
)
def test_times_are_shown_in_a_unit_that_suits_them(seconds, text):
    assert show_time(seconds) == text


def test_markdown_has_a_line_for_each_row_and_as_many_cells():
    rows = [Row("a", "b", (1.0,)), Row("c", "d", missing="d is not installed")]
    lines = to_markdown(rows).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {8}


def test_summary_counts_targets_and_names_what_is_missing_once():
    rows = [
        Row("a", "b", (2.0,), target=at_least(1.0)),
        Row("a", "b", (2.0,), target=at_most(1.0)),
        Row("a", "b", (2.0,)),
        Row("a", "torch", target=at_least(1.0), missing="torch is not installed"),
        Row("c", "torch", missing="torch is not installed"),
    ]
    expected = "1 of 2 targets are met; 2 rows have no figure: torch is not installed."
    assert summarize(rows) == expected
    assert summarize(rows[:3]) == "1 of 2 targets are met."


def test_json_holds_the_runs_and_what_follows_from_them():
    row = Row("a", "b", (1.0, 3.0), target=at_most(2.0))
    figures = json.loads(json.dumps(to_json("step", row)))
    assert figures["name"] == "step"
    assert figures["values"] == [1.0, 3.0]
    assert (figures["figure"], figures["quartiles"]) == (2.0, [1.5, 2.5])
    assert figures["is_met"] is True
    assert figures["target"] == {"bound": 2.0, "is_least": False}


def test_description_names_versions_kernels_and_what_is_not_installed():
    environment = {
        "n_usable_cpus": 2,
        "python": "3.13",
        "packages": {"numpy": "2.0", "joblib": "1", "torch": None},
        "blas": [{"internal_api": "openblas", "version": "0.3", "architecture": "Zen"}] * 2,
    }
    expected = (
        "2 processors; Python 3.13, numpy 2.0, torch (not installed); openblas 0.3 with its "
        "kernel Zen."
    )
    assert describe(environment) == expected


# ---- measuring


def test_calls_alternate():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = speed_measure.alternate(calls, repeats=2, n_calls=2)
    assert "".join(order) == "aabbaabb"
    assert {name: len(runs) for name, runs in seconds.items()} == {"a": 2, "b": 2}


def test_seconds_are_those_of_one_call():
    clock = iter([0.0, 6.0])
    calls = {"a": lambda: None}
    assert speed_measure.alternate(calls, 1, n_calls=3, clock=clock.__next__) == {"a": [2.0]}


def test_rows_of_predictions_are_measured_by_their_number(monkeypatch):
    monkeypatch.setattr(speed_predict, "N_TRAIN", 40)
    monkeypatch.setattr(speed_predict, "N_PREDICTED", (1, 70))
    monkeypatch.setattr(speed_predict, "N_CALLED", 70)
    monkeypatch.setattr(speed_measure, "WARM_UP_SECONDS", 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        rows = list(speed_predict.predict_by_rows(1))
    assert [row.unit for row in rows] == ["us", "x"] * 2
    assert all(len(row.values) == 1 and row.values[0] > 0.0 for row in rows)


def test_ratios_are_of_neighbouring_runs():
    assert speed_measure.paired_ratios([2.0, 9.0], [1.0, 3.0]) == (2.0, 3.0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak")
def test_extra_memory_sees_what_a_call_touches_and_frees():
    megabytes = speed_measure.extra_memory(lambda: np.ones(8 * 2**20, np.float32).sum())
    assert 30 < megabytes < 40
    assert speed_measure.extra_memory(lambda: None) < 2


def test_threads_are_limited_for_the_while():
    from skdnn.training.threads import resolve_n_jobs

    before = resolve_n_jobs(None)
    with speed_measure.limited(1):
        assert resolve_n_jobs(None) == 1
        if "torch" in sys.modules:
            assert sys.modules["torch"].get_num_threads() == 1
    assert resolve_n_jobs(None) == before


# ---- steps


def test_every_peer_has_a_row_and_missing_ones_are_named():
    case = speed_steps.CASES[2]
    seconds = {"skdnn": [2.0, 2.0], "MLPClassifier": [4.0, 6.0], "np.dot": [1.0, 1.8]}
    rows = {row.against: row for row in speed_steps.rows_of_case(case, 1, seconds)}
    assert rows["MLPClassifier"].figure == 2.5
    assert rows["MLPClassifier"].is_met is True
    assert rows["its matrix products"].unit == "%"
    assert rows["its matrix products"].values == (0.5, 0.9)
    assert rows["its matrix products"].is_met is False
    assert rows["torch"].missing == "torch is not installed"
    assert rows["skorch"].target == at_least(1.3)


def test_products_of_a_step_are_as_many_as_layers_need(monkeypatch):
    shapes = []

    def dot(a, b, out):
        shapes.append(a.shape + b.shape)
        assert out.shape == (a.shape[0], b.shape[1])

    X, y = speed_measure.make_rows(20, 3)
    epoch = speed_steps.dot_epoch((4, 5), 10, X, y)
    monkeypatch.setattr(np, "dot", dot)
    epoch()
    # three forward, three for weights, and two for inputs: none for the first layer; two batches
    assert len(shapes) == 2 * 8
    assert (10, 3, 3, 4) in shapes
    assert (10, 4, 4, 3) not in shapes


def test_step_is_timed_for_what_is_installed(monkeypatch):
    def missing(*_):
        raise ImportError("torch")

    monkeypatch.setattr(speed_measure, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setitem(speed_steps.LIBRARIES, "torch", missing)
    monkeypatch.setitem(speed_steps.LIBRARIES, "skorch", missing)
    case = speed_steps.Case((4,), 10, 3, 2, {})
    seconds = speed_steps.time_case(case, repeats=1)
    assert set(seconds) == {"skdnn", "MLPClassifier", "np.dot"}
    assert all(0 < runs[0] < 5 for runs in seconds.values())


# ---- fits


def test_rows_of_a_fit_are_beyond_the_table_and_by_row():
    seconds = {10_000: [0.1, 0.1], 1_000_000: [11.0, 13.0]}
    measured = {"memory": 150.0, "encoded": 80.0, "seconds": seconds}
    memory, growth = speed_fits.rows_of_fit("the default", measured)
    assert memory.values == (70.0,)
    assert memory.is_met is False
    np.testing.assert_allclose(growth.values, [1.1, 1.3])
    assert growth.is_met is False


def test_import_is_timed_in_another_interpreter():
    started = time.perf_counter()
    seconds = speed_imports.time_imports("json")[0]
    assert 0 < seconds < time.perf_counter() - started


# ---- time to a loss


def small_race(monkeypatch, goal):
    """Race on a tiny table, towards a log-loss."""
    X, y = speed_measure.make_rows(300, 3)
    table = speed_reach.Table(X[:200], y[:200], X[200:], y[200:])
    small = {"n_members": 2, "max_iter": 12}
    monkeypatch.setattr(
        speed_reach,
        "DeepBinaryClassifier",
        lambda random_state: DeepBinaryClassifier((8,), random_state=random_state, **small),
    )
    monkeypatch.setattr(speed_reach, "fit_peer", lambda table, seed: (10.0, goal))
    return speed_reach.race(table, seed=0)


@needs_callbacks
def test_race_stops_at_the_first_epoch_that_reaches_the_goal(monkeypatch):
    reached = small_race(monkeypatch, goal=0.68)
    assert reached.n_epochs > 1
    assert 0 < reached.seconds < 10
    assert reached.loss <= 0.68
    assert small_race(monkeypatch, goal=1e9).n_epochs == 1


def test_epoch_that_would_not_be_kept_does_not_count():
    table = Namespace(loss=lambda model: 0.1)
    finder, epoch = speed_reach.Finder(table, goal=0.2), Namespace(task_name="epoch")
    earlier, now = Namespace(best_iter_=1), Namespace(best_iter_=3)
    finder.n_epochs = 1
    assert not finder.on_fit_task_end(None, epoch, fitted_estimator=earlier)
    assert finder.on_fit_task_end(None, epoch, fitted_estimator=now)
    assert not finder.on_fit_task_end(None, Namespace(task_name="fit"), fitted_estimator=now)
    assert finder.n_epochs == 3


@needs_callbacks
def test_race_to_an_impossible_goal_is_lost(monkeypatch):
    lost = small_race(monkeypatch, goal=0.0)
    assert lost.n_epochs is None
    assert lost.seconds == np.inf


def race(seconds, loss=0.3, n_epochs=2):
    """Return a race in which MLPClassifier took 10 seconds."""
    return speed_reach.Race(10.0, 0.35, n_epochs, seconds, loss)


def test_races_are_summarized_by_their_ratios():
    row = speed_reach.row_of_races("rain", [race(1.0), race(2.0), race(5.0)])
    assert row.values == (10.0, 5.0, 2.0)
    assert row.is_met is True
    assert row.details == "MLPClassifier 10 s to 0.3500; skdnn 2 s, 2 epochs, to 0.3000"


def test_race_that_is_not_finished_is_infinitely_slow():
    lost = speed_reach.Race(10.0, 0.35, None)
    row = speed_reach.row_of_races("rain", [race(1.0), lost, lost])
    assert row.values == (10.0, 0.0, 0.0)
    assert row.is_met is False
    assert "not reached with 2 of 3 seeds" in row.details
    assert speed_reach.row_of_races("rain", [lost]).figure == 0.0


def test_tables_without_a_folder_or_a_file_are_named(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    monkeypatch.setattr(speed_reach, "load_rain_table", lambda: None)
    monkeypatch.setattr(speed_reach, "race", lambda table, seed: race(1.0))
    rain, adult = speed_reach.reach_rows(None, ["adult"], 100, 2)
    assert rain.values == (10.0, 10.0)
    assert adult.missing == "large tables need --data DIR"
    _, adult = speed_reach.reach_rows(tmp_path, ["adult"], 100, 2)
    assert "adult.csv.gz" in adult.missing


def test_rain_is_split_by_time():
    pytest.importorskip("pandas")
    table = speed_reach.load_rain_table()
    assert len(table.X_train) == len(table.y_train) > 2 * len(table.X_test)
    assert "month" not in table.X_train
    assert str(table.X_train["airport"].dtype) == "category"
    assert len(table.X_train) + len(table.X_test) == 26_115


# ---- the picture


def test_costs_are_measured_and_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")

    def missing(*_):
        raise ImportError("torch")

    monkeypatch.setattr(speed_measure, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setitem(speed_costs.LIBRARIES, "torch", missing)
    small = speed_costs.Size(rows=200, features=3, width=4)
    monkeypatch.setattr(speed_costs, "Size", lambda: small)
    grid = {"rows": [200, 400], "features": [3], "width": [4], "members": [1, 2]}
    monkeypatch.setattr(speed_costs, "GRID", grid)
    costs = list(speed_costs.measure_costs(repeats=1))
    assert [(cost["axis"], cost["rows"], cost["members"]) for cost in costs] == [
        ("rows", 200, 1),
        ("rows", 400, 1),
        ("features", 200, 1),
        ("width", 200, 1),
        ("members", 200, 1),
        ("members", 200, 2),
    ]
    assert all(cost["seconds"]["torch"] is None for cost in costs)
    assert all(cost["seconds"]["skdnn"] > 0 for cost in costs)
    path = speed_costs.draw_costs(costs, tmp_path / "new")
    assert path.read_bytes().startswith(b"\x89PNG")


# ---- the command


def run_command(monkeypatch, *arguments):
    """Run the script's main function with two fake benchmarks, one of which fails half-way."""

    def whole(options):
        yield Row("whole", "b", (1.0, 2.0), target=at_most(float(options.repeats)))

    def broken(options):
        yield Row("first", "b", (1.0,))
        raise MemoryError("too\nlarge")

    monkeypatch.setattr(speed, "BENCHMARKS", {"broken": broken, "whole": whole})
    monkeypatch.setattr(sys, "argv", ["speed.py", *map(str, arguments)])
    speed.main()


def test_command_prints_a_table_and_writes_json(tmp_path, monkeypatch, capsys):
    path = tmp_path / "speed.json"
    run_command(monkeypatch, "--repeats", 2, "--output", path)
    shown = capsys.readouterr().out
    assert "| whole | b | 1.50x | 1.25x to 1.75x | <= 2.00x | yes |  |" in shown
    assert "| first | b | 1.00x |" in shown
    assert "| broken |  | failed: MemoryError: too large |" in shown
    assert "1 of 1 targets are met; 1 rows have no figure: failed: MemoryError" in shown
    figures = json.loads(path.read_text())
    assert [row["path"] for row in figures["rows"]] == ["first", "broken", "whole"]
    assert set(figures["environment"]["packages"]) >= {"numpy", "torch", "skorch"}


def test_command_runs_some_rows_alone(monkeypatch, capsys):
    run_command(monkeypatch, "--only", "whole,")
    shown = capsys.readouterr().out
    assert "| whole |" in shown
    assert "broken" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "other"], "--only: expected some of step, threads, members"),
        (["--repeats", "0"], "--repeats: expected 1 or more; got 0"),
    ],
)
def test_command_explains_what_it_cannot_do(capsys, arguments, message):
    with pytest.raises(SystemExit):
        speed.parse(arguments)
    assert message in capsys.readouterr().err


def test_every_benchmark_takes_the_options():
    options = speed.parse([])
    assert isinstance(options, Namespace)
    for benchmark in speed.BENCHMARKS.values():
        assert iter(benchmark(options))  # a generator that has measured nothing yet
