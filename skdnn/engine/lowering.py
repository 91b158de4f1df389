"""Lower a program to a table of numbers, and run it by compiled kernels, without Python's lock.

A row of the table is the number of a kernel, and what it works on: mostly boxes, which are the
offset of an array in the arena and three lengths. `interpreter.run_steps` reads the table: all
steps of a feed in one call. Instructions on each element that follow each other become a group,
which is run block by block, so that what one writes the next finds in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from .feed import Feed
from .loading import load_run_steps
from .opcodes import N_COLUMNS, Kernel
from .ops import Shape
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

Row = list[int]


class NoKernelError(UntraceableError):
    """No kernel does what a program asks for: NumPy has to run it."""


class Table(NamedTuple):
    """A program as rows of numbers, and where its inputs are."""

    rows: np.ndarray
    places: np.ndarray


def lower(program: Program) -> Program:
    """Write a program as a table, and give it memory for groups behind its own.

    Raises
    ------
    NoKernelError
        If there is no kernel for an instruction.
    """
    groups: list[list[Instruction]] = []  # of one instruction, unless it is of each element
    for instruction in program.instructions:
        if groups and _fits(groups[-1], instruction):
            groups[-1].append(instruction)
        elif instruction.results[0].size:
            groups.append([instruction])
    scratch, lines = program.size, list[Row]()
    for group in groups:
        if _is_elementwise(group[0]):
            rows, end = _write_group(group, scratch)
            program.size = max(program.size, end)
        else:
            rows = _write(group[0])
        lines += rows
    table = np.zeros((len(lines), N_COLUMNS), np.int64)
    for row, line in zip(table, lines, strict=True):
        row[: len(line)] = line
    names = ("x", "y", "weight", "scalars", "logits")
    places = [program.inputs[n].offset if n in program.inputs else -1 for n in names]
    program.table = Table(table, np.array(places, np.int64))
    return program


# ---- groups


def _is_elementwise(instruction: Instruction) -> bool:
    name = instruction.op.name
    return name == "broadcast" or (name in Kernel.__members__ and Kernel[name] < Kernel.group)


def _are_shifted(a: Operand, b: Operand) -> bool:
    """Say whether two arrays have numbers in common, but not block by block."""
    are_near = a.offset < b.offset + b.size and b.offset < a.offset + a.size
    return are_near and a.memory == b.memory and (a.offset, a.size) != (b.offset, b.size)


def _fits(group: list[Instruction], new: Instruction) -> bool:
    """Say whether block by block an instruction computes the same as after the others."""
    result = new.results[0]
    for old in group:
        written = old.results[0]
        if result.size != written.size or _are_shifted(result, written):
            return False
        for x in old.operands:
            if _are_shifted(result, x):
                return False
        for x in new.operands:
            if _are_shifted(x, written):
                return False
    return _is_elementwise(group[0]) and _is_elementwise(new)


def _write_group(group: list[Instruction], scratch: int) -> tuple[list[Row], int]:
    """Return the rows of a group, and the end of the memory that it takes from `scratch` on.

    First, operands that are to be repeated are copied as often as a block needs it, or all do;
    likewise those that would be written over before they are read. Then blocks are computed in
    memory of their own, where the result would lie on an operand: loops are slow there.
    """
    size = group[0].results[0].size
    periods = [_find_period(x, new.results[0].shape) for new in group for x in new.operands]
    period = max([1, *(n for n in periods if n < size)])
    block = min(max(BLOCK // period, 1) * period, size)
    end, copies = scratch + block, dict[Any, tuple[int, int]]()
    before, body = list[Row](), list[Row]()
    for instruction in group:
        name, result = instruction.op.name, instruction.results[0]
        kernel = Kernel["copy" if name == "broadcast" else name]
        row = [int(kernel), result.offset, -1]
        for x in instruction.operands:
            place = x.offset, 1  # and how far to move on for each number
            if x.size < size or _are_shifted(x, result):
                if (x, result.shape) not in copies:
                    n = block if block % _find_period(x, result.shape) == 0 else size
                    copies[x, result.shape] = end, int(n == size)
                    before.append(_write_repeat(x, result.shape, end, n))
                    end += n
                place = copies[x, result.shape]
            elif (x.memory, x.offset) == ("floats", result.offset):
                row[2] = scratch
            row += place
        body.append([*row, *instruction.attributes.values()] if name == "dropout_mask" else row)
    return [*before, [Kernel.group, len(body), size, block], *body], end


def _find_period(x: Operand, shape: Shape) -> int:
    """Return after how many numbers an operand is repeated, if it is to have this shape."""
    own = x.shape
    while own[:1] == (1,):
        own = own[1:]
    return x.size if own == shape[len(shape) - len(own) :] else math.prod(shape)


def _write_repeat(x: Operand, shape: Shape, to: int, n: int) -> Row:
    """Return a row that writes the first n numbers of an operand in a shape.

    Last is how far to move on along each of the three axes.
    """
    period = _find_period(x, shape)
    if period == 1:
        shape, steps = (n,), [0, 0, 0]
    elif period < math.prod(shape):
        shape, steps = (n // period, period), [0, 0, 1]
    else:
        _, n_0, n_1, n_2 = _box(0, x.shape)
        steps = [n_1 * n_2 * (n_0 > 1), n_2 * (n_1 > 1), int(n_2 > 1)]
    return [Kernel.repeat, *_box(x.offset, (x.size,)), *_box(to, shape), *steps]


# ---- kernels that work on whole arrays


def _box(offset: int, shape: Shape) -> Row:
    if len(shape) > 3:
        raise NoKernelError(f"an array of shape {shape} has more than 3 axes")
    return [offset, *(1,) * (3 - len(shape)), *shape]


def _write(instruction: Instruction) -> list[Row]:
    """Return the rows of an instruction on whole arrays."""
    name, arrays = instruction.op.name, (*instruction.operands, *instruction.results)
    if name in WRITE:
        return WRITE[name](*arrays, **instruction.attributes)
    if name not in Kernel.__members__:
        raise NoKernelError(f"there is no kernel for {name}")
    row = [int(Kernel[name])]
    for x in arrays:
        row += _box(x.offset, x.shape) if x.memory == "floats" else []
    return [row]


def _write_matmul(a: Operand, b: Operand, out: Operand) -> list[Row]:
    (*batch, m, k), n = a.shape, b.shape[-1]
    offsets, flags = [a.offset, b.offset], [a.is_transposed, b.is_transposed]
    if n == 1 and m > 1:  # out^T = b^T a^T, whose rows are long
        m, n = 1, m
        offsets, flags = offsets[::-1], [not flags[1], not flags[0]]
    if m == 1:
        flags[0] = False
    if k == 1:
        flags = [False, False]
    kernel = Kernel.product if _suits_loops(m, k, n, flags) else Kernel.dot
    of_a, of_b = (k, m) if flags[0] else (m, k), (n, k) if flags[1] else (k, n)
    count = math.prod(batch)
    boxes = _box(offsets[0], (count, *of_a)) + _box(offsets[1], (count, *of_b))
    return [[kernel, *boxes, *_box(out.offset, (count, m, n)), *flags]]


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


def _write_sum(a: Operand, out: Operand, axis: int | None, keepdims: bool) -> list[Row]:
    shape, axis = ((a.size,), 0) if axis is None else (a.shape, axis)
    first, last = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    boxes = _box(a.offset, (first, shape[axis], last)) + _box(out.offset, (first, 1, last))
    return [[Kernel.sum, *boxes]]


def _write_copy(a: Operand, out: Operand, shape: Shape, start: Shape, to: Shape) -> Row:
    """Return a row that copies a part of an array, of some shape, from one place to another."""
    boxes, padding = _box(a.offset, a.shape) + _box(out.offset, out.shape), (0,) * (3 - len(shape))
    return [Kernel.copy_box, *boxes, *padding, *start, *padding, *to, *_box(0, shape)[1:]]


def _write_slice(a: Operand, out: Operand, index: Any) -> list[Row]:
    start, _ = zip(*index, strict=True)
    return [_write_copy(a, out, out.shape, start, (0,) * len(start))]


def _write_concat(*arrays: Operand, axis: int) -> list[Row]:
    *parts, out = arrays
    rows, to = list[Row](), [0] * len(out.shape)
    for part in parts:
        rows.append(_write_copy(part, out, part.shape, (0,) * len(to), tuple(to)))
        to[axis] += part.shape[axis]
    return rows


def _write_adam(*arrays: Operand) -> list[Row]:
    """The kernel works on the new moments; where these have another place, they are copied."""
    grads, m, v, *scalars, out, new_m, new_v = arrays
    rows, row = list[Row](), [int(Kernel.adam_direction)]
    for old, new in ((m, new_m), (v, new_v)):
        if old.offset != new.offset:
            rows.append(_write_copy(old, new, old.shape, (0,), (0,)))
    for x in (grads, new_m, new_v, out, *scalars):
        row += _box(x.offset, x.shape)
    return [*rows, row]


WRITE: dict[str, Callable[..., list[Row]]] = {
    "matmul": _write_matmul,
    "sum": _write_sum,
    "copy_slice": _write_slice,
    "concat": _write_concat,
    "adam_direction": _write_adam,
}
"""What writes the rows of an operation, unless its kernel takes the operands as they are."""


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
    constants : list of (ndarray, ndarray)
        Views of constants, and what is to be written into them.

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
