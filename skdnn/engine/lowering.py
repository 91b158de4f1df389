"""Lower a program to a table of numbers, and run it by compiled kernels, without Python's lock.

`interpreter.run_steps` reads the table: all steps of a feed in one call. Instructions on each
element that follow each other become a group: they are run block by block, so that what one writes
the next finds in the cache.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from . import opcodes as op
from .feed import Feed
from .loading import load_run_steps
from .ops import dropout_numbers
from .plan import Instruction, Operand, Program
from .trace import UntraceableError

BLOCK = 2048
"""Numbers of an array that a group computes before it goes on to the next."""

FEW_ROWS = 10
"""Rows of a product, or terms of its sums, for which BLAS is slow."""

SHORTEST_ROW, LONG_ROW = 16, 100
"""Lengths of the innermost loop from which on plain loops are fast: for few rows, and for more."""

SMALL_PRODUCT = 1 << 16
"""Multiplications of a product below which plain loops over long rows are faster than BLAS."""

MAX_DIMS = 3


class NoKernelError(UntraceableError):
    """No kernel does what a program asks for: NumPy has to run it."""


class Table(NamedTuple):
    """A program as rows of numbers, and where its inputs are."""

    rows: np.ndarray
    places: np.ndarray


def lower(program: Program) -> Program:
    """Write a program as a table, and give it memory for blocks behind its own.

    Raises
    ------
    NoKernelError
        If there is no kernel for an instruction.
    """
    parts: list[_Group | list[list[int]]] = []
    for instruction in program.instructions:
        name, last = instruction.op.name, parts[-1] if parts else None
        if instruction.results[0].size == 0:
            continue
        if name in op.ELEMENTWISE or name in ("dropout_mask", "broadcast"):
            if not isinstance(last, _Group) or not last.fits(instruction):
                last = _Group(instruction.results[0].size)
                parts.append(last)
            last.add(instruction)
        elif name in _WRITERS:
            arrays = (*instruction.operands, *instruction.results)
            parts.append(_WRITERS[name](*arrays, **instruction.attributes))
        else:
            raise NoKernelError(f"there is no kernel for {name}")
    scratch, lines = program.size, list[list[int]]()
    for part in parts:
        if isinstance(part, _Group):
            lines += part.rows(scratch)
            program.size = max(program.size, scratch + part.n_scratch)
        else:
            lines += part
    rows = np.zeros((len(lines), op.N_COLUMNS), np.int64)
    for row, line in zip(rows, lines, strict=True):
        row[: len(line)] = line
    names = ("x", "y", "weight", "scalars", "logits")
    places = [program.inputs[n].offset if n in program.inputs else -1 for n in names]
    program.table = Table(rows, np.array(places, np.int64))
    return program


def _overlap(a: Operand, b: Operand) -> bool:
    """Say whether two arrays have numbers in common."""
    are_near = a.offset < b.offset + b.size and b.offset < a.offset + a.size
    return are_near and a.memory == b.memory


def _are_shifted(a: Operand, b: Operand) -> bool:
    """Say whether two arrays have numbers in common, but not block by block."""
    return (a.offset, a.size) != (b.offset, b.size) and _overlap(a, b)


class _Repeat(NamedTuple):
    """How an operand is repeated: not at all (""), or as "scalar", "row", "column" or "any"."""

    kind: str
    n_columns: int = 1


def _find_repeat(operand: Operand, shape: tuple[int, ...]) -> _Repeat:
    """Say how an operand is repeated to have this shape."""
    own = (1,) * (len(shape) - len(operand.shape)) + operand.shape
    if operand.size == math.prod(shape):
        return _Repeat("")
    if operand.size == 1:
        return _Repeat("scalar")
    long_axes = [i for i, n in enumerate(own) if n > 1]
    first, last = long_axes[0], long_axes[-1]
    if own[first : last + 1] == shape[first : last + 1]:
        if math.prod(shape[last + 1 :]) == 1:
            return _Repeat("row", operand.size)
        if math.prod(shape[:first]) == 1:
            return _Repeat("column", math.prod(shape[last + 1 :]))
    return _Repeat("any")


class _Group:
    """Instructions on each element of arrays of one size, which run block by block.

    The first part of scratch memory is for results on their way, the others for repeated operands.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._n_columns = 1  # length of the rows that operands are repeated along
        self._is_whole = False  # whether all is one block
        self._instructions: list[Instruction] = []
        # What is read and written block by block, and columns, which are read row by row.
        self._reads: list[Operand] = []
        self._writes: list[Operand] = []
        self._columns: list[Operand] = []
        self.n_scratch = 0

    def fits(self, instruction: Instruction) -> bool:
        """Say whether block by block an instruction computes the same as after the others."""
        result, lengths = instruction.results[0], {1, self._n_columns}
        for operand in instruction.operands:
            repeat = _find_repeat(operand, result.shape)
            lengths.add(repeat.n_columns)
            is_in_the_way = partial(_overlap if repeat.kind else _are_shifted, operand)
            if any(map(is_in_the_way, self._writes)):
                return False
        return not (
            self.size != result.size
            or len(lengths) > 2
            or any(map(partial(_overlap, result), self._columns))
            or any(map(partial(_are_shifted, result), (*self._reads, *self._writes)))
        )

    def add(self, instruction: Instruction) -> None:
        """Add an instruction that fits."""
        result = instruction.results[0]
        self._instructions.append(instruction)
        self._writes.append(result)
        for operand in instruction.operands:
            repeat = _find_repeat(operand, result.shape)
            self._n_columns = max(self._n_columns, repeat.n_columns)
            self._is_whole |= repeat.kind == "any" or _are_shifted(operand, result)
            if repeat.kind in ("", "column"):
                (self._columns if repeat.kind else self._reads).append(operand)

    def rows(self, scratch: int) -> list[list[int]]:
        """Return the rows of the table: what is done once, and then for each block."""
        size, n = self.size, self._n_columns
        block = size if self._is_whole else min(max(BLOCK // n, 1) * n, size)
        self.n_scratch = block
        first, body, repeated = list[list[int]](), list[list[int]](), dict[Any, int]()
        for instruction in self._instructions:
            name, result = instruction.op.name, instruction.results[0]
            if name == "dropout_mask":
                n_dropped, _ = dropout_numbers(instruction.attributes["rate"])
                bits = instruction.operands[0].offset
                body.append([op.DROPOUT_MASK, result.offset, bits, n_dropped])
                continue
            row = [op.ELEMENTWISE.index("copy" if name == "broadcast" else name), result.offset, -1]
            for operand in instruction.operands:
                repeat, place = _find_repeat(operand, result.shape), operand.offset
                if repeat.kind:
                    key = (operand, result.shape)
                    if key not in repeated:
                        repeated[key] = scratch + self.n_scratch
                        self.n_scratch += block
                        to = body if repeat.kind == "column" else first
                        loop = _write_loop(operand, repeat, result.shape, block)
                        to.append([op.REPEAT, repeated[key], operand.offset, *loop])
                    place = repeated[key]
                row += [place, int(not repeat.kind)]
                if _overlap(operand, result):
                    row[2] = scratch
            body.append(row)
        return [[op.GROUP, len(first), len(body), size, block], *first, *body]


def _write_loop(
    operand: Operand, repeat: _Repeat, shape: tuple[int, ...], block: int
) -> tuple[int, ...]:
    """Return three lengths of a block, and how far an operand moves on along each."""
    n = repeat.n_columns
    if repeat.kind == "any":
        return (*_padded(shape), *_steps(operand.shape))
    if repeat.kind == "scalar":
        return (1, 1, block, 0, 0, 0)
    return (1, block // n, n, 0, *((1, 0) if repeat.kind == "column" else (0, 1)))


# ---- rows of the kernels that work on whole arrays


def _write_matmul(a: Operand, b: Operand, out: Operand) -> list[list[int]]:
    (*batch, m, k), n = a.shape, b.shape[-1]
    n_matrices = math.prod(batch)
    offsets, flags = [a.offset, b.offset], [a.is_transposed, b.is_transposed]
    if n == 1 and m > 1:  # out^T = b^T a^T, whose rows are long
        m, n = 1, m
        offsets, flags = offsets[::-1], [not flag for flag in flags[::-1]]
    if m == 1:
        flags[0] = False
    if k == 1:
        flags = [False, False]
    kernel = op.SMALL_PRODUCT if _suits_loops(m, k, n, flags) else op.DOT
    return [[kernel, *offsets, out.offset, n_matrices, m, k, n, *map(int, flags)]]


def _suits_loops(m: int, k: int, n: int, is_transposed: list[bool]) -> bool:
    """Say whether plain loops are at least about as fast as BLAS; products without terms are 0."""
    length = k if is_transposed[1] else n
    if min(m, k) <= 1:
        return True
    if is_transposed == [True, True]:
        return False
    if min(m, k) <= FEW_ROWS and length >= SHORTEST_ROW:
        return m * k * n <= 4 * SMALL_PRODUCT
    return length >= LONG_ROW and m * k * n <= SMALL_PRODUCT


def _write_sum(a: Operand, out: Operand, axis: int | None, keepdims: bool) -> list[list[int]]:
    if axis is None:
        lengths = [1, a.size, 1]
    else:
        axis %= len(a.shape)
        lengths = [math.prod(a.shape[:axis]), a.shape[axis], math.prod(a.shape[axis + 1 :])]
    return [[op.SUM, a.offset, out.offset, *lengths]]


def _write_transpose(a: Operand, out: Operand) -> list[list[int]]:
    *batch, m, n = a.shape
    return [[op.TRANSPOSE, a.offset, out.offset, math.prod(batch), m, n]]


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) > MAX_DIMS:
        raise NoKernelError(f"an array of shape {shape} has more than {MAX_DIMS} axes")
    return (1,) * (MAX_DIMS - len(shape)) + shape


def _strides(shape: tuple[int, ...]) -> tuple[int, int]:
    _, n_1, n_2 = _padded(shape)
    return n_1 * n_2, n_2


def _write_slice(a: Operand, out: Operand, index: Any) -> list[list[int]]:
    lengths = _padded(out.shape)
    starts = (0,) * (MAX_DIMS - len(index)) + tuple(start for start, _ in index)
    stride_0, stride_1 = _strides(a.shape)
    start = a.offset + starts[0] * stride_0 + starts[1] * stride_1 + starts[2]
    to = [out.offset, *_strides(out.shape)]
    return [[op.COPY_ROWS, start, stride_0, stride_1, *to, *lengths]]


def _write_concat(*arrays: Operand, axis: int) -> list[list[int]]:
    *parts, out = arrays
    rows, at = [], out.offset
    step = math.prod(out.shape[axis + 1 :])
    for part in parts:
        to = [at, *_strides(out.shape)]
        rows.append([op.COPY_ROWS, part.offset, *_strides(part.shape), *to, *_padded(part.shape)])
        at += part.shape[axis] * step
    return [row for row, part in zip(rows, parts, strict=True) if part.size]


def _steps(shape: tuple[int, ...]) -> list[int]:
    """Return by how many numbers each axis moves on, 0 for those of length 1."""
    return [
        step if n > 1 else 0 for step, n in zip((*_strides(shape), 1), _padded(shape), strict=True)
    ]


def _write_take_rows(table: Operand, codes: Operand, out: Operand) -> list[list[int]]:
    lengths = [codes.size, *table.shape]
    return [[op.TAKE_ROWS, codes.offset, table.offset, out.offset, *lengths]]


def _write_scatter_add(codes: Operand, rows: Operand, out: Operand, n_rows: int) -> list[list[int]]:
    lengths = [codes.size, n_rows, rows.shape[1]]
    return [[op.SCATTER_ADD, codes.offset, out.offset, rows.offset, *lengths]]


def _write_csr(kernel: int, x: Operand, by_sample: Operand, by_feature: Operand) -> list[list[int]]:
    return [[kernel, by_sample.offset, by_feature.offset, *by_sample.shape, x.shape[1]]]


def _write_embedding(kernel: int, *operands: Operand) -> list[list[int]]:
    x, w, _, first, second = operands
    if first.size == 0:
        raise NoKernelError("an embedding of which only the slope is wanted")
    offsets = [operand.offset for operand in operands]
    return [[kernel, *offsets, *w.shape, x.shape[1], int(second.size > 0)]]


def _write_grad_lines(*operands: Operand) -> list[list[int]]:
    grads, _, x, _, _ = operands
    return [[op.GRAD_LINES, *(o.offset for o in operands), *grads.shape[:2], x.shape[1]]]


def _write_adam_direction(*operands: Operand) -> list[list[int]]:
    """The kernel works on the new moments; where these have another place, they are copied."""
    grads, m, v, *scalars, out, new_m, new_v = operands
    rows = [
        [op.COPY_ROWS, old.offset, 0, 0, new.offset, 0, 0, 1, 1, grads.size]
        for old, new in ((m, new_m), (v, new_v))
        if old.offset != new.offset
    ]
    offsets = [x.offset for x in (grads, new_m, new_v, out, *scalars)]
    return [*rows, [op.ADAM_DIRECTION, *offsets, grads.size]]


_WRITERS: dict[str, Any] = {
    "matmul": _write_matmul,
    "sum": _write_sum,
    "transpose": _write_transpose,
    "copy_slice": _write_slice,
    "concat": _write_concat,
    "take_rows": _write_take_rows,
    "scatter_add": _write_scatter_add,
    "csr_matmul": lambda x, w, out: _write_csr(op.CSR_MATMUL, x, out, w),
    "csr_transposed_matmul": lambda x, g, out: _write_csr(op.CSR_TRANSPOSED_MATMUL, x, g, out),
    "cos_and_sin_turns": partial(_write_embedding, op.COS_AND_SIN_TURNS),
    "grad_lines": _write_grad_lines,
    "adam_direction": _write_adam_direction,
    "piecewise_linear": partial(_write_embedding, op.PIECEWISE_LINEAR),
}


# ---- running


class NumbaExecutable:
    """A program bound to an arena: one call of compiled code a member for all steps of a feed.

    Members run one after the other, so that what one computes stays in the cache.

    Parameters
    ----------
    program : Program
        By `lower`.
    arena : ndarray of shape (n_members, n)
        With at least the program's size in each row.

    Attributes
    ----------
    views : dict of str to ndarray
        The inputs and outputs by name, each with an axis of members in front.

    Raises
    ------
    RuntimeError
        If numba cannot be used.
    """

    def __init__(self, program: Program, arena: np.ndarray) -> None:
        run_steps = load_run_steps(arena.dtype)
        if run_steps is None:
            raise RuntimeError(f"numba cannot be used for {arena.dtype}.")
        self._arena, self._run_steps = arena, run_steps
        self._table: Table = program.table
        self.views = {
            name: arena[:, x.offset : x.offset + x.size].reshape(len(arena), *x.shape)
            for name, x in program.inputs.items()
            if x.memory == "floats"
        }
        self._constants = [
            (arena[:, x.offset : x.offset + x.size], values.ravel().astype(arena.dtype))
            for x, values in program.constants
        ]

    def write_constants(self) -> None:
        """Write the constants of the program into its memory."""
        for view, values in self._constants:
            view[...] = values

    def run(self, feed: Feed) -> None:
        """Run the program once for each step of the feed."""
        dtype, n_rows = self._arena.dtype, feed.X.shape[0]
        index = np.ascontiguousarray(feed.index, np.int64)
        if index.size and not 0 <= index.min() <= index.max() < n_rows:
            raise IndexError(f"rows of batches must be from 0 to {n_rows - 1}.")
        X, csr = _prepare_rows(feed.X, dtype)
        n_members, n_steps, _ = index.shape
        y = _prepare(feed.y, (0,), dtype)
        by_member = (
            _prepare(feed.weight, (n_members, 0), dtype),
            _prepare(feed.scalars, (n_members, n_steps, 0), dtype),
            _prepare(feed.bits, (n_members, n_steps, 0), np.uint16),
            _prepare(feed.logits, (n_members, n_steps, 0), dtype),
        )
        if any(len(values) not in (0, n_rows) for values in (y, by_member[0].T)):
            raise ValueError(f"y and weights must be of {n_rows} rows.")
        rows, places = self._table.rows, self._table.places
        for arena, its_index, *arrays in zip(self._arena, index, *by_member, strict=True):
            weight, scalars, bits, logits = arrays
            its = (its_index, y, weight, scalars, bits, logits)
            self._run_steps(rows, places, arena, X, *its, *csr)
        if feed.logits is not None and by_member[-1] is not feed.logits:
            feed.logits[...] = by_member[-1]


def _prepare(array: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array as `run_steps` takes it; an empty one of this shape for None."""
    return np.zeros(shape, dtype) if array is None else np.ascontiguousarray(array, dtype)


def _prepare_rows(X: Any, dtype: np.dtype) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return X, and the arrays of a sparse one; those that it has not are empty."""
    is_sparse = sparse.issparse(X)
    parts = (X.data, X.indices, X.indptr) if is_sparse else (None, None, None)
    dtypes = (dtype, np.int32, np.int64)
    csr = tuple(_prepare(part, (0,), own) for part, own in zip(parts, dtypes, strict=True))
    return _prepare(None if is_sparse else X, (0, 0), dtype), csr
