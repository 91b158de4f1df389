"""Types: signatures say what is checked; what is declared is there after a fit, and not before."""

import inspect
import json
import subprocess
import sys
from types import UnionType
from typing import Annotated, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from data import classifier, make_table
from pages import PAGES, read_examples
from pandas import DataFrame

from skdnn import DeepBinaryClassifier, TabularEncoder
from skdnn.estimator.parameters import Parameters


def declared(estimator):
    """Return the fitted attributes that a class declares."""
    return {name for name in vars(estimator)["__annotations__"] if name.endswith("_")}


def test_constructor_has_the_types_that_are_checked():
    hints = get_type_hints(DeepBinaryClassifier.__init__)
    checked = get_type_hints(Parameters, include_extras=True)
    for name, hint in checked.items():
        assert hints[name] == (get_args(hint)[0] if get_origin(hint) is Annotated else hint), name


@pytest.mark.parametrize("estimator", [DeepBinaryClassifier, TabularEncoder])
def test_declared_attributes_come_with_a_fit(estimator):
    X, y = make_table()
    frame = DataFrame(X).add_prefix("x")
    unfitted = classifier() if estimator is DeepBinaryClassifier else estimator()
    assert [name for name in declared(estimator) if hasattr(unfitted, name)] == []
    fitted = unfitted.fit(frame, y)
    missing = {name for name in declared(estimator) if not hasattr(fitted, name)}
    assert missing <= {"oof_decision_function_"}  # which only ensembles have
    public = {name for name in vars(fitted) if name.endswith("_") and name[0] != "_"}
    assert public <= declared(estimator)


def test_declared_types_are_those_of_the_values():
    X, y = make_table(100)
    fitted = classifier(n_members=5, early_stopping=True, max_iter=2).fit(X, y)
    hints = get_type_hints(DeepBinaryClassifier)
    for name in declared(DeepBinaryClassifier) - {"feature_names_in_"}:
        union = get_args(hints[name]) if get_origin(hints[name]) is UnionType else (hints[name],)
        kinds = tuple(get_origin(kind) or kind for kind in union)
        assert isinstance(getattr(fitted, name), kinds), name
        if kinds == (np.ndarray,) and name != "classes_":
            [scalar] = get_args(get_args(hints[name])[1])
            assert np.issubdtype(getattr(fitted, name).dtype, scalar), name
    for method in ("decision_function", "predict", "predict_proba", "predict_log_proba"):
        signature = inspect.signature(getattr(fitted, method), eval_str=True)
        assert get_origin(signature.return_annotation) is np.ndarray
        assert isinstance(getattr(fitted, method)(X), np.ndarray)


# The code of the pages, as a user's file, outside the repository.

PYRIGHT = {"useLibraryCodeForTypes": False}
"""The user guide says so: pyright is not to guess the types of packages that have none."""

MYPY = """
[mypy]
strict = true
disallow_untyped_defs = false
disallow_incomplete_defs = false
disallow_untyped_calls = false
warn_return_any = false
disable_error_code = import-untyped
"""


def write_examples(folder):
    for page in PAGES:
        if code := read_examples(page):
            (folder / f"{page.stem.lower()}.py").write_text("\n\n".join(code))


def check_types(folder, *command):
    run = subprocess.run(
        [sys.executable, "-m", *command, "."], cwd=folder, capture_output=True, text=True
    )
    return run.stdout + run.stderr if run.returncode else ""


@pytest.mark.slow
def test_pages_pass_pyright(tmp_path):
    pytest.importorskip("pyright", reason="pip install 'skdnn[dev]'")
    write_examples(tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    assert check_types(tmp_path, "pyright", "--pythonpath", sys.executable) == ""


@pytest.mark.slow
def test_pages_pass_mypy(tmp_path):
    pytest.importorskip("mypy", reason="pip install 'skdnn[dev]'")
    write_examples(tmp_path)
    (tmp_path / "mypy.ini").write_text(MYPY)
    assert check_types(tmp_path, "mypy") == ""


MISTAKES = """
from skdnn import DeepBinaryClassifier, TabularEncoder

model = DeepBinaryClassifier(max_iter="often")
model = DeepBinaryClassifier(normalization="bach")
model = DeepBinaryClassifier(n_member=3)
model.fit([[0.0], [1.0]], [0, 1]).loss_curves_
model.fit([[0.0], [1.0]]).predict([[0.0]])
TabularEncoder(max_one_hot="8")
"""


@pytest.mark.slow
def test_type_checkers_see_mistakes(tmp_path):
    pytest.importorskip("pyright", reason="pip install 'skdnn[dev]'")
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    told = check_types(tmp_path, "pyright", "--pythonpath", sys.executable)
    lines = [i for i, line in enumerate(MISTAKES.splitlines(), 1) if line and "import" not in line]
    assert {f"mistakes.py:{i}:" in told for i in lines} == {True}, told
