"""How the package is built: imports go one way, modules and functions are small, formulas pure."""

import ast
from pathlib import Path

import pytest

import skdnn

ROOT = Path(skdnn.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
MAY_IMPORT = {
    "typing": set(),
    "utils": set(),
    "engine": set(),
    "nn": {"engine", "typing"},
    "optim": {"engine"},
    "preprocessing": {"typing", "utils"},
    "training": {"nn", "optim", "engine", "utils"},
    "estimator": {"training", "nn", "optim", "engine", "preprocessing", "typing", "utils"},
    "datasets": set(),
}
"""What each room may import of the others; those that are not named may import all."""

LONGEST_MODULE, LONGEST_FUNCTION = 400, 40
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))


def parse(path):
    return ast.parse(path.read_text())


def imported(path):
    """Return the modules of the package that a module imports when it is imported, as paths."""
    package = path.parent.relative_to(ROOT).parts
    names = set()
    for node in parse(path).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            names |= {(*base, alias.name) for alias in node.names}
    return {find(name) for name in names} - {path}


def find(name):
    """Return the file of a module, or of the package or module that a name comes from."""
    for parts in (name, name[:-1]):
        module, package = ROOT.joinpath(*parts), ROOT.joinpath(*parts, "__init__.py")
        if module.with_suffix(".py").exists():
            return module.with_suffix(".py")
        if package.exists():
            return package
    raise AssertionError(name)


def room(path):
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else path.stem


def lines_without_docstrings(node, source):
    """Return how many lines a module or function has, docstrings, comments and blanks apart."""
    docstrings = set()
    for inner in ast.walk(node):
        is_text = isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant)
        if is_text and isinstance(inner.value.value, str):
            docstrings |= set(range(inner.lineno, inner.end_lineno + 1))
    first = getattr(node, "lineno", 1)
    last = getattr(node, "end_lineno", len(source))
    lines = [i for i in range(first, last + 1) if i not in docstrings]
    return sum(1 for i in lines if source[i - 1].strip() and source[i - 1].strip()[0] != "#")


@each_source
def test_rooms_import_one_way(path):
    allowed = MAY_IMPORT.get(room(path))
    others = {room(other) for other in imported(path)} - {room(path), "__init__"}
    assert allowed is None or others <= allowed


def test_no_module_imports_itself_in_a_circle():
    graph = {path: imported(path) for path in SOURCES}
    done = set()

    def visit(path, way):
        assert path not in way, [str(p.relative_to(ROOT)) for p in (*way, path)]
        if path not in done:
            for other in graph[path]:
                visit(other, (*way, path))
            done.add(path)

    for path in SOURCES:
        visit(path, ())


@each_source
def test_modules_and_functions_are_small(path):
    source, tree = path.read_text().splitlines(), parse(path)
    assert lines_without_docstrings(tree, source) <= LONGEST_MODULE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            assert lines_without_docstrings(node, source) <= LONGEST_FUNCTION, node.name


FORMULAS = [
    path
    for path in SOURCES
    if room(path) in ("nn", "optim") and path.name != "initializers.py"  # which draw numbers
]


@pytest.mark.parametrize("path", FORMULAS, ids=lambda p: str(p.relative_to(ROOT)))
def test_formulas_write_into_no_array(path):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            assert "out" not in {keyword.arg for keyword in node.keywords}
        if isinstance(node, ast.AugAssign):
            assert isinstance(node.op, ast.Add | ast.BitOr)  # counts, lists and dicts
