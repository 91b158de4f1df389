"""What results and speed depend on: it is found, printed, and no reason to fail."""

import numpy as np
import pytest
import sklearn
import threadpoolctl

import skdnn

HASWELL = {"user_api": "blas", "internal_api": "openblas", "architecture": "Haswell"}


def printed(capsys):
    """Return what show_versions prints, by name; of several lines of one name the last."""
    skdnn.show_versions()
    lines = capsys.readouterr().out.splitlines()
    return {line[:16].rstrip(): line[17:] for line in lines}


@pytest.fixture
def on_machine(monkeypatch):
    """Let a machine have some instruction sets and BLAS libraries, and a kernel that is set."""

    def pretend(features=(), libraries=(), core_type=None):
        config = {"SIMD Extensions": {"baseline": ["SSE"], "found": [*features]}}
        monkeypatch.setattr(np, "show_config", lambda mode: config)
        for module in ("threadpoolctl", "skdnn.testing"):
            monkeypatch.setattr(f"{module}.threadpool_info", lambda: list(libraries))
        if core_type is None:
            monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
        else:
            monkeypatch.setenv("OPENBLAS_CORETYPE", core_type)

    return pretend


def test_versions_are_those_of_the_packages(capsys):
    shown = printed(capsys)
    assert shown["skdnn"] == skdnn.__version__
    assert shown["numpy"] == np.__version__
    assert shown["scikit-learn"] == sklearn.__version__
    assert shown["n_jobs=None"].startswith("threads: ")
    assert shown["compiled kernels"] in ("yes", "no")
    assert set(shown) >= {"Python", "scipy", "joblib", "threadpoolctl", "numba", "processors"}


def test_missing_packages_are_named(capsys, monkeypatch):
    monkeypatch.setattr("skdnn.testing.PACKAGES", ("numpy", "no-such-package"))
    assert printed(capsys)["no-such-package"] == "not installed"


def test_every_blas_is_described(capsys):
    libraries = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    assert libraries  # NumPy's
    skdnn.show_versions()
    output = capsys.readouterr().out
    assert all(library["filepath"] in output for library in libraries)


def test_unknown_blas_is_described(capsys, on_machine):
    on_machine(libraries=[{"user_api": "blas", "internal_api": "blis"}])
    assert printed(capsys)["BLAS"].startswith("blis ?, kernel unknown, threads: ?")


@pytest.mark.parametrize("feature", ["AVX512_SKX", "X86_V4"])
@pytest.mark.parametrize("kernel", ["Haswell", "Zen", "ZEN"])
def test_unused_avx512_is_worth_a_word(feature, kernel, capsys, on_machine):
    on_machine({"AVX2", feature}, [HASWELL | {"architecture": kernel}])
    skdnn.show_versions()
    last = capsys.readouterr().out.splitlines()[-1]
    assert "OPENBLAS_CORETYPE=SkylakeX" in last
    assert f"kernel {kernel} " in last


@pytest.mark.parametrize(
    ("features", "libraries", "core_type"),
    [
        ({"AVX2", "X86_V3"}, [HASWELL], None),
        ((), [HASWELL], None),
        ({"X86_V4"}, [], None),
        ({"X86_V4"}, [HASWELL | {"architecture": "SkylakeX"}], None),
        ({"X86_V4"}, [HASWELL | {"architecture": None}], None),
        ({"X86_V4"}, [HASWELL | {"internal_api": "mkl"}], None),
        ({"X86_V4"}, [HASWELL], "Haswell"),
    ],
)
def test_nothing_is_said_where_there_is_nothing_to_gain_or_to_know(
    features, libraries, core_type, capsys, on_machine
):
    on_machine(features, libraries, core_type)
    skdnn.show_versions()
    assert "OPENBLAS_CORETYPE" not in capsys.readouterr().out


@pytest.mark.parametrize("config", [{}, {"SIMD Extensions": {}}])
def test_features_that_numpy_does_not_tell_of_are_none(monkeypatch, config):
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    skdnn.show_versions()
