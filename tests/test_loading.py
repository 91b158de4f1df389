"""numba is optional, also where it is broken: NumPy computes then, which is said once."""

import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import skdnn
from skdnn.engine import loading
from skdnn.engine.loading import choose_executor, is_numba_usable, load_run_steps

pytest.importorskip("numba")

from skdnn.engine import interpreter

COMPILED = ("interpreter", "kernels")


def is_of_numba(name):
    own = tuple(f"skdnn.engine.{name}" for name in COMPILED)
    return name.partition(".")[0] in ("numba", "llvmlite") or name in own


@pytest.fixture
def anew(monkeypatch):
    """Let the process be one that has loaded nothing yet."""
    monkeypatch.setattr(loading, "_functions", {})
    loading._warn_once.cache_clear()


@pytest.fixture
def without_numba(anew, monkeypatch):
    """Take numba out of `sys.modules`, and put it back at the end."""
    kept = {name: module for name, module in sys.modules.items() if is_of_numba(name)}
    for name in kept:
        del sys.modules[name]
    for name in COMPILED:
        monkeypatch.delattr(skdnn.engine, name, raising=False)
    yield
    for name in [name for name in sys.modules if is_of_numba(name)]:
        del sys.modules[name]
    sys.modules.update(kept)


def load():
    """Choose an executor for a long training."""
    return choose_executor("float32", 1e6)


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
        assert load() == "numpy"
    assert len(caught) == 1
    assert load_run_steps("float32") is load_run_steps("float64") is None
    assert load() == "numpy"


@pytest.mark.usefixtures("without_numba")
def test_file_beside_the_program_is_named(tmp_path, monkeypatch):
    (tmp_path / "numba.py").write_text("print('my first steps with numba')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="rename a file or folder beside the program"):
        load()


# ---- nothing to say


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
    assert load() == "numpy"


@pytest.mark.usefixtures("anew")
def test_disabled_numba_is_nothing_to_say(monkeypatch):
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    assert load() == "numpy"


@pytest.mark.usefixtures("anew")
def test_other_dtypes_have_no_kernels():
    assert load_run_steps(np.complex128) is load_run_steps(np.longdouble) is None
    assert load_run_steps(np.float32) is load_run_steps("float32") is not None


@pytest.mark.usefixtures("anew")
def test_whether_numba_is_there_is_told_without_compiling(monkeypatch):
    def fail():
        raise OSError("libllvmlite.so")

    monkeypatch.setattr(loading, "_load", fail)
    assert is_numba_usable()
    for importing in (lambda: False, fail):
        monkeypatch.setattr(loading, "_import_numba", importing)
        assert not is_numba_usable()


@pytest.mark.usefixtures("anew")
def test_numba_that_has_failed_is_not_called_usable(monkeypatch):
    monkeypatch.setattr(loading, "compile_run_steps", lambda dtype: {}[dtype])
    with pytest.warns(UserWarning, match="KeyError"):
        load()
    assert not is_numba_usable()


# ---- an estimate decides


@pytest.mark.usefixtures("anew")
def test_short_trainings_load_nothing(monkeypatch):
    monkeypatch.setattr(loading, "_load", None)
    assert choose_executor("float32", loading.SECONDS_BEFORE_LOADING) == "numpy"


@pytest.mark.usefixtures("anew")
def test_code_that_cannot_be_kept_is_compiled_for_long_trainings_only(monkeypatch):
    function = SimpleNamespace(stats=SimpleNamespace(cache_path=None))
    monkeypatch.setattr(loading, "_declare", lambda: function)
    monkeypatch.setattr(loading, "compile_run_steps", lambda dtype: (len, loading.NO_FOLDER))
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR to a folder") as caught:
        choose_executor("float32", 29.0)
    assert len(caught) == 1
    assert choose_executor("float32", 29.0) == "numpy"
    assert choose_executor("float32", 31.0) == "numba"
    assert choose_executor("float32", 1.0) == "numba"  # as it is there


@pytest.mark.usefixtures("anew")
def test_compiling_is_not_begun_where_it_might_take_all_the_time(monkeypatch):
    def load(dtype, seconds):
        loaded.append(seconds)
        return ""

    loaded = []
    monkeypatch.setattr(loading, "_load", load)
    choose_executor("float32", np.inf, 50.0)
    assert loaded == []
    choose_executor("float32", np.inf, 70.0)
    assert loaded == [70.0]


# ---- what is on disk

SMALL = """
def run_steps(
    table, places, arena, X, y, index, weight, scalars, bits, logits, data, indices, indptr
):
    for i in range(len(arena)):
        arena[i] += arena[i]
"""


def declare(folder, monkeypatch):
    """Let `run_steps` be a small function that a new process has read from a file."""
    file = folder / "small.py"
    if not file.exists():
        file.write_text(SMALL)
    spec = importlib.util.spec_from_file_location("small", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "small", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(interpreter, "run_steps", module.run_steps)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Return the folder with the code of the small function, for float32 and float64."""
    declare(tmp_path, monkeypatch)
    for dtype in ("float32", "float64"):
        function, fault = loading.compile_run_steps(np.dtype(dtype))
        assert fault == ""
    return Path(function.stats.cache_path)


def no_steps(run_steps):
    """Return empty arrays for `run_steps` as it is compiled."""
    from numba.np.numpy_support import as_dtype

    return [np.zeros((0,) * kind.ndim, as_dtype(kind.dtype)) for kind in run_steps.signatures[0]]


def check_code(dtype="float32"):
    """Load the code as a new process does, and run it; return it, and why it was not kept."""
    dtype = np.dtype(dtype)
    function, fault = loading.compile_run_steps(dtype)
    arguments = no_steps(function)
    arguments[2] = np.ones(3, dtype)
    function(*arguments)
    np.testing.assert_array_equal(arguments[2], 2.0)
    return function, fault


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: os.truncate(file, file.stat().st_size - 20),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "text": lambda file: file.write_text("<html>503</html>"),
    "a bit": flip_a_bit,
    "more": lambda file: file.write_bytes(file.read_bytes() + b"."),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("suffix", ["nbi", "nbc", "sha256"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_code_is_compiled_anew(kept, damage, suffix):
    for file in kept.glob(f"*.{suffix}"):
        damage(file)
    assert check_code()[1] == ""
    function, fault = check_code()
    assert fault == ""
    assert sum(function.stats.cache_hits.values()) == 1


def test_code_that_is_whole_is_loaded(kept):
    before = {file: file.stat().st_mtime_ns for file in kept.glob("*.nb?")}
    assert len(before) == 3
    function, _ = check_code()
    assert sum(function.stats.cache_hits.values()) == 1
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_code_of_another_dtype_is_compiled_anew(kept, dtype):
    """Two processes that compile at once may give their code the same name."""
    files = sorted(kept.glob("small*.nbc"))
    data = [file.read_bytes() for file in files]
    for file, other in zip(files, data[::-1], strict=True):
        file.write_bytes(other)
    bless(kept)
    assert check_code(dtype)[1] == ""


def bless(folder):
    """Write a checksum of the files as they are."""
    checksum = loading._checksum(loading._find_code(folder))
    (folder / "code.sha256").write_bytes(checksum)


def test_code_of_other_kernels_is_compiled_anew(tmp_path, monkeypatch, kept):
    """As an older version may leave behind, whose first file has the same time and size."""
    (tmp_path / "kernels.py").write_text("other = 1")
    monkeypatch.setattr(loading, "KERNELS", [tmp_path / "kernels.py"])
    for hits in (0, 1):
        function, fault = check_code()
        assert (sum(function.stats.cache_hits.values()), fault) == (hits, "")


def test_full_disk_leaves_the_code_in_memory(kept, monkeypatch):
    caching = importlib.import_module("numba.core.caching")

    def fail(self, path):
        raise OSError(28, "No space left on device")

    for file in kept.iterdir():
        file.unlink()
    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", fail)
    assert "No space left" in check_code()[1]


@pytest.mark.usefixtures("anew")
def test_damaged_code_that_cannot_be_removed_is_no_reason_to_fail(kept, monkeypatch):
    def refuse(file, missing_ok):
        raise PermissionError(13, "Permission denied", str(file))

    for file in kept.glob("small*.nbi"):
        file.write_bytes(b"")
    monkeypatch.setattr(loading.Path, "unlink", refuse)
    with pytest.warns(UserWarning, match=r"PermissionError: .*small.run_steps.*\.nb"):
        assert load() == "numpy"


@pytest.mark.usefixtures("anew")
def test_code_that_is_not_kept_is_used_and_told_of(monkeypatch):
    full = "OSError: [Errno 28] No space left on device"
    monkeypatch.setattr(loading, "compile_run_steps", lambda dtype: (len, full))
    with pytest.warns(UserWarning, match="cannot be kept on disk .*No space left on device"):
        assert load() == "numba"
    assert load() == "numba"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_is_left_to_compile(dtype):
    """Arrays that may not be written to, or of another type, are no new signatures."""
    run_steps = load_run_steps(dtype)
    arguments = no_steps(run_steps)
    for array in arguments:
        array.flags.writeable = False
    for i in (2, 9):
        arguments[i] = arguments[i].copy()
    run_steps(*arguments)
    assert len(run_steps.signatures) == 1
    arguments[3] = arguments[3].astype("float16")
    with pytest.raises(TypeError):
        run_steps(*arguments)


# ---- other processes

CODE = """
import os, sys, warnings
import numpy as np
from skdnn.engine import loading

if "NO_PLACE" in os.environ:
    import numba.core.caching as caching
    caching.CacheImpl._locator_classes = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        executor = loading.choose_executor(sys.argv[1], 1.0)
if executor == "numba":
    from skdnn.engine.executors import Feed, Memory
    from skdnn.engine.formula import Formula
    formula = Formula(lambda a, _: {"w": a["w"] + a["x"] @ a["w"]}, {"x": (2, 2), "w": (2, 2)})
    bound = Memory(sys.argv[1]).executable(formula.compile("numba"))
    bound.views["w"][0] = np.eye(2)
    bound.run(Feed(np.ones((2, 2), sys.argv[1]), np.array([[[0, 1]]])))
    np.testing.assert_array_equal(bound.views["w"][0], np.eye(2) + 1)
messages = [str(warning.message) for warning in caught if warning.category is UserWarning]
print(len(messages), executor, *messages)
"""


def start(folder, dtype="float32", code=CODE, **environment):
    """Start a program of a user's in a folder of its own."""
    (folder / "program.py").write_text(code)
    root = str(Path(loading.__file__).parents[2])
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
    assert shown.startswith("1 numpy numba is installed, but cannot be used: AttributeError")
    assert "coverage" in shown
    assert output_of(start(plain)) == "0 numba\n"  # folders do not hide packages
    assert output_of(start(plain, NUMBA_DISABLE_JIT="1")) == "0 numpy\n"
    assert output_of(start(plain, NO_PLACE="1")).startswith("1 numpy The code that numba compiles")


@pytest.mark.slow
def test_processes_that_compile_at_once_load_or_find_damaged_code(tmp_path):
    place = {"NUMBA_CACHE_DIR": str(tmp_path / "code")}
    at_once = [start(tmp_path, dtype, **place) for dtype in ("float32", "float64", "float64")]
    assert [output_of(process) for process in at_once] == ["0 numba\n"] * 3
    for dtype in ("float32", "float64"):
        assert output_of(start(tmp_path, dtype, **place)) == "0 numba\n"
    files = list((tmp_path / "code").rglob("*.nbc"))
    assert files
    for file in files:
        DAMAGES["zeros"](file)
    assert output_of(start(tmp_path, **place)) == "0 numba\n"


FIT = """
import zlib
from sklearn.datasets import make_classification
from skdnn import DeepBinaryClassifier

X, y = make_classification(2500, 20, random_state=0)
model = DeepBinaryClassifier(random_state=0, n_jobs=1).fit(X, y)
print(model._predictor.executor, zlib.crc32(model.params_.tobytes()))
"""


@pytest.mark.slow
def test_process_that_compiles_trains_as_one_that_loads(tmp_path):
    """To the bit, with kernels of every kind."""
    place = {"NUMBA_CACHE_DIR": str(tmp_path / "code")}
    shown = [output_of(start(tmp_path, code=FIT, **place)) for _ in range(2)]
    assert shown[0] == shown[1]
    assert shown[0].startswith("numba ")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_process_forked_while_another_thread_loads_does_without_numba(anew):
    loading._lock.acquire()
    loading._begin_anew()  # as in the child
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load() == "numpy"
