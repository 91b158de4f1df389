"""Lower a program to a table of numbers, which `interpreter.run_steps` reads.

Instructions on each element that follow each other become a group: they are run block by block, so
that what one writes the next finds in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from . import opcodes as op
from .ops import dropout_numbers
from .plan import Instruction, Operand, Program
from .trace import UntraceableError

BLOCK = 2048
"""Numbers of an array that a group computes before it goes on to the next."""

FEW_ROWS = 10
"""Rows of a product for which BLAS is slow."""

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


def lower(program: Program) -> Table:
    """Write a program as a table, and give it memory for blocks behind its own.

    Raises
    ------
    NoKernelError
        If there is no kernel for an instruction.
    """
    lowering = _Lowering(program.size)
    for instruction in program.instructions:
        lowering.add(instruction)
    lowering.close_group()
    program.size += lowering.n_scratch
    names = ("x", "y", "weight", "scalars", "logits")
    places = [program.inputs[n].offset if n in program.inputs else -1 for n in names]
    rows = np.zeros((len(lowering.rows), op.N_COLUMNS), np.int64)
    for i, row in enumerate(lowering.rows):
        rows[i, : len(row)] = row
    return Table(rows, np.array(places, np.int64))


class _Range(NamedTuple):
    start: int
    stop: int

    def overlaps(self, other: _Range) -> bool:
        return self.start < other.stop and other.start < self.stop

    def is_apart(self, other: _Range) -> bool:
        """Say whether both have numbers in common, but not block by block."""
        return self != other and self.overlaps(other)


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


class _Slot(NamedTuple):
    """Memory for a block, behind the memory of the program."""

    number: int


@dataclass
class _Group:
    """Instructions on each element of arrays of one size, which run block by block.

    Attributes
    ----------
    size : int
    n_columns : int
        Length of the rows that operands are repeated along, or 1 if none is.
    is_whole : bool
        Whether all is one block.
    first, body : list of list
        Rows of the table: what is done once, and what is done for each block.
    slots : dict
        Where repeated operands are. Slot 0 is for results on their way.
    reads, writes, columns : list of _Range
        What is read and written block by block, and columns, which are read row by row.
    """

    size: int
    n_columns: int = 1
    is_whole: bool = False
    first: list[list[Any]] = field(default_factory=list)
    body: list[list[Any]] = field(default_factory=list)
    n_slots: int = 1
    slots: dict[Any, _Slot] = field(default_factory=dict)
    reads: list[_Range] = field(default_factory=list)
    writes: list[_Range] = field(default_factory=list)
    columns: list[_Range] = field(default_factory=list)

    @property
    def n_block(self) -> int:
        """The length of a block: whole rows."""
        if self.is_whole:
            return self.size
        return min(max(BLOCK // self.n_columns, 1) * self.n_columns, self.size)

    def fits(self, instruction: Instruction) -> bool:
        """Say whether block by block an instruction computes the same as after the others."""
        result = instruction.results[0]
        repeats = [_find_repeat(x, result.shape) for x in instruction.operands]
        lengths = {r.n_columns for r in repeats if r.kind in ("row", "column")}
        if self.size != result.size or len({*lengths, self.n_columns} - {1}) > 1:
            return False
        written = _range(result)
        reads: dict[bool, list[_Range]] = {True: [], False: []}
        for operand, repeat in zip(instruction.operands, repeats, strict=True):
            if operand.memory == "floats":
                reads[repeat.kind != ""].append(_range(operand))
        return not (
            any(read.overlaps(w) for read in reads[True] for w in self.writes)
            or any(written.overlaps(column) for column in self.columns)
            or any(written.is_apart(r) for r in (*self.reads, *self.writes))
            or any(read.is_apart(w) for read in reads[False] for w in self.writes)
        )

    def add(self, instruction: Instruction) -> None:
        """Write the rows of an instruction."""
        result, name = instruction.results[0], instruction.op.name
        written = _range(result)
        self.writes.append(written)
        if name == "dropout_mask":
            n_dropped, _ = dropout_numbers(instruction.attributes["rate"])
            bits = instruction.operands[0].offset
            self.body.append([op.DROPOUT_MASK, result.offset, bits, n_dropped])
            return
        places: list[Any] = []
        on_the_way: Any = -1
        for operand in instruction.operands:
            repeat, read = _find_repeat(operand, result.shape), _range(operand)
            if repeat.kind:
                places += [self._repeat(operand, repeat, result.shape), 0]
            else:
                places += [operand.offset, 1]
                self.reads.append(read)
            if read.overlaps(written):
                on_the_way = _Slot(0)
                self.is_whole |= read != written
        kernel = op.ELEMENTWISE.index("copy" if name == "broadcast" else name)
        self.body.append([kernel, result.offset, on_the_way, *places])

    def _repeat(self, operand: Operand, repeat: _Repeat, shape: tuple[int, ...]) -> _Slot:
        """Return where a repeated operand will be."""
        self.n_columns = max(self.n_columns, repeat.n_columns)
        key = (operand.offset, operand.shape, repeat, shape)
        if key in self.slots and repeat.kind != "column":
            return self.slots[key]
        slot = self.slots[key] = _Slot(self.n_slots)
        self.n_slots += 1
        start, n = operand.offset, repeat.n_columns
        if repeat.kind == "column":
            self.columns.append(_range(operand))
            self.body.append([op.REPEAT_ELEMENTS, slot, start, n])
        elif repeat.kind == "scalar":
            self.first.append([op.REPEAT_ELEMENTS, slot, start, n])
        elif repeat.kind == "row":
            self.first.append([op.REPEAT_ROW, slot, start, n])
        else:
            self.is_whole = True
            lengths = [operand.size, *_padded(shape), *_steps(operand.shape)]
            self.first.append([op.REPEAT_ANY, slot, start, *lengths])
        return slot


class _Lowering:
    """The rows of a table so far, and the group that is being written."""

    def __init__(self, size: int) -> None:
        self.rows: list[list[int]] = []
        self._size, self.n_scratch = size, 0
        self._group: _Group | None = None

    def add(self, instruction: Instruction) -> None:
        """Write the rows of an instruction."""
        name, result = instruction.op.name, instruction.results[0]
        if result.size == 0:
            return
        if name in op.ELEMENTWISE or name in ("dropout_mask", "broadcast"):
            if self._group is None or not self._group.fits(instruction):
                self.close_group()
                self._group = _Group(result.size)
            self._group.add(instruction)
            return
        write = _WRITERS.get(name)
        if write is None:
            raise NoKernelError(f"there is no kernel for {name}")
        self.close_group()
        self.rows += write(*instruction.operands, *instruction.results, **instruction.attributes)

    def close_group(self) -> None:
        """Write the rows of a group, now that the length of a block is known."""
        group, self._group = self._group, None
        if group is None:
            return
        block = group.n_block
        self.n_scratch = max(self.n_scratch, group.n_slots * block)
        self.rows.append([op.GROUP, len(group.first), len(group.body), group.size, block])
        for row in (*group.first, *group.body):
            self.rows.append(
                [self._size + x.number * block if isinstance(x, _Slot) else x for x in row]
            )


def _range(x: Operand) -> _Range:
    return _Range(x.offset, x.offset + x.size)


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
    if m <= FEW_ROWS and length >= SHORTEST_ROW:
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
    return [[op.SCATTER_ADD, codes.offset, rows.offset, out.offset, *lengths]]


def _write_csr_matmul(x: Operand, w: Operand, out: Operand) -> list[list[int]]:
    return [[op.CSR_MATMUL, w.offset, out.offset, *out.shape, x.shape[1]]]


def _write_csr_transposed_matmul(x: Operand, grad: Operand, out: Operand) -> list[list[int]]:
    return [[op.CSR_TRANSPOSED_MATMUL, grad.offset, out.offset, *grad.shape, x.shape[1]]]


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
    "csr_matmul": _write_csr_matmul,
    "csr_transposed_matmul": _write_csr_transposed_matmul,
    "cos_and_sin_turns": lambda *x: _write_embedding(op.COS_AND_SIN_TURNS, *x),
    "grad_lines": _write_grad_lines,
    "adam_direction": _write_adam_direction,
    "piecewise_linear": lambda *x: _write_embedding(op.PIECEWISE_LINEAR, *x),
}
