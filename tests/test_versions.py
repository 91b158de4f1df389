"""What results and speed depend on is printed; what needs a newer scikit-learn says so."""

import importlib
import sys

import numpy as np
import pytest
import sklearn
import threadpoolctl

import skdnn
from skdnn import utils


def test_versions_threads_and_every_blas_are_printed(capsys):
    skdnn.show_versions()
    output = capsys.readouterr().out
    shown = {line[:16].rstrip(): line[17:] for line in output.splitlines()}
    assert shown["skdnn"] == skdnn.__version__
    assert shown["n_jobs=None"].startswith("threads: ")
    assert shown["compiled kernels"] == "no" or shown["compiled kernels"].startswith("by numba ")
    assert f"numpy: {np.__version__}" in output
    libraries = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    assert libraries  # NumPy's
    assert all(library["filepath"] in output for library in libraries)


@pytest.fixture
def old_compat(monkeypatch):
    """The module as it is where scikit-learn has no callbacks, before 1.9."""
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    yield importlib.reload(utils)
    monkeypatch.undo()
    importlib.reload(utils)


def test_stand_in_refuses_callbacks_in_words(old_compat):
    class Estimator(old_compat.CallbackSupportMixin):
        pass

    with pytest.raises(ImportError) as failure:
        Estimator().set_callbacks(object())
    words = str(failure.value)
    assert "set_callbacks" in words
    assert "scikit-learn >= 1.9" in words
    assert sklearn.__version__ in words
    assert "history_" in words
