"""What results and speed depend on: it is found, printed, and no reason to fail."""

import numpy as np
import pytest
import sklearn

import skdnn
from skdnn import _versions
from skdnn._versions import advise_kernel, cpu_features, describe_blas, find_blas, find_versions

HASWELL = [{"internal_api": "openblas", "architecture": "Haswell"}]


def printed(capsys):
    """Return what show_versions prints, by name; of several lines of one name the last."""
    skdnn.show_versions()
    lines = capsys.readouterr().out.splitlines()
    return {line[:16].rstrip(): line[17:] for line in lines}


def test_versions_are_those_of_the_packages(capsys):
    shown = printed(capsys)
    assert shown["skdnn"] == skdnn.__version__
    assert shown["numpy"] == np.__version__
    assert shown["scikit-learn"] == sklearn.__version__
    assert shown["n_jobs=None"].startswith("threads: ")
    assert set(shown) >= {"Python", "scipy", "joblib", "threadpoolctl", "numba", "processors"}


def test_missing_packages_are_named(capsys, monkeypatch):
    monkeypatch.setattr(_versions, "PACKAGES", ("numpy", "no-such-package"))
    assert printed(capsys)["no-such-package"] == "not installed"
    assert find_versions(["no-such-package"]) == {"no-such-package": None}


@pytest.mark.parametrize("has_numba", [True, False])
def test_compiled_passes_are_told_of(capsys, monkeypatch, has_numba):
    monkeypatch.setattr(_versions, "is_numba_usable", lambda: has_numba)
    assert printed(capsys)["compiled passes"] == ("yes" if has_numba else "no")


def test_every_blas_is_described():
    libraries = find_blas()
    assert libraries  # NumPy's
    assert all("num_threads" in library for library in libraries)
    assert all(library["internal_api"] in describe_blas(library) for library in libraries)


def test_unknown_blas_is_described():
    assert describe_blas({"internal_api": "blis"}).startswith("blis ?, kernel unknown, threads: ?")


@pytest.mark.parametrize("feature", ["AVX512_SKX", "X86_V4"])
@pytest.mark.parametrize("kernel", ["Haswell", "Zen", "ZEN"])
def test_unused_avx512_is_worth_a_word(feature, kernel):
    library = {"internal_api": "openblas", "architecture": kernel}
    advice = advise_kernel({"AVX2", feature}, [library], None)
    assert "OPENBLAS_CORETYPE=SkylakeX" in advice
    assert f"kernel {kernel} " in advice


@pytest.mark.parametrize(
    ("features", "libraries", "core_type"),
    [
        ({"AVX2", "X86_V3"}, HASWELL, None),
        (set(), HASWELL, None),
        ({"X86_V4"}, [], None),
        ({"X86_V4"}, [{"internal_api": "openblas", "architecture": "SkylakeX"}], None),
        ({"X86_V4"}, [{"internal_api": "openblas"}], None),
        ({"X86_V4"}, [{"internal_api": "openblas", "architecture": None}], None),
        ({"X86_V4"}, [{"internal_api": "mkl", "architecture": "Haswell"}], None),
        ({"X86_V4"}, HASWELL, "Haswell"),
    ],
)
def test_nothing_is_said_where_there_is_nothing_to_gain_or_to_know(features, libraries, core_type):
    assert advise_kernel(features, libraries, core_type) is None


def test_advice_is_printed_last(capsys, monkeypatch):
    monkeypatch.setattr(_versions, "cpu_features", lambda: {"X86_V4"})
    monkeypatch.setattr(_versions, "find_blas", lambda: HASWELL)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    skdnn.show_versions()
    assert "OPENBLAS_CORETYPE=SkylakeX" in capsys.readouterr().out.splitlines()[-1]


def test_features_are_those_that_numpy_found(monkeypatch):
    config = {"SIMD Extensions": {"baseline": ["SSE"], "found": ["X86_V4"], "not found": ["SPR"]}}
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    assert cpu_features() == {"SSE", "X86_V4"}


@pytest.mark.parametrize("config", [{}, {"SIMD Extensions": {}}])
def test_features_that_numpy_does_not_tell_of_are_none(monkeypatch, config):
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    assert cpu_features() == set()
