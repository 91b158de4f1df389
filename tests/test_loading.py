"""numba is optional, also where it is broken: NumPy computes then, which is said once."""

import importlib
import os
import subprocess
import sys
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import skdnn
from skdnn import DeepBinaryClassifier, _lbfgs, _loading, _training
from skdnn._loading import choose_module, is_numba_usable, load_compiled
from skdnn._passes import NUMPY

pytest.importorskip("numba")

from skdnn._compiled import _make_loop_ready, find_signatures


def is_of_numba(name):
    return name.partition(".")[0] in ("numba", "llvmlite") or name in (
        "skdnn._compiled",
        "skdnn._kernels",
    )


@pytest.fixture
def anew(monkeypatch):
    """Let the process be one that has loaded nothing yet, and must load for any training."""
    monkeypatch.setattr(_loading, "_loaded", _loading._Loaded())
    monkeypatch.setattr(_loading, "SECONDS_BEFORE_LOADING", -1.0)


@pytest.fixture
def without_numba(anew, monkeypatch):
    """Take numba out of `sys.modules`, and put it back at the end."""
    kept = {name: module for name, module in sys.modules.items() if is_of_numba(name)}
    for name in kept:
        del sys.modules[name]
    for name in ("_compiled", "_kernels"):
        monkeypatch.delattr(skdnn, name, raising=False)
    yield
    for name in [name for name in sys.modules if is_of_numba(name)]:
        del sys.modules[name]
    sys.modules.update(kept)


def fit(**settings):
    """Train a little, and return the weights."""
    X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    model = DeepBinaryClassifier(
        (4,), encoder=None, **{"n_members": 1, "max_iter": 3, "random_state": 0, **settings}
    )
    return model.fit(X, X[:, 0] > 0).params_


# ---- numba is there, and cannot be used


def write_package(folder, name, text):
    """Write a package that hides the real one."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


BROKEN = {
    "old": ("numba", "raise ImportError('Numba needs NumPy 1.9 or less')"),
    "llvmlite": ("llvmlite", "raise OSError('Could not load shared object file: libllvmlite.so')"),
    "half": ("numba", ""),
    "attribute": ("numba", "import sys\nsys.no_such_thing"),
    "memory": ("numba", "raise MemoryError"),
}


@pytest.mark.usefixtures("without_numba")
@pytest.mark.parametrize(("package", "text"), BROKEN.values(), ids=BROKEN)
def test_broken_installation_is_said_once(tmp_path, monkeypatch, package, text):
    write_package(tmp_path, package, text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(
        UserWarning, match=r"numba is installed, but cannot be used: \w+Error"
    ) as caught:
        first = fit()
    assert len(caught) == 1
    assert load_compiled("float32") is load_compiled("float64") is NUMPY
    np.testing.assert_array_equal(fit(), first)


@pytest.mark.usefixtures("without_numba")
def test_file_beside_the_program_is_named(tmp_path, monkeypatch):
    (tmp_path / "numba.py").write_text("print('my first steps with numba')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="rename a file or folder beside the program"):
        fit()


@pytest.mark.usefixtures("without_numba")
def test_what_is_left_of_a_broken_import_is_removed(tmp_path, monkeypatch):
    write_package(tmp_path, "numba", "import numba.core\nraise MemoryError")
    (tmp_path / "numba" / "core.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="MemoryError"):
        fit()
    assert not [name for name in sys.modules if name.startswith("numba")]


@pytest.mark.usefixtures("without_numba")
def test_interrupted_import_is_tried_again(tmp_path, monkeypatch):
    """A second Ctrl-C ends a fit at once; the next one is as good as the first."""
    write_package(tmp_path, "numba", "import numba.core\nraise KeyboardInterrupt")
    (tmp_path / "numba" / "core.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit()
    assert not [name for name in sys.modules if name.startswith("numba")]
    (tmp_path / "numba" / "core.py").write_text("raise ImportError('another time')")
    with pytest.warns(UserWarning, match="ImportError: another time"):
        fit()


@pytest.mark.usefixtures("without_numba")
def test_what_is_left_of_a_program_s_own_import_is_removed_first(tmp_path, monkeypatch):
    """Ctrl-C in an `import numba` of the program's leaves modules without their package."""
    write_package(
        tmp_path, "numba", "import numba.core\nnumba.core.config\nraise ImportError('whole')"
    )
    (tmp_path / "numba" / "core.py").write_text("config = 1")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules["numba.core"] = ModuleType("numba.core")
    with pytest.warns(UserWarning, match="ImportError: whole"):  # and not: no attribute 'core'
        fit()


# ---- nothing to say


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("spec", [None, ModuleSpec("numba", None)], ids=["missing", "folder"])
def test_missing_numba_is_nothing_to_say(monkeypatch, spec):
    """Also where a folder bears its name: to import that is no error."""
    monkeypatch.setattr(_loading, "find_spec", lambda name: spec)
    fit()
    assert load_compiled("float32") is NUMPY


@pytest.mark.usefixtures("without_numba")
@pytest.mark.parametrize("way", ["none", "finder"])
def test_numba_that_a_program_is_kept_from_is_nothing_to_say(monkeypatch, way):
    class Keeper:
        def find_spec(self, name, path=None, target=None):
            if name == "numba":
                raise ModuleNotFoundError("No module named 'numba'", name="numba")

    if way == "none":
        monkeypatch.setitem(sys.modules, "numba", None)
    else:
        monkeypatch.setattr(sys, "meta_path", [Keeper(), *sys.meta_path])
    fit()
    assert load_compiled("float32") is NUMPY


@pytest.mark.usefixtures("anew")
def test_disabled_numba_is_nothing_to_say(monkeypatch):
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    fit()
    assert load_compiled("float32") is NUMPY


@pytest.mark.usefixtures("anew")
def test_other_dtypes_have_no_loops():
    assert load_compiled(np.complex128) is load_compiled(np.longdouble) is NUMPY
    assert load_compiled(np.float32) is load_compiled("float32") is not NUMPY


@pytest.mark.usefixtures("anew")
def test_whether_numba_is_there_is_told_without_compiling(monkeypatch):
    def fail():
        raise OSError("libllvmlite.so")

    monkeypatch.setattr(_loading, "_load", fail)
    assert is_numba_usable()
    for importing in (lambda: False, fail):
        monkeypatch.setattr(_loading, "_import_numba", importing)
        assert not is_numba_usable()


@pytest.mark.usefixtures("anew")
def test_numba_that_has_failed_is_not_called_usable(monkeypatch):
    monkeypatch.setattr("skdnn._compiled.make_ready", lambda dtype: {}[dtype])
    with pytest.warns(UserWarning, match="KeyError"):
        fit()
    assert not is_numba_usable()


# ---- no place for compiled code


@pytest.mark.usefixtures("anew")
def test_code_that_cannot_be_kept_is_compiled_for_long_trainings_only(monkeypatch):
    compiled = importlib.import_module("skdnn._compiled")
    monkeypatch.setattr(compiled, "HAS_PLACE", False)
    monkeypatch.setattr(compiled, "make_ready", lambda dtype: ({"is_compiled": True}, None))
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR to a folder") as caught:
        fit()
    assert len(caught) == 1
    fit()
    assert choose_module("float32", 29.0) is NUMPY
    assert choose_module("float32", 31.0).is_compiled
    assert choose_module("float32", 1.0).is_compiled  # as it is there


@pytest.mark.usefixtures("anew")
def test_compiling_is_not_begun_where_it_might_take_all_the_time(monkeypatch):
    def load(dtype, seconds):
        loaded.append(seconds)
        return NUMPY, ""

    loaded = []
    monkeypatch.setattr(_loading, "_load", load)
    choose_module("float32", np.inf, 50.0)
    fit(max_time=50.0)
    with pytest.warns(ConvergenceWarning):
        fit(max_time=150.0, n_members=3, solver="lbfgs")
    assert loaded == []
    choose_module("float32", np.inf, 70.0)
    assert loaded == [70.0]


@pytest.mark.usefixtures("anew")
def test_time_to_compile_is_judged_as_what_a_training_may_take(monkeypatch):
    def load(dtype, seconds):
        now.append(now[-1] + 61.0)
        return NUMPY, ""

    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[-1])
    monkeypatch.setattr(_loading, "_load", load)
    for solver in ("adam", "lbfgs"):
        monkeypatch.setattr(_training if solver == "adam" else _lbfgs, "time", clock)
        with pytest.warns(ConvergenceWarning, match="after 1 .* because max_time=61"):
            fit(max_time=61.0, solver=solver)


# ---- what is on disk


def make_loop(folder):
    """Return a new process's view of a loop whose compiled code is kept in a folder."""
    numba = importlib.import_module("numba")
    spec = importlib.util.spec_from_file_location("small_loop", folder / "small_loop.py")
    module = sys.modules["small_loop"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return numba.njit(cache=True)(module.double)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Return a folder with a loop, and its code for float32 and float64 on disk."""
    (tmp_path / "small_loop.py").write_text(
        "def double(x):\n    for i in range(len(x)):\n        x[i] += x[i]\n"
    )
    monkeypatch.setitem(sys.modules, "small_loop", None)  # which is put back at the end
    loop = make_loop(tmp_path)
    for dtype in ("float32", "float64"):
        assert _make_loop_ready(loop, types_of(dtype)) is None
    return tmp_path


def types_of(dtype):
    numba = importlib.import_module("numba")
    return (numba.types.Array(numba.from_dtype(np.dtype(dtype)), 1, "C"),)


def swap(files):
    first, second = (file.read_bytes() for file in files)
    files[0].write_bytes(second)
    files[1].write_bytes(first)


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGES = {
    "empty": lambda files: [file.write_bytes(b"") for file in files],
    "cut": lambda files: [file.write_bytes(file.read_bytes()[:-40]) for file in files],
    "half": lambda files: [os.truncate(file, file.stat().st_size // 2) for file in files],
    "zeros": lambda files: [file.write_bytes(bytes(file.stat().st_size)) for file in files],
    "noise": lambda files: [file.write_bytes(bytes(range(256)) * 9) for file in files],
    "text": lambda files: [file.write_text("<html>503</html>") for file in files],
    "a bit": lambda files: [flip_a_bit(file) for file in files],
    "more": lambda files: [file.write_bytes(file.read_bytes() + b".") for file in files],
    "gone": lambda files: [file.unlink() for file in files],
}


def check_loop(folder):
    """Make a loop ready, run it, and return why its code could not be kept."""
    loop, x = make_loop(folder), np.ones(3, np.float32)
    fault = _make_loop_ready(loop, types_of("float32"))
    n_signatures = len(loop.signatures)
    loop(x)
    np.testing.assert_array_equal(x, 2.0)
    assert len(loop.signatures) == n_signatures  # nothing was left to compile
    return fault


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_code_is_compiled_anew(kept, damage, pattern):
    damage(sorted((kept / "__pycache__").glob(pattern)))
    assert check_loop(kept) is None
    assert make_loop_hits(kept)


def test_code_that_is_whole_is_loaded(kept):
    before = {file: file.stat().st_mtime_ns for file in (kept / "__pycache__").glob("*.nb?")}
    assert len(before) == 3
    assert check_loop(kept) is None
    assert make_loop_hits(kept)
    for file, time in before.items():
        assert file.stat().st_mtime_ns == time


def make_loop_hits(folder):
    """Say whether a new process finds the code of the loop on disk."""
    loop = make_loop(folder)
    _make_loop_ready(loop, types_of("float32"))
    return bool(loop.stats.cache_hits)


def test_code_of_another_type_is_compiled_anew(kept):
    """Two processes that compile at once may give their code the same name."""
    swap(sorted((kept / "__pycache__").glob("*.nbc")))
    assert check_loop(kept) is None
    assert make_loop_hits(kept)


def test_full_disk_leaves_the_code_in_memory(kept, monkeypatch):
    caching = importlib.import_module("numba.core.caching")

    def fail(self, path):
        raise OSError(28, "No space left on device")

    for file in (kept / "__pycache__").glob("*.nb?"):
        file.unlink()
    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", fail)
    assert isinstance(check_loop(kept), OSError)


def test_damaged_code_that_cannot_be_removed_is_no_reason_to_fail(kept, monkeypatch, anew):
    compiled = importlib.import_module("skdnn._compiled")

    def refuse(file, missing_ok):
        raise PermissionError(13, "Permission denied", str(file))

    DAMAGES["empty"]((kept / "__pycache__").glob("*.nbi"))
    monkeypatch.setattr(compiled.Path, "unlink", refuse)
    loops = [(make_loop(kept), types_of("float32"))]
    monkeypatch.setattr(compiled, "find_signatures", lambda dtype: loops)
    with pytest.warns(UserWarning, match=r"PermissionError: .*small_loop.double.*\.nb"):
        fit()
    fit()


@pytest.mark.usefixtures("anew")
def test_code_that_is_not_kept_is_used_and_told_of(monkeypatch):
    compiled = importlib.import_module("skdnn._compiled")
    make_ready = compiled.make_ready

    def make_ready_on_a_full_disk(dtype):
        return make_ready(dtype)[0], OSError(28, "No space left on device")

    monkeypatch.setattr(compiled, "make_ready", make_ready_on_a_full_disk)
    with pytest.warns(UserWarning, match="cannot be kept on disk .*No space left on device"):
        fit()
    fit()
    assert load_compiled("float32") is not NUMPY


# ---- nothing fails in the middle of a step


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_left_to_compile(dtype):
    """Whatever a training may call is ready before it begins."""
    load_compiled(dtype)
    loops = dict(find_signatures(np.dtype(dtype)))
    before = {loop: list(loop.signatures) for loop in loops}
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(dtype)
    X[:, 3] = rng.integers(0, 9, 60)
    for activation, n_members in [("silu", 2), ("relu", 1), ("mish", 2), (np.tanh, 1)]:
        model = DeepBinaryClassifier(
            (5, 4),
            activation,
            n_members=n_members,
            categorical_features=[3],
            max_iter=4,
            alpha=0.1,
            random_state=0,
        )
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(_loading, "SECONDS_BEFORE_LOADING", -1.0)
            if activation is np.tanh:
                model.set_params(activation="tanh", dropout=0.2, max_grad_norm=1.0)
            model.fit(X, X[:, 0] > 0).predict(X)
    assert {loop: list(loop.signatures) for loop in loops} == before


def test_arrays_that_may_not_be_written_to_are_left_to_numpy():
    xp = load_compiled(np.float32)
    y, b = np.zeros((2, 3, 4), np.float32), np.ones((2, 1, 4), np.float32)
    b.flags.writeable = False
    n_signatures = len(importlib.import_module("skdnn._kernels").add_bias.signatures)
    assert xp.add_bias(y, b) is y
    np.testing.assert_array_equal(y, 1.0)
    assert len(importlib.import_module("skdnn._kernels").add_bias.signatures) == n_signatures


# ---- other processes


CODE = """
import os, sys, warnings
import numpy as np
import skdnn, skdnn._loading as loading

if "NO_PLACE" in os.environ:
    import numba.core.caching as caching
    caching.CacheImpl._locator_classes = []
loading.SECONDS_BEFORE_LOADING = -1.0
dtype = sys.argv[1]
X = np.random.default_rng(0).normal(size=(50, 3)).astype(dtype)
model = skdnn.DeepBinaryClassifier((4,), encoder=None, n_members=1, max_iter=3, dtype=dtype)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        model.fit(X, X[:, 0] > 0).predict(X)
messages = [str(warning.message) for warning in caught if warning.category is UserWarning]
print(len(messages), loading.load_compiled(dtype, 0.0) is not loading.NUMPY, *messages)
"""


def start(folder, dtype="float32", **environment):
    """Start a program of a user's in a folder of its own."""
    (folder / "program.py").write_text(CODE)
    root = str(Path(skdnn.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "program.py", dtype],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(process):
    shown, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    return shown


@pytest.mark.slow
def test_programs_in_odd_surroundings(tmp_path):
    """A folder whose name numba takes for a package; no place for its code; numba switched off."""
    shadowed, plain = tmp_path / "shadowed", tmp_path / "plain"
    for folder in (shadowed, plain, shadowed / "coverage", plain / "numba", plain / "llvmlite"):
        folder.mkdir()
    shown = output_of(start(shadowed))
    assert shown.startswith("1 False numba is installed, but cannot be used: AttributeError")
    assert "coverage" in shown
    assert output_of(start(plain)) == "0 True\n"  # folders do not hide packages
    assert output_of(start(plain, NUMBA_DISABLE_JIT="1")) == "0 False\n"
    assert output_of(start(plain, NO_PLACE="1")).startswith("1 False numba finds no folder")


@pytest.mark.slow
def test_processes_that_compile_at_once(tmp_path):
    place = {"NUMBA_CACHE_DIR": str(tmp_path / "code")}
    at_once = [start(tmp_path, dtype, **place) for dtype in ("float32", "float64", "float64")]
    assert [output_of(process) for process in at_once] == ["0 True\n"] * 3
    for dtype in ("float32", "float64"):
        assert output_of(start(tmp_path, dtype, **place)) == "0 True\n"


def test_numba_is_not_loaded_for_small_trainings(tmp_path):
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, numpy as np, skdnn\n"
            "X = np.random.default_rng(0).normal(size=(50, 3))\n"
            "skdnn.DeepBinaryClassifier((4,), max_iter=3).fit(X, X[:, 0] > 0).predict(X)\n"
            "assert 'numba' not in sys.modules",
        ],
        check=False,
    )
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_process_forked_while_another_thread_loads_does_without_numba(anew):
    with _loading._loaded.lock:
        _loading._loaded.begin_anew()  # as in the child
    assert load_compiled("float32") is NUMPY
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit()
