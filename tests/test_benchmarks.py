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
    run("quality.py", *data, "--models", "LogisticRegression")
    assert run("quality.py", *data, "--models", "LogisticRegression") == ""  # done already
    summary = run("quality.py", "--report", rows)
    assert all(f"| {name} |" in summary for name in ("small", "LogisticRegression", "one", "two"))


def test_further_tables_have_the_rarer_answer_last(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from further_tables import make_table

    source = pd.DataFrame({"id": [1, 2, 3, 4], "x": [2.0, 1.0, 3.0, 5.0], "answer": list("yyyn")})
    table = make_table(source, "answer", "y", "id")
    assert table.columns.tolist() == ["x", "target"]
    assert table["target"].tolist() == [0, 0, 0, 1]
