"""`python -m skdnn`: its parts on every twentieth hour, and one whole run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import Bunch

import skdnn
from skdnn import DeepBinaryClassifier
from skdnn import __main__ as demo
from skdnn.datasets import load_rain

MODELS = [
    "base rate",
    "LogisticRegression",
    "MLPClassifier",
    "HistGradientBoostingClassifier",
    "DeepBinaryClassifier",
]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def rain():
    """Every twentieth row: all months and airports, in a second instead of ten."""
    whole = load_rain()
    return Bunch(**(whole | {"data": whole.data[::20], "target": whole.target[::20]}))


@pytest.fixture(scope="module")
def split(rain):
    return demo.split_by_time(rain, demo.ALL_COLUMNS)


@pytest.fixture
def small_demo(rain, monkeypatch, tmp_path):
    """Run the demonstration on the small table, in an empty folder; the models are in `models`."""
    made = {}

    def make_models(*args, **kwargs):
        made.update(make_all_models(*args, **kwargs))
        made[demo.NETWORK].set_params(max_iter=7)
        return made

    make_all_models = demo.make_models
    monkeypatch.setattr(demo, "load_rain", lambda: rain)
    monkeypatch.setattr(demo, "make_models", make_models)
    monkeypatch.chdir(tmp_path)
    return Bunch(run=demo.main, models=made, folder=tmp_path)


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.ticker"):
        monkeypatch.setitem(sys.modules, name, None)


def make_result(log_loss=0.2, brier_score=0.05, roc_auc=0.9, average_precision=0.5):
    values = (log_loss, brier_score, roc_auc, average_precision)
    metrics = dict(zip(demo.METRICS, values, strict=True))
    return demo.Result(np.array([0.1, 0.9]), metrics, fit_seconds=1.25)


def read_table(output):
    """Return the four metrics of each model, as printed."""
    rows = {}
    for line in output.splitlines():
        cells = re.fullmatch(
            r"(\S.*?)  +([\d.]+)\*? +([\d.]+)\*? +([\d.]+)\*? +([\d.]+)\*? +.*", line
        )
        if cells:
            rows[cells[1]] = [float(cell) for cell in cells.groups()[1:]]
    return rows


# The split.


def test_split_is_by_time_whatever_the_order_of_the_rows():
    month = np.array([12.0, 1.0, 9.0, 10.0, 5.0])
    rain = Bunch(
        data=np.column_stack([month, 10.0 * month]),
        target=np.array([0, 1, 0, 1, 1]),
        feature_names=["month", "temp_f"],
    )
    split = demo.split_by_time(rain, ["temp_f"])
    np.testing.assert_array_equal(split.X_train, [[10.0], [90.0], [50.0]])
    np.testing.assert_array_equal(split.X_test, [[120.0], [100.0]])
    assert split.y_train.tolist() == [1, 0, 1]
    assert split.y_test.tolist() == [0, 1]
    assert split.is_late.tolist() == [False, True, False]


def test_split_shares_every_row_out_once(rain, split):
    assert len(split.X_train) == (rain.data[:, 1] <= 9).sum()
    assert len(split.X_train) + len(split.X_test) == len(rain.data)
    assert split.y_train.sum() + split.y_test.sum() == rain.target.sum()


def test_split_takes_the_columns_in_the_order_asked_for(rain):
    split = demo.split_by_time(rain, ["pressure_hpa", "temp_f"])
    is_early = rain.data[:, 1] <= 9
    np.testing.assert_array_equal(split.X_train, rain.data[is_early][:, [9, 3]])


def test_neither_month_nor_target_is_a_feature(rain):
    assert set(demo.ALL_COLUMNS) == set(rain.feature_names) - {"month"}
    assert demo.THREE_SENSORS == ["temp_f", "humidity_pct", "pressure_hpa"]


# The pipelines.


def test_circle_has_no_seam_and_puts_missing_values_in_its_centre():
    X = np.array([[0.0], [6.0], [24.0], [np.nan]])
    expected = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    np.testing.assert_allclose(demo.to_circle(X, 24.0), expected, atol=1e-12)


def test_preprocessor_learns_from_the_training_rows_alone(split):
    preprocessor = demo.make_preprocessor(demo.ALL_COLUMNS).fit(split.X_train)
    imputer = preprocessor.named_transformers_["numeric"][0]
    numbers = split.X_train[:, [demo.ALL_COLUMNS.index(name) for name in demo.MEASUREMENTS]]
    np.testing.assert_array_equal(imputer.statistics_, np.nanmedian(numbers, axis=0))


def test_preprocessor_gives_finite_scaled_numbers_and_indicators(split):
    preprocessor = demo.make_preprocessor(demo.ALL_COLUMNS)
    Z = preprocessor.fit_transform(split.X_train)
    n_indicators = len(preprocessor.named_transformers_["numeric"][0].indicator_.features_)
    assert n_indicators >= 2  # gusts and pressure
    assert Z.shape == (len(split.X_train), 7 + n_indicators + 3 + 2 + 2)
    np.testing.assert_allclose(Z[:, : 7 + n_indicators].mean(axis=0), 0.0, atol=1e-9)
    assert np.isfinite(preprocessor.transform(split.X_test)).all()


@pytest.mark.parametrize("columns", [demo.ALL_COLUMNS, demo.THREE_SENSORS], ids=["all", "three"])
def test_models_are_the_five_in_order_and_seeded(columns):
    models = demo.make_models(columns, seed=7, verbose=3)
    assert list(models) == MODELS
    network = models["DeepBinaryClassifier"]
    assert isinstance(network, DeepBinaryClassifier)
    assert (network.random_state, network.verbose) == (7, 3)
    assert models["HistGradientBoostingClassifier"].random_state == 7
    assert models["MLPClassifier"][-1].random_state == 7


def test_trees_are_told_which_column_is_a_category():
    name = "HistGradientBoostingClassifier"
    model = demo.make_models(demo.ALL_COLUMNS, seed=0)[name]
    assert [demo.ALL_COLUMNS[i] for i in model.categorical_features] == ["airport"]
    assert demo.make_models(demo.THREE_SENSORS, seed=0)[name].categorical_features is None


def test_network_is_at_its_defaults():
    network = demo.make_models(demo.ALL_COLUMNS, seed=3)[demo.NETWORK]
    assert network.get_params() == DeepBinaryClassifier(random_state=3, verbose=0).get_params()


def test_network_gets_the_table_as_it_is_and_stops_by_its_last_months(rain, split):
    assert np.isnan(split.X_train).any()
    network = demo.make_models(demo.ALL_COLUMNS, seed=0)[demo.NETWORK].set_params(max_iter=2)
    result = demo.judge(network, split)
    assert np.isfinite(result.probability).all()
    month = rain.data[:, rain.feature_names.index("month")]
    assert split.is_late.sum() == np.isin(month, [8, 9]).sum()
    expected = DeepBinaryClassifier(random_state=0, max_iter=2).fit(
        split.X_train[~split.is_late],
        split.y_train[~split.is_late],
        X_val=split.X_train[split.is_late],
        y_val=split.y_train[split.is_late],
    )
    np.testing.assert_array_equal(network.params_, expected.params_)


# The results.


def test_judge_measures_on_the_test_rows(split):
    model = demo.make_models(demo.ALL_COLUMNS, seed=0)["base rate"]
    result = demo.judge(model, split)
    p, q = split.y_train.mean(), split.y_test.mean()
    np.testing.assert_allclose(result.probability, np.full(len(split.y_test), p))
    assert result.metrics == {
        "log-loss": pytest.approx(-(q * np.log(p) + (1 - q) * np.log(1 - p))),
        "Brier score": pytest.approx(q * (1 - p) ** 2 + (1 - q) * p**2),
        "ROC AUC": 0.5,
        "avg. precision": pytest.approx(q),
    }
    assert result.fit_seconds > 0.0


def test_judge_gives_the_same_numbers_for_the_same_seed(split):
    first, second = (
        demo.judge(demo.make_models(demo.ALL_COLUMNS, seed=3)[name], split)
        for name in ["HistGradientBoostingClassifier"] * 2
    )
    np.testing.assert_array_equal(first.probability, second.probability)


def test_table_stars_the_best_of_each_column():
    results = {
        "base rate": make_result(0.3, 0.04, 0.5, 0.1),
        "DeepBinaryClassifier": make_result(0.1, 0.05, 0.8, 0.2),
        "LogisticRegression": make_result(0.2, 0.06, 0.9, 0.7),
    }
    head, rule, *rows, star, _, conclusion = demo.format_table(results).splitlines()
    assert all(
        heading in head for heading in ("log-loss", "Brier", "ROC AUC", "precision", "fit seconds")
    )
    assert set(rule) == {"-"}
    assert [row.split() for row in rows] == [
        ["base", "rate", "0.3000", "0.0400*", "0.5000", "0.1000", "1.25"],
        ["DeepBinaryClassifier", "0.1000*", "0.0500", "0.8000", "0.2000", "1.25"],
        ["LogisticRegression", "0.2000", "0.0600", "0.9000*", "0.7000*", "1.25"],
    ]
    assert len({len(line) for line in (head, rule, *rows)}) == 1
    assert star.startswith("* ")
    assert conclusion == "DeepBinaryClassifier has 67% less log-loss than the base rate."


def test_conclusion_does_not_flatter_a_network_worse_than_the_base_rate():
    results = {"base rate": make_result(0.2), "DeepBinaryClassifier": make_result(0.3)}
    text = demo.format_table(results)
    assert text.endswith("DeepBinaryClassifier has 50% more log-loss than the base rate.")


def test_picture_shows_the_loss_of_every_epoch_and_every_model(monkeypatch, split):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: drawn.append(figure))
    history = {"loss": [0.7, 0.5, 0.4], "validation_loss": [0.8, 0.6, 0.5]}
    uniform = np.random.default_rng(0).random(len(split.y_test))
    results = {name: make_result()._replace(probability=uniform) for name in MODELS}
    demo.draw(Bunch(history_=history), results, split, "rain.png")
    learning, reliability = drawn[0].axes
    for curve, losses in zip(learning.lines, history.values(), strict=False):
        np.testing.assert_array_equal(curve.get_xydata(), list(enumerate(losses, 1)))
    labels = [text.get_text() for text in reliability.get_legend().get_texts()]
    assert labels == ["perfect", *MODELS[1:]]
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in drawn[0].axes)


# The command.


def test_main_prints_progress_table_and_conclusion(small_demo, capsys):
    assert small_demo.run([]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^Iteration +5/7, loss = [\d.]+, ", output, re.MULTILINE)
    assert list(read_table(output)) == MODELS
    assert "log-loss than the base rate" in output
    assert "airport, hour, wind_dir_deg" in output
    assert "The month is left out" in output
    assert "hour and wind direction on circles" in output
    assert "the others get them as they are" in output
    assert "DeepBinaryClassifier is at its defaults" in output
    assert "August and September" in output


def test_main_writes_the_picture_here_by_default_and_says_where(small_demo, capsys):
    small_demo.run([])
    picture = small_demo.folder / "rain.png"
    assert picture.read_bytes().startswith(PNG)
    assert [path.name for path in small_demo.folder.iterdir()] == ["rain.png"]
    assert str(picture) in capsys.readouterr().out


def test_main_makes_the_output_folder(small_demo, capsys):
    small_demo.run(["--output", "new/folder"])
    picture = small_demo.folder / "new" / "folder" / "rain.png"
    assert picture.read_bytes().startswith(PNG)
    assert str(picture) in capsys.readouterr().out


def test_three_sensors_uses_three_columns(small_demo, capsys):
    small_demo.run(["--three-sensors"])
    output = capsys.readouterr().out
    assert "temp_f, humidity_pct, pressure_hpa." in output
    assert "airport" not in output.replace("airports", "")
    assert "circles" not in output
    assert list(read_table(output)) == MODELS
    assert {model.n_features_in_ for model in small_demo.models.values()} == {3}


def test_seed_reaches_the_models(small_demo):
    small_demo.run(["--seed", "11"])
    assert small_demo.models["DeepBinaryClassifier"].random_state == 11


@pytest.mark.usefixtures("without_matplotlib")
def test_without_matplotlib_the_table_comes_and_a_hint(small_demo, capsys):
    assert small_demo.run([]) == 0
    output = capsys.readouterr().out
    assert list(read_table(output)) == MODELS
    assert "pip install matplotlib" in output
    assert list(small_demo.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--seed", "-1"], "--seed must be between 0 and 2**32 - 1, got -1"),
        (["--seed", "half"], "invalid int value: 'half'"),
        (["--output", "file"], "--output must be a directory"),
        (["--four-sensors"], "unrecognized arguments"),
    ],
)
def test_bad_arguments_end_before_training(small_demo, capsys, arguments, complaint):
    (small_demo.folder / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        small_demo.run(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
    assert small_demo.models == {}


@pytest.mark.slow
def test_whole_demonstration_beats_the_base_rate(tmp_path):
    root = str(Path(skdnn.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "skdnn"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        timeout=300,
    )
    assert run.stderr == ""
    assert run.returncode == 0
    assert "19,618 hours, rain in 6.8%" in run.stdout
    assert "6,497 hours, rain in 6.3%" in run.stdout
    table = read_table(run.stdout)
    assert list(table) == MODELS
    log_losses = {name: values[0] for name, values in table.items()}
    assert log_losses["DeepBinaryClassifier"] < 0.6 * log_losses["base rate"]
    assert log_losses["DeepBinaryClassifier"] < log_losses["LogisticRegression"]
    assert table["DeepBinaryClassifier"][2] > 0.9
    assert (tmp_path / "rain.png").read_bytes().startswith(PNG)
