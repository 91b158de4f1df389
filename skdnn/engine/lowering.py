"""Lower a program to a table of numbers, which `interpreter.run_steps` reads.

A row of the table is the number of a kernel, and what it works on: mostly boxes, which are the
offset of an array in the arena and three lengths. Instructions on each element are computed block
by block, so that operands that are repeated, as the biases of a layer, need be copied for one
block only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .ops import Shape
from .plan import Instruction, Operand, Program
from .trace import UntraceableError

Kernel = IntEnum(
    "Kernel",
    # Of each element by itself: of one operand, of two, and of more.
    "copy negative absolute sign square sqrt exp expm1 log log1p tanh sin cos erf sigmoid "
    "add subtract multiply divide power maximum minimum "
    "greater greater_equal less less_equal equal not_equal silu_slope "
    "where lerp add_scaled dropout_mask "
    # Of whole arrays.
    "copy_box transpose sum dot product take_rows scatter_add csr_matmul csr_transposed_matmul "
    "cos_and_sin_turns piecewise_linear grad_lines adam_direction",
    start=0,
)
"""The kernels by number. Each has the name of the operation that it computes, if there is one."""

N_COLUMNS = 33
"""Numbers in a row of the table: for eight operands, an offset and three lengths each."""

BLOCK = 2048
"""Numbers of an array that an instruction on each element computes at once."""

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
    """Write a program as a table, and give it memory for blocks behind its own.

    Raises
    ------
    NoKernelError
        If there is no kernel for an instruction.
    """
    scratch, lines = program.size, list[Row]()
    for instruction in program.instructions:
        name = instruction.op.name
        if not instruction.results[0].size:
            continue
        if name in Kernel.__members__ and Kernel[name] <= Kernel.dropout_mask:
            rows, end = _write_elementwise(instruction, scratch)
            program.size = max(program.size, end)
        else:
            arrays = *instruction.operands, *instruction.results
            write = WRITE.get(name) or partial(_write_boxes, name)
            rows = write(*arrays, **instruction.attributes)
        lines += rows
    table = np.zeros((len(lines), N_COLUMNS), np.int64)
    for row, line in zip(table, lines, strict=True):
        row[: len(line)] = line
    names = ("x", "y", "weight", "scalars", "logits")
    places = [program.inputs[n].offset if n in program.inputs else -1 for n in names]
    program.table = Table(table, np.array(places, np.int64))
    return program


def _write_elementwise(instruction: Instruction, scratch: int) -> tuple[list[Row], int]:
    """Return the rows of an instruction on each element, and the end of its `scratch` memory.

    There, operands that are to be repeated are copied as often as a block needs it, and blocks are
    computed whose result is to lie on an operand: loops are slow where both are the same.
    """
    result = instruction.results[0]
    inner = {x: _inner_shape(x, result) for x in instruction.operands if x.size < result.size}
    period = max([1, *map(math.prod, inner.values())])
    block = min(max(BLOCK // period, 1) * period, result.size)
    rows, end, place = list[Row](), scratch + block, -1
    operands = list[int]()
    for x in instruction.operands:
        if x in inner:
            shape = inner[x]
            own = x.shape[len(x.shape) - len(shape) :]
            if shape != result.shape:
                shape = block // math.prod(shape), *shape
            rows.append(_write_copy(x.offset, own, end, shape, shape))
            operands += end, 0  # where it begins, and how far to move on for each number
            end += block
        else:
            operands += x.offset, 1
            place = scratch if (x.memory, x.offset) == ("floats", result.offset) else place
    kernel = Kernel[instruction.op.name]
    row = [kernel, result.size, block, result.offset, place, *operands]
    return [*rows, [*row, *instruction.attributes.values()]], end


def _inner_shape(x: Operand, result: Operand) -> Shape:
    """Return the last axes of a result, without those in front along which `x` is repeated."""
    own = (1,) * (len(result.shape) - len(x.shape)) + x.shape
    lead = next((i for i, n in enumerate(own) if n > 1), len(own))
    return result.shape[lead:]


# ---- kernels that work on whole arrays


def _pad(shape: Shape) -> Shape:
    if len(shape) > 3:
        raise NoKernelError(f"an array of shape {shape} has more than 3 axes")
    return (1,) * (3 - len(shape)) + shape


def _steps(shape: Shape) -> Row:
    """Return how far apart numbers are along three axes; 0 where there is only one."""
    n_0, n_1, n_2 = _pad(shape)
    return [n_1 * n_2 * (n_0 > 1), n_2 * (n_1 > 1), int(n_2 > 1)]


def _write_copy(source: int, source_shape: Shape, to: int, to_shape: Shape, shape: Shape) -> Row:
    """Return a row that copies a part, of some shape, of one array to a part of another."""
    places = source, *_steps(source_shape), to, *_steps(to_shape)
    return [Kernel.copy_box, *places, *_pad(shape)]


def _write_boxes(name: str, *arrays: Operand, **attributes: Any) -> list[Row]:
    """Return a row of a kernel that takes arrays as they are."""
    if name not in Kernel.__members__:
        raise NoKernelError(f"there is no kernel for {name}")
    row = [int(Kernel[name])]
    for x in arrays:
        row += (x.offset, *_pad(x.shape)) if x.memory == "floats" else ()
    return [row]


def _write_matmul(a: Operand, b: Operand, out: Operand) -> list[Row]:
    if a.memory == "sparse":
        if b.is_transposed:
            raise NoKernelError("there is no kernel for a transposed array behind a sparse one")
        return _write_boxes("csr_transposed_matmul" if a.is_transposed else "csr_matmul", b, out)
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
    boxes = offsets[0], count, *of_a, offsets[1], count, *of_b, out.offset, count, m, n
    return [[kernel, *boxes, *flags]]


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
    return [[Kernel.sum, a.offset, first, shape[axis], last, out.offset, first, 1, last]]


def _write_broadcast(a: Operand, out: Operand, shape: Shape) -> list[Row]:
    return [_write_copy(a.offset, a.shape, out.offset, shape, shape)]


def _write_slice(a: Operand, out: Operand, index: Any) -> list[Row]:
    source = a.offset
    for (start, _), step in zip(index[::-1], _steps(a.shape)[::-1], strict=False):
        source += start * step
    return [_write_copy(source, a.shape, out.offset, out.shape, out.shape)]


def _write_concat(*arrays: Operand, axis: int) -> list[Row]:
    *parts, out = arrays
    rows, to = list[Row](), out.offset
    for part in parts:
        rows.append(_write_copy(part.offset, part.shape, to, out.shape, part.shape))
        to += math.prod(part.shape[axis:])
    return rows


def _write_adam(*arrays: Operand) -> list[Row]:
    """The kernel works on the new moments; where these have another place, they are copied."""
    grads, m, v, *scalars, out, new_m, new_v = arrays
    rows = list[Row]()
    for old, new in ((m, new_m), (v, new_v)):
        if old.offset != new.offset:
            rows.append(_write_copy(old.offset, old.shape, new.offset, old.shape, old.shape))
    return rows + _write_boxes("adam_direction", grads, new_m, new_v, out, *scalars)


WRITE: dict[str, Callable[..., list[Row]]] = {
    "matmul": _write_matmul,
    "sum": _write_sum,
    "broadcast": _write_broadcast,
    "copy_slice": _write_slice,
    "concat": _write_concat,
    "adam_direction": _write_adam,
}
"""What writes the rows of an operation, unless its kernel takes the operands as they are."""
