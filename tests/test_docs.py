"""The pages tell the truth: excerpts stand in the files they name, and examples run."""

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import distributions, packages_distributions, requires
from pathlib import Path

import numpy as np
import pytest
from data import needs
from pages import BLOCK, PAGES, ROOT, read_examples
from sklearn.exceptions import ConvergenceWarning

import skdnn
from skdnn import DeepBinaryClassifier

LINK = re.compile(r"\]\((?!https?:|#)(?P<target>[^)#]+)")


def normalize(code: str) -> str:
    """Make an excerpt and its file comparable: indentation from zero, no blank lines."""
    return "\n".join(line for line in textwrap.dedent(code).splitlines() if line.strip())


EXCERPTS = [
    pytest.param(match["file"], normalize(match["code"]), id=f"{page.name}-{match['file']}-{i}")
    for page in PAGES
    for i, match in enumerate(BLOCK.finditer(page.read_text()))
    if match["file"]
]


def test_pages_have_excerpts():
    assert len(EXCERPTS) > 10


@pytest.mark.parametrize(("file", "code"), EXCERPTS)
def test_excerpt_stands_in_its_file(file, code):
    lines = [line for line in (ROOT / file).read_text().splitlines() if line.strip()]
    n_lines = len(code.splitlines())
    windows = ("\n".join(lines[i : i + n_lines]) for i in range(len(lines)))
    assert any(normalize(window) == code for window in windows)


@needs("scikit-learn>=1.9", "callbacks, which the user guide shows")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_a_page_run_one_after_the_other(page, capsys):
    namespace: dict = {}
    for code in read_examples(page):
        exec(compile(code, page.name, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    missing = [
        match["target"]
        for match in LINK.finditer(page.read_text())
        if not (page.parent / match["target"]).exists()
    ]
    assert not missing


PATH = re.compile(r"\b(?:benchmarks|docs|skdnn|tests)/[\w/]*\w\.(?:csv|md|py)\b")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    named = PATH.findall(page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


# ---- the README


README = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text()

BARE = """
import sys


class OtherPackages:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {others!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)


sys.meta_path.insert(0, OtherPackages())
"""


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


INSTALLED = {canonical(distribution.name) for distribution in distributions()}


def find_required(requirements):
    """Return the names of packages, and of all that they require."""
    required = set()
    for line in requirements:
        name = canonical(re.match(r"[\w.-]+", line)[0])
        if "extra ==" not in line and name in INSTALLED:
            required |= {name} | find_required(requires(name) or [])
    return required


def run_bare(code, folder):
    """Run a program where only the package and what it requires can be imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {"skdnn", *find_required(project["dependencies"])}
    others = {
        package
        for package, distributions in packages_distributions().items()
        if not required & set(map(canonical, distributions))
    }
    root = str(Path(skdnn.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BARE.format(others=others) + code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_readme_runs_with_what_its_first_command_installs(tmp_path):
    [code] = [match["code"] for match in BLOCK.finditer(README)]
    for absent in ("pandas", "polars", "numba", "matplotlib"):
        code += f"\ntry:\n    import {absent}\nexcept ImportError:\n    print('no {absent}')\n"
    run = run_bare(code, tmp_path)
    assert run.stderr == ""
    assert "\nno pandas\nno polars\nno numba\nno matplotlib\n" in run.stdout
    auc = float(run.stdout.splitlines()[-5])
    assert 0.8 < auc < 0.9


@pytest.mark.slow
def test_demonstration_runs_with_what_the_first_command_installs(tmp_path):
    run = run_bare("from skdnn.__main__ import main\nmain()", tmp_path)
    assert run.stderr == ""
    for figure in demonstration():
        assert f" {figure}" in run.stdout


def read_tables(section):
    """Return the rows of all tables in a section, by their first cell: the first row of a name."""
    page, rows, headings = RESULTS.split(f" {section}\n")[1].partition("\n## ")[0], {}, []
    for line in page.splitlines():
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            headings = []
        elif headings and not set(line) <= set("|- "):
            rows.setdefault(cells[0], dict(zip(headings, cells, strict=True)))
        elif not headings:
            headings = cells
    return rows


def read_speed(start):
    """Return how many times longer MLPClassifier takes, for paths that begin so, in order."""
    rows = (row for path, row in read_tables("Speed and memory").items() if path.startswith(start))
    found = [row["measured"].rstrip("x") for row in rows if row["against"] == "MLPClassifier"]
    return sorted(found, key=float)


def demonstration():
    """Return the log-losses of the demonstration in the results."""
    rows = read_tables("The demonstration")
    return [rows[name]["log-loss"] for name in ("DeepBinaryClassifier", "LogisticRegression")]


def claims():
    """Return what the README says of measured figures, with the figures of the results."""
    first, further = map(read_tables, ("The present version", "Eighty further tables"))
    ratio = {name: row.get("log-loss / CatBoost") for name, row in first.items()}
    [small] = read_speed("step, hidden (100,), batch 200, 10 features, 1 thread")
    [large] = read_speed("step, hidden (512, 512), batch 1024, 100 features, 1 thread")
    fits = read_tables("Time")["all 22"]
    ours, theirs = demonstration()
    return [
        f"is {ratio['skdnn']} of CatBoost's, where TabM has {ratio['TabM']}, HistGradientBoosting "
        f"{ratio['HistGradientBoosting']} and LightGBM {ratio['LightGBM']}, and "
        f"{first['skdnn']['log-loss / MLPClassifier']} of that of MLPClassifier",
        f"first by log-loss ({further['skdnn']['log-loss / CatBoost']} of CatBoost's)",
        f"MLPClassifier takes {small} times as long for a step of a small network, (100,), and "
        f"{large} times for one of a large network, (512, 512)",
        f"22 tables default fits took {fits['skdnn']} seconds, and CatBoost's {fits['CatBoost']}",
        f"log-loss is {ours}, that of a tuned LogisticRegression {theirs}",
    ]


def test_claims_of_the_readme_have_the_figures_of_the_results():
    text = " ".join(README.split())
    assert [claim for claim in claims() if claim not in text] == []


def test_every_figure_of_the_readme_stands_in_the_results():
    """But for what it says of the tests: how long they take is not among the results."""
    before, _, rest = README.partition("&& pytest\n```")
    page = f"{before}```{rest[rest.index('## ') :]}"
    prose = re.sub(r"```.*?```|`[^`]*`|Python [\d.]+|BSD-3", "", page, flags=re.DOTALL)
    figures, known = (set(re.findall(r"\d[\d.,]*\d|\d", page)) for page in (prose, RESULTS))
    assert {"0.964", "37", "79", "9.52"} <= figures
    assert figures - known == set()


@pytest.mark.parametrize(
    "section", ["The present version", "An earlier version", "Eighty further tables"]
)
def test_first_is_who_the_readme_calls_first(section):
    rows = [row for row in read_tables(section).values() if row.get("model") and row.get("wins")]
    figures = {"rank log-loss", "rank Brier", "rank AUC", "ECE"} & rows[0].keys()
    assert "rank log-loss" in figures
    for figure in figures:
        assert min(rows, key=lambda row: float(row[figure]))["model"] == "skdnn"


# ---- what "Deep networks from scratch" says


FROM_SCRATCH = ROOT / "docs" / "from_scratch.md"


def trained_from(change, **settings):
    """Change the first weights of two hidden layers, take some steps, and return the weights."""
    X = np.random.default_rng(0).normal(size=(40, 3))
    model = DeepBinaryClassifier(
        (4, 3),
        **settings,
        encoder=None,
        n_members=1,
        dropout=0.0,
        solver="gd",
        learning_rate="constant",
        learning_rate_init=1e-30,
        max_iter=1,
        early_stopping=False,
        n_iter_no_change=np.inf,
        warm_start=True,
        random_state=0,
    ).fit(X, X[:, 0] > 0)
    change(model.coefs_)
    model.set_params(learning_rate_init=0.1, max_iter=3).fit(X, X[:, 0] > 0)
    return model.coefs_, model.intercepts_


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_hidden_layers_of_zeros_do_not_learn(activation):
    with pytest.warns(ConvergenceWarning, match="answers the same to every row"):
        coefs, intercepts = trained_from(
            lambda weights: None, activation=activation, initialization="zeros"
        )
    assert not any(W.any() for W in coefs)
    assert not any(b.any() for b in intercepts[:-1])
    assert intercepts[-1].all()


@pytest.mark.parametrize("are_equal_after", [True, False])
def test_units_stay_equal_if_their_outgoing_weights_are_equal_too(are_equal_after):
    def change(weights):
        weights[0][:, 1] = weights[0][:, 0]
        if are_equal_after:
            weights[1][1] = weights[1][0]

    (first, second, _), _ = trained_from(change, activation="tanh")
    assert np.array_equal(first[:, 1], first[:, 0]) == are_equal_after
    assert np.array_equal(second[1], second[0]) == are_equal_after


def test_relu_halves_the_mean_square_and_not_the_variance():
    a = np.maximum(np.random.default_rng(0).normal(size=100_000), 0.0)
    assert np.mean(a**2) == pytest.approx(0.5, rel=0.02)
    assert a.var() == pytest.approx(0.34, rel=0.02)


def test_sensors_of_the_page_become_as_many_columns_as_it_says():
    namespace: dict = {}
    exec(next(m["code"] for m in BLOCK.finditer(FROM_SCRATCH.read_text())), namespace)
    assert "three sensors become four columns" in FROM_SCRATCH.read_text()
    assert namespace["X"].shape == (len(namespace["y"]), 4)
    np.testing.assert_allclose(namespace["X"].mean(axis=0), 0.0, atol=1e-12)


def test_penalty_goes_by_all_rows_whatever_the_batch_size():
    X = np.random.default_rng(0).normal(size=(40, 3))
    settings = {"encoder": None, "n_members": 1, "early_stopping": False, "max_iter": 1}
    for batch_size in (10, 40):
        model = DeepBinaryClassifier(
            (4,), alpha=2.0, batch_size=batch_size, random_state=0, learning_rate_init=1e-30
        )
        model.set_params(**settings).fit(X, X[:, 0] > 0)
        squares = sum((W.astype(float) ** 2).sum() for W in model.coefs_)
        assert model.history_["penalty"][0] == pytest.approx(2.0 / (2 * 40) * squares)
