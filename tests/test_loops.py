"""Addresses of NumPy's loops: found for what there is, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest

from skdnn import _loops
from skdnn._loops import find_loop

UFUNCS = [f for f in vars(np).values() if isinstance(f, np.ufunc)]


def test_there_is_a_loop_for_each_signature_that_numpy_names():
    for ufunc in UFUNCS:
        for signature in ufunc.types:
            dtypes = [np.dtype(char) for char in signature.replace("->", "")]
            assert find_loop(ufunc, dtypes) is not None, (ufunc, signature)


def test_loops_of_different_types_lie_at_different_places():
    single, double = (find_loop(np.exp, [np.dtype(t)] * 2) for t in ("f", "d"))
    assert single[0] != double[0]


@pytest.mark.parametrize(
    ("ufunc", "dtypes"),
    [(np.greater, "fff"), (np.add, "fdd"), (np.positive, "fl"), (np.arctan2, "?f?")],
)
def test_there_is_none_where_numpy_would_convert(ufunc, dtypes):
    assert find_loop(ufunc, [np.dtype(char) for char in dtypes]) is None


@pytest.mark.parametrize("field", ["nin", "nout", "nargs", "ntypes", "name"])
def test_nothing_is_found_in_a_structure_that_is_not_known(field, monkeypatch):
    original = _loops._UFuncObject

    def from_address(address):
        copy = original.from_buffer_copy(original.from_address(address))
        setattr(copy, field, b"other" if field == "name" else getattr(copy, field) + 1)
        return copy

    assert find_loop(np.add, [np.dtype("f")] * 3) is not None
    monkeypatch.setattr(_loops, "_UFuncObject", SimpleNamespace(from_address=from_address))
    assert find_loop(np.add, [np.dtype("f")] * 3) is None
