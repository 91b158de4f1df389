"""Run a program with NumPy: the reference, which everybody has.

Several members may run side by side: all arrays have an axis of members in front, and one call of
NumPy does an instruction for all of them. For small batches that saves most of the time of the
calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .feed import SparseRows, Stepwise
from .ops import N_BITS, cut, to_index
from .plan import Instruction, Operand, Program


class NumpyExecutable(Stepwise):
    """A program bound to an arena.

    Parameters
    ----------
    program : Program
    arena : ndarray of shape (n_members, n)
        With at least the program's size in each row.

    Attributes
    ----------
    views : dict of str to ndarray
        The inputs and outputs by name, each with an axis of members in front.
    constants : list of (ndarray, ndarray)
        Views of constants, and what is to be written into them.
    """

    def __init__(self, program: Program, arena: np.ndarray) -> None:
        self._flat, self._n_members = arena.reshape(-1), len(arena)
        self.bits = np.zeros((len(arena), program.n_bits), np.uint16)
        self.sparse = []
        self.views = {name: self._view(x) for name, x in program.inputs.items()}
        self.constants = [(self._view(x), values) for x, values in program.constants]
        self._calls = [self._make_call(instruction) for instruction in program.instructions]

    def _view(self, x: Operand) -> Any:
        if x.memory == "sparse":
            return self.sparse
        if x.memory == "bits":
            flat = self.bits[:, x.offset : x.offset + x.size]
        else:
            # Members lie side by side within a block, so that most arrays lie together.
            n, (offset, size) = self._n_members, x.block
            block = self._flat[offset * n : (offset + size) * n].reshape(n, size)
            flat = block[:, x.offset - offset : x.offset - offset + x.size]
        if not x.is_transposed:
            return flat.reshape(len(flat), *x.shape)
        return flat.reshape(len(flat), *x.shape[:-2], x.shape[-1], x.shape[-2]).mT

    def _make_call(self, instruction: Instruction) -> Callable[[], Any]:
        op, out = instruction.op, self._view(instruction.results[0])
        operands = [self._view(x) for x in instruction.operands]
        if op.is_elementwise or op.name == "broadcast":
            operands = [_align(x, out.ndim) for x in operands]
        if op.ufunc is not None:
            return partial(op.ufunc, *operands, out=out)
        return partial(WRITE[op.name], *operands, out=out, **instruction.attributes)

    def take_step(self) -> None:
        """Run the program once."""
        for call in self._calls:
            call()


def _align(x: np.ndarray, ndim: int) -> np.ndarray:
    """Insert axes after that of members, as broadcasting does in front of all."""
    return x.reshape(len(x), *(1,) * (ndim - x.ndim), *x.shape[1:])


@lru_cache(maxsize=64)
def _ones(n: int, dtype: np.dtype) -> np.ndarray:
    return np.ones((1, n), dtype)


def _sum(a: np.ndarray, *, out: np.ndarray, axis: int | None, keepdims: bool) -> None:
    if axis is None:
        np.add.reduce(a.reshape(len(a), -1), axis=1, out=out.reshape(len(a)))
    elif axis < a.ndim - 3:
        np.add.reduce(a, axis=axis + 1, keepdims=keepdims, out=out)
    elif axis == a.ndim - 2:  # as products with ones: three times as fast as NumPy's sum
        np.matmul(a, _ones(a.shape[-1], a.dtype).T, out=out.reshape(*a.shape[:-1], 1))
    else:
        n = a.shape[-2]
        np.matmul(_ones(n, a.dtype), a, out=out.reshape(*a.shape[:-2], 1, a.shape[-1]))


def _take_rows(table: np.ndarray, codes: np.ndarray, *, out: np.ndarray) -> None:
    for its_table, its_codes, its_out in zip(table, codes, out, strict=True):
        index = to_index(its_codes, len(its_table))
        its_table.take(index, axis=0, out=its_out, mode="clip")


def _scatter_add(codes: np.ndarray, rows: np.ndarray, *, out: np.ndarray, n_rows: int) -> None:
    for its_codes, its_rows, its_out in zip(codes, rows, out, strict=True):
        index = to_index(its_codes, n_rows)
        for column, values in enumerate(its_rows.T):
            its_out[:, column] = np.bincount(index, weights=values, minlength=n_rows)


def _csr_matmul(x: list[SparseRows], w: np.ndarray, *, out: np.ndarray) -> None:
    for member, rows in enumerate(x):
        out[member] = rows @ w[member]


def _csr_transposed_matmul(x: list[SparseRows], g: np.ndarray, *, out: np.ndarray) -> None:
    for member, rows in enumerate(x):
        out[member] = rows.mT @ g[member]


def _dropout_mask(bits: np.ndarray, *, out: np.ndarray, n_dropped: int) -> None:
    np.greater_equal(bits, n_dropped, out=out)
    np.multiply(out, N_BITS / (N_BITS - n_dropped), out=out)


WRITE: dict[str, Callable[..., Any]] = {
    "matmul": np.matmul,
    "sum": _sum,
    "transpose": lambda a, *, out: np.copyto(out, a.mT),
    "copy_slice": lambda a, *, out, index: np.copyto(out, cut(a, ((0, len(a)), *index))),
    "concat": lambda *arrays, out, axis: np.concatenate(arrays, axis=axis + 1, out=out),
    "broadcast": lambda a, *, out, shape: np.copyto(out, a),
    "clip": lambda a, *, out, low, high: np.clip(a, low, high, out=out),
    "where": lambda c, a, b, *, out: np.copyto(out, np.where(c != 0, a, b)),
    "take_rows": _take_rows,
    "scatter_add": _scatter_add,
    "csr_matmul": _csr_matmul,
    "csr_transposed_matmul": _csr_transposed_matmul,
    "dropout_mask": _dropout_mask,
}
"""What writes the result of an operation into an array: with an axis of members in front of all."""
