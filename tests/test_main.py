"""`python -m skdnn`, on every twentieth hour and as a whole."""

import re
import subprocess
import sys

import pytest
from sklearn.utils import Bunch

from skdnn import __main__ as demo
from skdnn.datasets import load_rain

MODELS = [
    "base rate",
    "LogisticRegression",
    "MLPClassifier",
    "HistGradientBoostingClassifier",
    "DeepBinaryClassifier",
]


@pytest.fixture
def every_twentieth_hour(monkeypatch):
    """Take every twentieth row: all months and airports, in seconds."""
    whole = load_rain()
    rain = Bunch(**(whole | {"data": whole.data[::20], "target": whole.target[::20]}))
    monkeypatch.setattr(demo, "load_rain", lambda: rain)


def read_table(output):
    """Return the four metrics of each model, as printed."""
    rows = {}
    for line in output.splitlines():
        cells = re.fullmatch(r"(\S.*?)" + r"  +([\d.]+)\*?" * 4 + r" +[\d.]+", line)
        if cells:
            rows[cells[1]] = [float(cell) for cell in cells.groups()[1:]]
    return rows


def test_demonstration_compares_five_models_and_repeats_itself(every_twentieth_hour, capsys):
    tables = []
    for _ in range(2):
        demo.main()
        output = capsys.readouterr().out
        tables.append(read_table(output))
    assert tables[0] == tables[1]
    assert list(tables[0]) == MODELS
    assert "airport, hour, wind_dir_deg" in output
    stars = [line.count("*") for line in output.splitlines() if line.startswith(tuple(MODELS))]
    assert sum(stars) >= 4


def test_preprocessor_gives_finite_numbers_without_the_month():
    rain = load_rain()
    X = rain.data[::50, [rain.feature_names.index(name) for name in demo.FEATURES]]
    Z = demo.make_preprocessor().fit_transform(X)
    assert "month" not in demo.FEATURES
    assert abs(Z).max() < 50.0
    assert len(Z) == len(X)


@pytest.mark.slow
def test_whole_demonstration_beats_the_base_rate(tmp_path):
    command = [sys.executable, "-m", "skdnn"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    table = read_table(run.stdout)
    assert list(table) == MODELS
    network, base = table["DeepBinaryClassifier"], table["base rate"]
    assert network[0] < 0.8 * base[0]
    assert network[1] < base[1]
    assert network[2] > 0.9
    assert not list(tmp_path.iterdir())
