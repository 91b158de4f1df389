"""The executors: what runs a program, or a formula that is none, in the memory of a thread.

NumPy's is the reference, which everybody has. It runs several members side by side: all arrays have
an axis of members in front, and one call of NumPy does an instruction for all of them. For small
batches that saves most of the time of the calls. numba's runs the table of a program, without
Python's lock, one member after the other, so that what one computes stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from scipy import sparse

from .formula import Formula
from .loading import load_run_steps
from .ops import N_BITS, SparseRows, cut, to_index
from .plan import Instruction, Operand, Program


@dataclass
class Feed:
    """The inputs of some members for some steps.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), or CSR array
        Of the dtype of the arena; C-contiguous.
    index : ndarray of intp of shape (n_members, n_steps, batch_size)
        The rows of each batch.
    y : ndarray of shape (n_samples,), or None
    weight : ndarray of shape (n_members, n_samples), or None
        For programs that have inputs of these names.
    scalars : ndarray of shape (n_members, n_steps, n_scalars), or None
        Numbers that depend on the step, such as the learning rate.
    bits : ndarray of uint16 of shape (n_members, n_steps, n_bits), or None
        Random bits.
    logits : ndarray of shape (n_members, n_steps, batch_size), or None
        Where the logits of each step go.
    """

    X: Any
    index: np.ndarray
    y: np.ndarray | None = None
    weight: np.ndarray | None = None
    scalars: np.ndarray | None = None
    bits: np.ndarray | None = None
    logits: np.ndarray | None = None


class Memory:
    """Memory of one thread, which the programs that it runs use in turn.

    Parameters
    ----------
    dtype : dtype

    Attributes
    ----------
    n_bytes : int
    """

    def __init__(self, dtype: np.typing.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.n_bytes = 0
        self._flat = np.zeros(0, dtype)
        self._bound: dict[tuple[int, int], tuple[Program | Formula, Executable]] = {}
        self._last: tuple[int, int] | None = None

    def executable(self, compiled: Program | Formula, n_members: int = 1) -> Executable:
        """Return what runs a program, or a formula at once, with its constants in place.

        It is bound to this memory before or now; what others have left there is overwritten.
        """
        key = (id(compiled), n_members)
        if key not in self._bound:
            self._bound[key] = compiled, self._bind(compiled, n_members)
        executable = self._bound[key][1]
        if self._last != key:
            for view, values in executable.constants:
                view[...] = values
            self._last = key
        return executable

    def _bind(self, compiled: Program | Formula, n_members: int) -> Executable:
        if isinstance(compiled, Formula):
            return EagerExecutable(compiled, n_members, self.dtype)
        size = n_members * compiled.size
        if len(self._flat) < size:
            self._bound.clear()
            self._last = None
            self._flat = np.zeros(size, self.dtype)
            self.n_bytes = self._flat.nbytes
        bind = NumpyExecutable if compiled.table is None else NumbaExecutable
        return bind(compiled, self._flat[:size].reshape(n_members, compiled.size))


class Executable:
    """A formula that is ready to run.

    Attributes
    ----------
    views : dict of str to ndarray
        The inputs and outputs by name, each with an axis of members in front.
    constants : list of (ndarray, ndarray)
        Views of constants, and what is to be written into them.
    bits : ndarray of uint16 of shape (n_members, n_bits)
        The random bits of a step that is taken in Python.
    sparse : list of SparseRows
        The batch of each member in such a step, where X is sparse.
    """

    views: dict[str, np.ndarray]
    constants: list[tuple[np.ndarray, Any]]
    bits: np.ndarray
    sparse: list[SparseRows]

    def take_step(self) -> None:
        """Compute the outputs of all members."""
        raise NotImplementedError

    def run(self, feed: Feed) -> None:
        """Take a step for each row of ``feed.index``."""
        members = np.arange(len(feed.index))[:, np.newaxis]
        for step in range(feed.index.shape[1]):
            index = feed.index[:, step]
            if isinstance(feed.X, np.ndarray):
                # mode="clip" writes straight into `out`; the default would go through a copy.
                feed.X.take(index, axis=0, out=self.views["x"], mode="clip")
            else:
                self.sparse[:] = [SparseRows(feed.X[own]) for own in index]
            if feed.y is not None:
                self.views["y"][...] = feed.y[index]
            if feed.weight is not None:
                self.views["weight"][...] = feed.weight[members, index]
            if feed.scalars is not None:
                self.views["scalars"][...] = feed.scalars[:, step]
            if feed.bits is not None:
                self.bits[...] = feed.bits[:, step]
            self.take_step()
            if feed.logits is not None:
                feed.logits[:, step] = self.views["logits"]


class EagerExecutable(Executable):
    """A formula that runs at once, member by member: for functions that cannot be traced.

    Parameters
    ----------
    formula : Formula
    n_members : int
    dtype : dtype
    """

    def __init__(self, formula: Formula, n_members: int, dtype: np.typing.DTypeLike) -> None:
        self._formula, self.sparse, self.constants = formula, [], []
        self.bits = np.zeros((n_members, formula.n_bits), np.uint16)
        self.views = {
            name: np.zeros((n_members, *shape), dtype) for name, shape in formula.shapes.items()
        }

    def take_step(self) -> None:
        """Run the formula once for each member."""
        for member, bits in enumerate(self.bits):
            arrays: dict[str, Any] = {name: view[member] for name, view in self.views.items()}
            for array in arrays.values():
                array.flags.writeable = False  # a formula that writes is told so
            if self.sparse:
                arrays["x"] = self.sparse[member]
            for name, values in self._formula.call(arrays, partial(_take, bits)).items():
                self.views[name][member] = values


def _take(bits: np.ndarray, start: int, size: int) -> np.ndarray:
    return bits[start : start + size]


# ---- by NumPy


class NumpyExecutable(Executable):
    """A program bound to an arena, to run with NumPy.

    Parameters
    ----------
    program : Program
    arena : ndarray of shape (n_members, n)
        With at least the program's size in each row.
    """

    def __init__(self, program: Program, arena: np.ndarray) -> None:
        self._flat, self._n_members = arena.reshape(-1), len(arena)
        self.bits = np.zeros((len(arena), program.n_bits), np.uint16)
        self.sparse = []
        self.views = {name: self._view(x) for name, x in program.inputs.items()}
        self.constants = [(self._view(x), values) for x, values in program.constants]
        self._calls = [self._make_call(instruction) for instruction in program.instructions]

    def _view(self, x: Operand) -> Any:
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
        first = instruction.operands[0]
        if first.memory == "sparse":
            w = self._view(instruction.operands[1])
            return partial(_multiply_rows, self.sparse, first.is_transposed, w, out)
        operands = [self._view(x) for x in instruction.operands]
        if op.is_elementwise or op.name == "broadcast":
            operands = [_align(x, out.ndim) for x in operands]
        write = op.ufunc or WRITE[op.name]
        return partial(write, *operands, out=out, **instruction.attributes)

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


def _multiply_rows(x: list[SparseRows], is_transposed: bool, w: Any, out: np.ndarray) -> None:
    for member, rows in enumerate(x):
        out[member] = (rows.mT if is_transposed else rows) @ w[member]


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
    "dropout_mask": _dropout_mask,
}
"""What writes the result of an operation into an array: with an axis of members in front of all."""


# ---- by numba


class NumbaExecutable(Executable):
    """A program bound to an arena, to run compiled: one call a member for all steps of a feed.

    Parameters
    ----------
    program : Program
        By `lowering.lower`.
    arena : ndarray of shape (n_members, n)
        With at least the program's size in each row.

    Raises
    ------
    RuntimeError
        If numba cannot be used.
    """

    def __init__(self, program: Program, arena: np.ndarray) -> None:
        run_steps = load_run_steps(arena.dtype)
        if run_steps is None:
            raise RuntimeError(f"numba cannot be used for {arena.dtype}.")
        self._arena, self._run_steps, self._table = arena, run_steps, program.table
        self.views = {name: self._view(x) for name, x in program.inputs.items()}
        self.constants = [(self._view(x), values) for x, values in program.constants]

    def _view(self, x: Operand) -> np.ndarray:
        return self._arena[:, x.offset : x.offset + x.size].reshape(len(self._arena), *x.shape)

    def run(self, feed: Feed) -> None:
        """Run the program once for each step of the feed."""
        dtype, n_rows = self._arena.dtype, feed.X.shape[0]
        index = np.ascontiguousarray(feed.index, np.int64)
        n_members, n_steps, _ = index.shape
        if index.size and not 0 <= index.min() <= index.max() < n_rows:
            raise IndexError(f"rows of batches must be from 0 to {n_rows - 1}.")
        X = data = indices = indptr = None
        if sparse.issparse(feed.X):
            data, indices, indptr = feed.X.data, feed.X.indices, feed.X.indptr
        else:
            X = feed.X
        of_table = _prepare(X, (0, 0), dtype), _prepare(feed.y, (0,), dtype)
        of_entries = _prepare(data, (0,), dtype), _prepare(indices, (0,), np.int32)
        indptr = _prepare(indptr, (0,), np.int64)
        weight = _prepare(feed.weight, (n_members, 0), dtype)
        scalars = _prepare(feed.scalars, (n_members, n_steps, 0), dtype)
        bits = _prepare(feed.bits, (n_members, n_steps, 0), np.uint16)
        logits = _prepare(feed.logits, (n_members, n_steps, 0), dtype)
        if not {len(of_table[1]), weight.shape[1]} <= {0, n_rows}:
            raise ValueError(f"y and weights must be of {n_rows} rows.")
        for i, arena in enumerate(self._arena):
            own = index[i], weight[i], scalars[i], bits[i], logits[i]
            self._run_steps(*self._table, arena, *of_table, *own, *of_entries, indptr)
        if feed.logits is not None and logits is not feed.logits:
            feed.logits[...] = logits


def _prepare(array: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array as `run_steps` takes it; an empty one of this shape for None."""
    return np.zeros(shape, dtype) if array is None else np.ascontiguousarray(array, dtype)
