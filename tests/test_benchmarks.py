"""The comparison of predictions: its scores, its files, and the summary of its rows."""

import gzip
import json
import sys
import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

pd = pytest.importorskip("pandas")
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import further_tables  # noqa: E402
import quality  # noqa: E402
import quality_models  # noqa: E402
import quality_report  # noqa: E402
from quality_models import Model  # noqa: E402

# ---- scores


def test_calibration_error_of_constant_prediction_is_its_distance_to_the_share():
    y = np.array([0, 0, 0, 1] * 25)
    assert quality.expected_calibration_error(y, np.full(100, 0.6)) == pytest.approx(0.35)


def test_calibration_error_is_the_weighted_mean_over_equal_bins():
    y = np.array([0, 1, 1, 1, 1])
    p = np.array([0.1, 0.2, 0.7, 0.8, 0.9])  # bins of 3 and 2 rows
    expected = (abs(0.1 + 0.2 + 0.7 - 2) + abs(0.8 + 0.9 - 2)) / 5
    assert quality.expected_calibration_error(y, p, n_bins=2) == pytest.approx(expected)


def test_calibration_error_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    p = rng.integers(1, 5, 200) / 5  # many equal predictions, in any bin
    y = (rng.random(200) < p).astype(int)
    order = rng.permutation(200)
    expected = quality.expected_calibration_error(y, p)
    assert quality.expected_calibration_error(y[order], p[order]) == pytest.approx(expected)


@given(st.integers(0, 1000), st.integers(2, 60))
def test_calibration_error_lies_between_bias_and_mean_distance(seed, n_samples):
    rng = np.random.default_rng(seed)
    p = rng.random(n_samples)
    y = rng.integers(0, 2, n_samples)
    error = quality.expected_calibration_error(y, p)
    assert abs(p.mean() - y.mean()) - 1e-12 <= error <= np.abs(p - y).mean() + 1e-12


def test_metrics_clip_float32_probabilities_at_float64_resolution():
    y = np.array([0, 1, 1])
    p = np.array([1.0, 0.5, 0.75], np.float32)
    scores = quality.metrics(y, p)
    assert scores["log_loss"] == pytest.approx(log_loss(y, p.astype(np.float64)))
    assert scores["log_loss"] > 12  # float32's clipping would give 16 / 3
    assert scores["brier"] == pytest.approx((1 + 0.25 + 0.0625) / 3)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["auc"] == 0


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_metrics_refuse_what_is_no_probability(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        quality.metrics(np.array([0, 1]), np.array([0.5, bad]))


# ---- tables and splits


def write_table(path, text):
    """Write a compressed CSV file."""
    with gzip.open(path, "wt") as file:
        file.write(text)
    return path


def test_read_table_tells_numbers_from_categories(tmp_path):
    text = "a,b,c,target\n1,NA,True,0\n,x,False,1\n3,,True,0\n"
    table, y = quality.read_table(write_table(tmp_path / "t.csv.gz", text))
    assert [str(dtype) for dtype in table.dtypes] == ["float64", "category", "category"]
    assert np.isnan(table["a"][1])
    assert list(table["b"].cat.categories) == ["NA", "x"]  # "NA" is a level here
    assert table["b"].isna().tolist() == [False, False, True]
    assert y.tolist() == [0, 1, 0]


@pytest.mark.parametrize("text", ["a,label\n1,0\n2,1\n", "a,target\n1,1\n2,2\n", "a,target\n1,0\n"])
def test_read_table_refuses_another_target(tmp_path, text):
    with pytest.raises(ValueError, match="last column `target` holding 0 and 1; got"):
        quality.read_table(write_table(tmp_path / "t.csv.gz", text))


def test_split_rows_samples_and_stratifies_by_the_seed():
    y = np.repeat([0, 1], [900, 100])
    train, held_out = quality.split_rows(y, 500, seed=3)
    assert (len(train), len(held_out)) == (350, 150)
    assert len(np.union1d(train, held_out)) == 500
    assert y[train].mean() == pytest.approx(y[held_out].mean(), abs=0.01)
    again = quality.split_rows(y, 500, seed=3)
    assert all(np.array_equal(*pair) for pair in zip(again, (train, held_out), strict=True))
    assert not np.array_equal(quality.split_rows(y, 500, seed=4)[0], train)


def test_split_rows_takes_all_rows_of_a_small_table():
    train, held_out = quality.split_rows(np.repeat([0, 1], 50), 100, seed=0)
    assert sorted([*train, *held_out]) == list(range(100))


def test_schedule_orders():
    def by(order):
        return quality.schedule(["s", "t"], 2, ["x", "y"], order)

    assert by("tables")[:4] == [("s", 0, "x"), ("s", 0, "y"), ("s", 1, "x"), ("s", 1, "y")]
    assert by("models")[:4] == [("s", 0, "x"), ("s", 1, "x"), ("t", 0, "x"), ("t", 1, "x")]
    assert sorted(by("tables")) == sorted(by("models"))
    assert len(by("tables")) == 8


# ---- running models


class Fake:
    """A classifier that warns, fails or answers, as told."""

    def __init__(self, error=None):
        self.error = error

    def fit(self, X, y):
        """Warn, or raise the error."""
        if self.error:
            raise self.error
        warnings.warn("not converged", UserWarning, stacklevel=2)
        warnings.warn("not converged", UserWarning, stacklevel=2)

    def predict_proba(self, X):
        """Return the first column as the probability of class 1."""
        p = X.iloc[:, 0].to_numpy()
        return np.column_stack([1 - p, p])


def fake_row(error=None, make=None):
    """Return the row of a fake classifier."""
    table = pd.DataFrame({"a": np.linspace(0.01, 0.99, 20)})
    y = np.arange(20) % 2
    model = Model("numpy", make or (lambda table, seed, threads: Fake(error)))
    return quality.run_model(model, table, y, np.arange(14), np.arange(14, 20), 0, 1)


def test_run_model_scores_held_out_rows_and_counts_warnings():
    row = fake_row()
    p = np.linspace(0.01, 0.99, 20)[14:]
    assert row["log_loss"] == pytest.approx(log_loss([0, 1] * 3, p))
    assert (row["warnings"], row["error"], row["version"]) == (2, "", np.__version__)
    assert (row["n_train"], row["n_features"], row["threads"]) == (14, 1, 1)
    assert row["fit_seconds"] > 0
    assert row["predict_seconds"] > 0


def test_run_model_writes_down_a_failure_on_one_line():
    row = fake_row(ValueError("too\n  bad"))
    assert row["error"] == "ValueError: too bad"
    assert "log_loss" not in row


def test_run_model_names_a_missing_package():
    def make(table, seed, threads):
        import no_such_package  # noqa: F401

    assert fake_row(make=make)["error"] == "not installed: No module named 'no_such_package'"


def result(table="t", split=0, model="x", error="", **figures):
    """Return a row as the CSV file holds it."""
    row = {"table": table, "split": split, "model": model, "error": error, "n_train": 70}
    row |= {"threads": 1, "package": "p", "version": "1.0", "warnings": 0}
    if not error:
        row |= dict.fromkeys(quality.FIELDS[3:10], 0.5)
    return row | figures


def test_results_know_their_rows_when_opened_again(tmp_path):
    path = tmp_path / "q.csv"
    results = quality.Results(path)
    results.append(result())
    results.append(result(split=1, error='ValueError: bad, and "quoted"'))
    results.append(result(split=2, error="not installed: x"))
    results.append(result(split=2, error="not installed: x"))
    assert len(path.read_text().splitlines()) == 4
    again = quality.Results(path)
    assert again.done == {("t", "0", "x"), ("t", "1", "x")}
    assert again.missing == {("t", "2", "x")}
    rows = quality_report.read_rows([path])
    assert rows["error"].tolist()[1] == 'ValueError: bad, and "quoted"'
    assert rows["log_loss"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", ",".join(quality.FIELDS) + "\nt,0"])
def test_results_refuse_another_file_and_half_a_line(tmp_path, text):
    path = tmp_path / "q.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected the header"):
        quality.Results(path)
    assert path.read_text() == text


def command(monkeypatch, *arguments):
    """Run the script's main function with arguments."""
    monkeypatch.setattr(sys, "argv", ["quality.py", *map(str, arguments)])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    quality.main()


def mixed_csv(n_samples=120):
    """Return the text of a table of numbers and categories, some missing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"number": rng.normal(size=n_samples)})
    frame["level"] = rng.choice(["a", "b", "c"], n_samples)
    noise = rng.normal(size=n_samples)
    frame["target"] = (frame["number"] + (frame["level"] == "a") + noise > 0).astype(int)
    frame.loc[::10, "number"] = np.nan
    frame.loc[5::10, "level"] = None
    return frame.to_csv(index=False)


def test_command_runs_resumes_and_reports(tmp_path, monkeypatch, capsys):
    write_table(tmp_path / "mixed.csv.gz", mixed_csv())
    out = tmp_path / "q.csv"
    options = ["--data", tmp_path, "--models", "LogisticRegression,HistGradientBoosting"]
    options += ["--threads", 1, "--out", out]
    command(monkeypatch, *options, "--splits", 1)
    before = out.read_text()
    command(monkeypatch, *options, "--splits", 2)
    assert out.read_text().startswith(before)
    rows = quality_report.read_rows([out])
    assert rows["split"].tolist() == [0, 0, 1, 1]
    assert (rows["error"] == "").all()
    assert (rows["auc"] > 0.6).all()
    capsys.readouterr()
    command(monkeypatch, "--report", out, "--json", tmp_path / "o.json")
    shown = capsys.readouterr().out
    assert "1 tables, 2 splits; threads: 1; scikit-learn" in shown
    figures = json.loads((tmp_path / "o.json").read_text())
    mean = rows.loc[rows["model"] == "LogisticRegression", "log_loss"].mean()
    assert figures["log_loss"]["mixed"]["LogisticRegression"] == pytest.approx(mean)


def test_command_names_a_missing_package_once_and_goes_on(tmp_path, monkeypatch, capsys):
    write_table(tmp_path / "mixed.csv.gz", mixed_csv())
    monkeypatch.setitem(sys.modules, "xgboost", None)
    out = tmp_path / "q.csv"
    options = ["--data", tmp_path, "--models", "XGBoost,LogisticRegression,HistGradientBoosting"]
    command(monkeypatch, *options, "--splits", 2, "--threads", 1, "--out", out)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("XGBoost left out: not installed: ")
    text = quality_report.report([out])
    assert "XGBoost failed 2 times, on mixed: not installed: " in text
    assert "XGBoost left out: it has no split without an error" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --data DIR"),
        (["--data", "."], "NAME.csv.gz"),
        (["--data", "{}", "--tables", "other"], "--tables: expected some of mixed; got 'other'"),
        (["--data", "{}", "--models", "other"], "--models: expected some of skdnn, "),
        (["--data", "{}", "--skdnn-params", "{}"], "name this variant"),
        (["--data", "{}", "--label", "wide"], "pick one with --models"),
        (["--data", "{}", "--label", "CatBoost", "--models", "skdnn"], "give another"),
    ],
)
def test_command_explains_what_it_cannot_do(tmp_path, monkeypatch, capsys, arguments, message):
    write_table(tmp_path / "mixed.csv.gz", mixed_csv())
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(SystemExit):
        command(monkeypatch, *(str(tmp_path) if a == "{}" else a for a in arguments))
    assert message in capsys.readouterr().err


def test_label_names_our_classifier_with_its_parameters():
    options = Namespace(skdnn_params='{"max_iter": 7}', label="short")
    models = quality.labelled(["CatBoost", "skdnn"], options, ArgumentParser())
    assert list(models) == ["CatBoost", "short"]
    classifier = models["short"].make(pd.DataFrame(), 5, 1)
    assert (classifier.max_iter, classifier.random_state) == (7, 5)
    assert models["CatBoost"] is quality.MODELS["CatBoost"]


# ---- what models are given


def mixed_table():
    """Return a table with a missing number and a missing category."""
    level = pd.Series(["a", None, "b", "a"], dtype="category")
    return pd.DataFrame({"number": [1.0, np.nan, 2.0, 6.0], "level": level})


def test_scaled_imputes_indicates_scales_and_encodes():
    X = quality_models.scaled("passthrough").fit_transform(mixed_table())
    number = np.array([1, 2, 2, 6])
    np.testing.assert_allclose(X[:, 0], (number - number.mean()) / number.std())
    np.testing.assert_allclose(X[:, 1], np.array([-1, 3, -1, -1]) / np.sqrt(3))
    np.testing.assert_array_equal(X[:, 2:], [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])


def test_scaled_gives_zeros_for_a_level_not_seen():
    table = mixed_table()
    encoder = quality_models.scaled("passthrough").fit(table.iloc[[0, 1, 3]])
    np.testing.assert_array_equal(encoder.transform(table)[2, 2:], [0, 0])


def test_standardized_leaves_gaps_and_categories():
    X = quality_models.standardized("passthrough").fit_transform(mixed_table())
    number = np.array([1, 2, 6])
    expected = (number - number.mean()) / number.std()
    np.testing.assert_allclose(X["number"].to_numpy()[[0, 2, 3]], expected)
    assert X["number"].isna().tolist() == [False, True, False, False]
    pd.testing.assert_series_equal(X["level"], mixed_table()["level"])


def test_imputed_fills_in_numbers_and_keeps_categories():
    X = quality_models.imputed("passthrough").fit_transform(mixed_table())
    assert X["number"].tolist() == [1, 2, 2, 6]
    assert X.iloc[:, 1].tolist() == [0, 1, 0, 0]
    assert X["level"].dtype == "category"
    assert X["level"].isna().tolist() == [False, True, False, False]


def test_strings_name_missing_categories_and_keep_numbers():
    table = quality_models.strings(mixed_table())
    assert table["level"].tolist() == ["a", "missing", "b", "a"]
    assert table["number"].isna().sum() == 1


# ---- the summary


def rows_of(losses, n_splits=1, **figures):
    """Return rows for {model: log-losses of tables t0, t1, ...}."""
    return pd.DataFrame(
        [
            result(f"t{i}", split, model, log_loss=loss, **figures)
            for model, values in losses.items()
            for i, loss in enumerate(values)
            for split in range(n_splits)
        ]
    )


def test_summary_ranks_ratios_and_wins():
    losses = {"CatBoost": [0.1, 0.4, 0.3], "x": [0.2, 0.1, 0.3], "MLPClassifier": [0.4, 0.8, 0.6]}
    comparison = quality_report.compare(rows_of(losses))
    summary = quality_report.summarize(comparison)
    assert list(summary.index) == ["CatBoost", "x", "MLPClassifier"]
    np.testing.assert_allclose(summary["rank log-loss"], [4.5 / 3, 4.5 / 3, 3])
    np.testing.assert_allclose(summary["log-loss / best"], np.cbrt([4, 2, 64]))
    np.testing.assert_allclose(summary["log-loss / CatBoost"], np.cbrt([1, 0.5, 16]))
    np.testing.assert_allclose(summary["log-loss / MLPClassifier"], np.cbrt([1 / 16, 1 / 32, 1]))
    assert summary["wins"].tolist() == [2, 2, 0]


def test_summary_takes_the_mean_over_splits_before_it_ranks():
    rows = rows_of({"x": [0.3], "y": [0.2]}, n_splits=3)
    rows.loc[(rows["model"] == "y") & (rows["split"] == 0), "log_loss"] = 0.8
    summary = quality_report.summarize(quality_report.compare(rows))
    assert summary.loc["y", "log-loss / best"] == pytest.approx(0.4 / 0.3)
    assert summary["rank log-loss"].to_dict() == {"x": 1, "y": 2}


def test_summary_of_auc_and_seconds():
    rows = rows_of({"CatBoost": [0.1, 0.1], "x": [0.2, 0.2]}, n_splits=2)
    rows["auc"] = [0.9, 0.9, 1, 1, 0.8, 0.8, 0.99, 0.99]
    rows["fit_seconds"] = [1, 1, 10, 10, 3, 3, 20, 20]
    summary = quality_report.summarize(quality_report.compare(rows))
    assert summary["rank AUC"].to_dict() == {"CatBoost": 1, "x": 2}
    # the second table's 1 - AUC of CatBoost is taken for 1e-4
    assert summary.loc["x", "1-AUC / CatBoost"] == pytest.approx(np.sqrt(2 * 100))
    assert summary["fit s"].to_dict() == {"CatBoost": 22, "x": 46}
    assert summary.loc["x", "slowest / CatBoost"] == pytest.approx(3)


def test_compare_names_models_with_gaps_and_failures():
    rows = rows_of({"x": [0.1] * 20, "y": [0.2] * 20, "z": [0.3] * 17, "w": [0.4] * 19})
    failed = pd.DataFrame([result("t19", 0, "w", error="ValueError: bad")])
    comparison = quality_report.compare(pd.concat([rows, failed]))
    assert comparison.models == ["x", "y", "w"]
    assert comparison.rows.groupby("model").size().to_dict() == {"x": 19, "y": 19, "w": 19}
    assert comparison.notes == [
        "w failed 1 times, on t19: ValueError: bad",
        "z left out for gaps: it has 17 of 20 splits",
        "1 splits left out, which w lacks",
    ]


def test_compare_keeps_models_with_gaps_that_are_asked_for():
    rows = rows_of({"x": [0.1] * 20, "y": [0.2] * 20, "z": [0.3] * 3})
    comparison = quality_report.compare(rows, ["z", "x"])
    assert comparison.models == ["z", "x"]
    assert len(comparison.means("log_loss")) == 3


def test_compare_refuses_unknown_models_and_disjoint_splits():
    rows = rows_of({"x": [0.1], "y": [0.2]})
    with pytest.raises(ValueError, match="two or more models of x, y; got x, other"):
        quality_report.compare(rows, ["x", "other"])
    with pytest.raises(ValueError, match="two or more models of x, y; got x"):
        quality_report.compare(rows, ["x"])
    rows.loc[1, "split"] = 1
    with pytest.raises(ValueError, match="splits that all of x, y have"):
        quality_report.compare(rows)


def test_later_rows_win_and_other_samples_are_refused(tmp_path):
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    rows_of({"x": [0.1], "y": [0.2]}).to_csv(first, index=False)
    rows_of({"y": [0.3]}).to_csv(second, index=False)
    rows = quality_report.read_rows([first, second])
    assert dict(zip(rows["model"], rows["log_loss"], strict=True)) == {"x": 0.1, "y": 0.3}
    rows_of({"y": [0.3]}, n_train=35).to_csv(second, index=False)
    with pytest.raises(ValueError, match=r"t0, split 0.*same rows; got n_train of \[35, 70\]"):
        quality_report.read_rows([first, second])


def test_losses_are_shown_with_the_smallest_in_bold():
    losses = pd.DataFrame({"x": [0.12345, 0.2], "y": [0.3, 0.2]}, index=["s", "t"])
    assert quality_report.losses_markdown(losses).splitlines() == [
        "| log-loss | x | y |",
        "| --- | --- | --- |",
        "| s | **0.1235** | 0.3000 |",
        "| t | **0.2000** | **0.2000** |",
    ]


def test_description_tells_of_warnings_and_of_different_threads():
    rows = rows_of({"x": [0.1], "y": [0.2]}, warnings=2)
    rows.loc[0, "threads"] = 2
    text = quality_report.description(quality_report.compare(rows))
    assert "threads: 1 and 2; p 1.0." in text
    assert "not shown: x 2, y 2." in text
    assert "different numbers of threads" in text


def test_critical_difference_matches_published_values():
    # Demsar (2006), section 3.2.2: four classifiers on 14 data sets; table 5: q = 2.728 for five
    assert quality_report.critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert quality_report.critical_difference(5, 30) == pytest.approx(2.728 / np.sqrt(6), abs=1e-3)


def test_cliques_are_the_longest_runs_within_the_difference():
    ranks = np.array([1.0, 1.5, 2.2, 2.4, 4.0])
    assert quality_report.cliques(ranks, 1.0) == [(0, 1), (1, 3)]
    assert quality_report.cliques(ranks, 5.0) == [(0, 4)]
    assert quality_report.cliques(ranks, 0.1) == []


@pytest.mark.parametrize("names", [["x", "y"], ["x", "y", "z"]])
def test_pictures_are_drawn(tmp_path, names):
    pytest.importorskip("matplotlib")
    path = tmp_path / "q.csv"
    rows_of({name: [0.1 + i, 0.2, 0.3] for i, name in enumerate(names)}).to_csv(path, index=False)
    quality_report.report([path], pictures=tmp_path / "pictures")
    drawn = sorted(picture.name for picture in (tmp_path / "pictures").iterdir())
    assert drawn == ["quality_ranks.png", "quality_time.png"]


# ---- further tables


def test_further_table_has_the_rarer_answer_as_class_1_and_none_of_what_is_left_out():
    source = pd.DataFrame(
        {
            "id": range(5),
            "answer": ["yes ", "yes", None, "no", "yes"],
            "same": [7, 7, 8, 7, 7],
            "flag": [True, False, True, True, False],
        }
    )
    task = further_tables.Task("p", "t", "answer", ("yes",), ("id",))
    table = further_tables.make_table(task, source)
    assert table.to_dict("list") == {
        "flag": ["True", "False", "True", "False"],
        "target": [0, 0, 1, 0],
    }


def test_further_table_without_two_answers_is_refused():
    task = further_tables.Task("p", "t", -1, ("yes",))
    with pytest.raises(ValueError, match=r"r_t: column 'y' has no two answers.*'maybe'"):
        further_tables.make_table(task, pd.DataFrame({"x": [1, 2], "y": ["no", "maybe"]}))


def test_files_of_further_tables_have_names_of_their_own():
    labels = [task.label for task in further_tables.TASKS]
    assert len(set(labels)) == len(labels) == 80
