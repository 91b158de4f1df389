"""What is public is documented, the examples run, and the source keeps a few promises."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from data import classifier, make_table
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate
from pandas import DataFrame

import skdnn
import skdnn.callbacks
import skdnn.datasets
import skdnn.onnx
import skdnn.preprocessing
import skdnn.tuning
from skdnn import nn, optim

MODULES = sorted(
    [skdnn.__name__, *(m.name for m in pkgutil.walk_packages(skdnn.__path__, "skdnn."))]
)
SOURCES = sorted(Path(skdnn.__file__).parent.rglob("*.py"))

# The whole of numpydoc's rules for what a user meets first, except for these:
IGNORED = {
    "GL01",  # the summary begins beside the opening quotes
    "RT02",  # returned values have names, as in scikit-learn
}
IGNORED_IN_METHODS = {
    "ES01",  # a summary may be all that there is to say
    "SA01",  # the class has the references
    "EX01",  # and the examples
}
IGNORED_IN_HOOKS = {
    "PR01",  # the class `Callback` has the arguments
}
IGNORED_IN_PARTS = {
    "ES01",
    "SA01",  # `skdnn.nn` and `skdnn.optim` list what belongs together
}

# What users build networks and optimizers of: each class has its formulas and a running example.
PARTS = (skdnn.nn, skdnn.optim)

# The modules of which these parts take objects.
PART_MODULES = (nn.activations, nn.functions, nn.initializers, nn.losses, optim.schedules)
CHECKED_IN_PART_MODULES = {"GL08", "SS01", "SS02", "SS03", "SS04", "SS05", "SS06"}

NO_ARRAYS = {"Branch", "Context", "Network", "Optimizer", "ParamSpec", "Params"}
"""Parts whose docstrings have no line of shapes."""


def is_documented_code(member):
    return inspect.isclass(member) or inspect.isfunction(member)


def public_names(modules):
    """Yield the public classes and functions, and their public methods and properties."""
    for module in modules:
        for name in module.__all__:
            member = getattr(module, name)
            if not is_documented_code(member):
                continue
            yield f"{module.__name__}.{name}"
            if inspect.isclass(member):
                shared = [b for b in member.__mro__ if b.__name__ == "PredictionsMixin"]
                for base in (member, *shared):
                    for method, function in vars(base).items():
                        is_method = inspect.isfunction(function) or isinstance(function, property)
                        is_own = getattr(function, "__module__", base.__module__) == base.__module__
                        if is_method and is_own and not method.startswith("_"):
                            yield f"{module.__name__}.{name}.{method}"


def names_in_part_modules():
    """Yield the classes and functions that are defined in these modules."""
    for module in PART_MODULES:
        for name, member in vars(module).items():
            is_own = is_documented_code(member) and member.__module__ == module.__name__
            if is_own and not name.startswith("_"):
                yield f"{module.__name__}.{name}"


def look_up(name):
    member = skdnn
    for part in name.split(".")[1:]:
        member = getattr(member, part)
    return member


def complaints(name, is_wanted):
    return [f"{code}: {text}" for code, text in validate(name)["errors"] if is_wanted(code)]


@pytest.mark.parametrize(
    "name",
    list(
        public_names(
            [
                skdnn,
                skdnn.callbacks,
                skdnn.datasets,
                skdnn.onnx,
                skdnn.preprocessing,
                skdnn.tuning,
                *PARTS,
            ]
        )
    ),
)
def test_public_docstring_keeps_the_rules_of_numpydoc(name):
    member, ignored = look_up(name), set(IGNORED)
    if inspect.isclass(look_up(name.rpartition(".")[0])):
        ignored |= IGNORED_IN_METHODS
        if name.startswith("skdnn.callbacks.") and ".on_" in name:
            ignored |= IGNORED_IN_HOOKS
        if member.__doc__ is None:  # a formula of its own in place of one that is documented
            assert inspect.getdoc(member)
            return
    elif name.startswith(("skdnn.nn.", "skdnn.optim.")):
        ignored |= IGNORED_IN_PARTS
    assert complaints(name, lambda code: code not in ignored) == []


@pytest.mark.parametrize("name", [name for name in public_names(PARTS) if name.count(".") == 2])
def test_part_has_shapes_and_an_example(name):
    part, short = look_up(name), name.rpartition(".")[2]
    assert ">>> " in part.__doc__
    assert not inspect.isclass(part) or short in NO_ARRAYS or "    Shape: " in part.__doc__


@pytest.mark.filterwarnings("ignore:Unknown section")
@pytest.mark.parametrize("name", list(names_in_part_modules()))
def test_docstring_of_what_parts_take_begins_with_a_good_sentence(name):
    checked = set(CHECKED_IN_PART_MODULES)
    if is_dataclass(look_up(name)):
        checked |= {"PR01", "PR02"}
    assert complaints(name, lambda code: code in checked) == []


def test_constructor_parameters_are_documented_in_the_order_of_the_signature():
    estimator = skdnn.DeepBinaryClassifier
    documented = [p.name for p in ClassDoc(estimator)["Parameters"]]
    names = [name.strip() for line in documented for name in line.split(",")]
    assert names == list(inspect.signature(estimator).parameters)


def test_fitted_attributes_are_documented():
    documented = {field.name for field in ClassDoc(skdnn.DeepBinaryClassifier)["Attributes"]}
    X, y = make_table()
    fitted = classifier().fit(DataFrame(X).add_prefix("x"), y)
    attributes = {name for name in vars(fitted) if name.endswith("_") and name[0] != "_"}
    assert attributes | {"coefs_", "intercepts_"} <= documented


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    if name == "skdnn.callbacks" and find_spec("sklearn.callback") is None:
        pytest.skip("scikit-learn has callbacks from 1.9 on")
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    if name in ("skdnn.classifier", "skdnn.testing"):
        assert result.attempted > 0


# Importing.

TESTS_ONLY = ["hypothesis", "numpydoc", "pytest"]
OPTIONAL = ["matplotlib", "mlflow", "optuna", "pandas", "polars", "rich", "torch", "tqdm", "wandb"]
OPTIONAL += TESTS_ONLY

WITHOUT_OPTIONAL_PACKAGES = f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
"""


def run_without_optional_packages(script):
    """Return what a new process prints that finds none of the optional packages."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_OPTIONAL_PACKAGES + script],
        capture_output=True,
        text=True,
        cwd=Path(skdnn.__file__).parents[1],
    )
    return run.stdout + run.stderr


def test_import_fit_and_predict_need_no_optional_package():
    script = "".join(f"import {name}\n" for name in MODULES if "._" not in name)
    script += """
from skdnn import DeepBinaryClassifier, check_gradients

X, y = [[0.0], [1.0], [2.0], [3.0]], ["a", "a", "b", "b"]
settings = {"n_members": 2, "n_iter_no_change": float("inf"), "max_iter": 20}
model = DeepBinaryClassifier((3,), "tanh", **settings).fit(X, y)
print(model.predict_proba(X).shape, check_gradients(model, X, y).passed)
"""
    assert run_without_optional_packages(script) == "(4, 2) True\n"


def test_optional_packages_are_out_of_reach_there():
    script = """
try:
    import pandas
except ImportError:
    print("no pandas")
"""
    assert run_without_optional_packages(script) == "no pandas\n"


# The source.


# The names of numpy.random that own their state, instead of sharing one with the whole program.
OWN_STATE = {"Generator", "PCG64", "SeedSequence", "default_rng"}
FORBIDDEN = {"eval", "exec", "compile", "__import__", "os.system"}


def broken_promises(source):
    """Return what a module should not do, and where."""
    broken = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            broken.append((node.lineno, "assert"))  # python -O would skip the check
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN:
            broken.append((node.lineno, ast.unparse(node.func)))
        elif isinstance(node, ast.Attribute):
            owner, name = ast.unparse(node.value), node.attr
            if owner in ("np.random", "numpy.random") and name not in OWN_STATE:
                broken.append((node.lineno, f"{owner}.{name}"))
    return broken


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_source_keeps_its_promises(path):
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "a module begins with what it is for"
    assert broken_promises(source) == []


def test_broken_promises_are_seen():
    source = "np.random.seed(0)\nassert eval('1')\nexec('2')\nnp.random.default_rng(0).random()"
    expected = [(1, "np.random.seed"), (2, "assert"), (2, "eval"), (3, "exec")]
    assert sorted(broken_promises(source)) == expected


SOLVERS = {"gd", "sgd", "rmsprop", "adam", "adamw", "nadam", "lbfgs"}

OTHER_VALUES = {
    "alpha": 3.0,
    "batch_size": 10,
    "learning_rate": "invscaling",
    "learning_rate_init": 0.002,
    "momentum": 0.3,
    "nesterovs_momentum": False,
    "beta_1": 0.5,
    "beta_2": 0.9,
    "epsilon": 0.1,
    "label_smoothing": 0.2,
    "max_fun": 2,
    "shuffle": False,
}
"""Of parameters that some solvers may not use."""


def words_on(name):
    """Return what the docstring says of a parameter."""
    [entry] = [p for p in ClassDoc(skdnn.DeepBinaryClassifier)["Parameters"] if p.name == name]
    return " ".join(entry.desc)


def solvers_by_docstring(name):
    """Return the solvers for which a parameter is said to be used."""
    found = re.search(
        r"(Only|Not) used when solver(?:=| is )((?:'\w+'(?:, | or )?)+)", words_on(name)
    )
    if found is None:
        return SOLVERS
    named = set(re.findall(r"\w+(?=')", found[2]))
    return named if found[1] == "Only" else SOLVERS - named


@pytest.mark.parametrize("name", OTHER_VALUES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_parameter_is_used_by_the_solvers_that_its_docstring_names(name):
    X, y = make_table(40)
    used = set()
    for solver in SOLVERS:
        usual, other = (classifier(solver=solver, max_iter=3, max_fun=100) for _ in range(2))
        other.set_params(**{name: OTHER_VALUES[name]})
        if (usual.fit(X, y).params_ != other.fit(X, y).params_).any():
            used.add(solver)
    assert used == solvers_by_docstring(name)


@pytest.mark.parametrize(
    ("name", "value", "condition", "settings"),
    [
        ("focal_gamma", 4.0, "loss='focal'", {"loss": "focal"}),
        ("power_t", 0.9, "learning_rate='invscaling'", {"learning_rate": "invscaling"}),
        ("scoring", "roc_auc", "with early stopping", {"early_stopping": True, "max_iter": 20}),
    ],
)
def test_parameter_is_used_only_where_its_docstring_says(name, value, condition, settings):
    assert re.search(f"Only used (when )?{condition}", words_on(name))
    X, y = make_table(60)
    for is_used, given in ((True, settings), (False, {})):
        usual, other = classifier(**given), classifier(**given).set_params(**{name: value})
        changed = (usual.fit(X, y).params_ != other.fit(X, y).params_).any()
        assert changed == is_used
