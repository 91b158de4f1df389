"""The scripts of benchmarks/: each runs, on tiny tables, and writes what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

ROOT = Path(__file__).parent.parent


def run(script, *arguments):
    """Run a script of the benchmarks on this copy of the package, and return what it prints."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, ROOT / "benchmarks" / script, *arguments]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_speed(folder, *arguments):
    path = folder / "speed.json"
    run("speed.py", "--quick", "--repeats", 1, "--output", path, *arguments)
    return json.loads(path.read_text())


def test_speed_measures_predictions_and_importing(tmp_path):
    rows = run_speed(tmp_path, "--only", "predict-rows", "import")
    assert len(rows) == 6
    assert all(row["values"] or "is" in row["missing"] for row in rows)


@pytest.mark.slow
def test_speed_measures_all_it_knows(tmp_path):
    rows = run_speed(tmp_path)
    assert [row["missing"] for row in rows if row["missing"].startswith("failed")] == []


def test_versions_are_compared(tmp_path):
    path, few = tmp_path / "compare.json", ["--threads", 1, "--numba", "off", "--repeats", 1]
    cases = ["step, hidden (100,)"]
    shown = run("compare.py", ROOT, ROOT, "--quick", "--only", *cases, *few, "--output", path)
    figures = json.loads(path.read_text())
    assert figures["failed"] == {}
    assert [row["case"] for row in figures["cases"]] == cases
    assert figures["cases"][0]["seconds"]["ratio"] > 0
    assert len(shown.splitlines()) == 3


def test_quality_is_measured_and_summarized(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        table = pd.DataFrame({"x": rng.normal(size=80), "level": rng.choice(["a", "b"], 80)})
        table["target"] = (table["x"] + rng.normal(size=80) > 0).astype(int)
        table.to_csv(tmp_path / f"{name}.csv.gz", index=False)
    rows = tmp_path / "quality.csv"
    data = ["--data", tmp_path, "--splits", 1, "--threads", 1, "--out", rows]
    ours = ["--skdnn-params", '{"n_members": 1, "max_iter": 2}', "--label", "small"]
    run("quality.py", *data, *ours, "--models", "skdnn")
    peers = ["--models", "LogisticRegression", "MLPClassifier-tuned", "--draws", 1]
    run("quality.py", *data, *peers)
    assert run("quality.py", *data, *peers) == ""  # done already
    by_table = tmp_path / "by_table.csv"
    summary = run("quality.py", "--report", rows, "--by-table", by_table)
    names = ("small", "LogisticRegression", "MLPClassifier-tuned", "best peer", "best of all")
    assert all(f"| {name} |" in summary for name in names)
    assert len(pd.read_csv(by_table)) == 2 * 3


def test_ranks_and_ratios_of_a_report(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from report import report

    losses = {"skdnn": [0.1, 0.4, 0.2, 0.2], "CatBoost": [0.2, 0.2, 0.4, 0.4]}
    losses["other"] = [0.2, 0.3, 0.1, 0.1]
    fixed = {"ece": 0.0, "fit_seconds": 1.0, "predict_seconds": 1.0, "n_train": 9, "threads": 1}
    rows = [
        {"table": "aabb"[k], "split": k % 2, "model": model, "package": model, "auc": 1 - loss}
        | {"log_loss": loss, "brier": loss, "version": "1", "warnings": 0, "error": None}
        | fixed
        for model, values in losses.items()
        for k, loss in enumerate(values)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    lines = report([tmp_path / "rows.csv"], None, None).splitlines()
    cells = {line.split(" | ")[0]: line.split(" | ")[1:] for line in lines}
    # within the splits of a, ranks are 1 and 3, then 2.5 and 1, then 2.5 and 2; of b 2, 3 and 1
    assert [cells[f"| {name}"][2] for name in losses] == ["2.00", "2.38", "1.62"]
    # means of a 0.25, 0.20, 0.25, of b 0.2, 0.4, 0.1
    ratio = np.sqrt(0.25 / 0.2 * 0.2 / 0.4)
    assert cells["| skdnn"][3].startswith(f"{ratio:.3f} ± ")
    assert cells["| best peer"][3].startswith("0.500 ± ")
    assert cells["| best of all"][4] == "1.000 ± 0.000"


def test_tables_are_built_from_packages(tmp_path):
    shown = run("make_tables.py", "--out", tmp_path, "--only", "nyc_rain_hourly", "wdbc", "wilt")
    assert "wilt                         not in a package: https:" in shown
    assert {path.name for path in tmp_path.glob("main/*")} == {
        "nyc_rain_hourly.csv.gz",
        "wdbc.csv.gz",
    }
    table = pd.read_csv(tmp_path / "main" / "wdbc.csv.gz")
    assert table.shape == (569, 31)
    assert table["target"].sum() == 212  # the rarer answer is class 1


def test_tables_leave_out_what_identifies_rows(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from make_tables import make_table

    source = pd.DataFrame({"id": [1, 2, 3, 4], "x": [2.0, 1.0, 3.0, 5.0], "answer": list("yyyn")})
    table = make_table(source, "answer", "y", "id")
    assert table.columns.tolist() == ["x", "target"]
    assert table["target"].tolist() == [0, 0, 0, 1]
