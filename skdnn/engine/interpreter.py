"""The loop that runs a table of instructions over one arena, without Python.

`lowering` writes the table. Views are cut from the arena by its numbers: a wrong row cannot make a
kernel write elsewhere.
"""

import numpy as np

from . import kernels
from .kernels import exact
from .lowering import Kernel


@exact
def _vector(arena, start, n):
    return arena[start : start + n]


@exact
def _compute_elements(row, arena, bits):
    """Compute each element by itself, block by block.

    Kernel, numbers of elements and of those of a block, result, where to compute a block if an
    operand lies there (else -1), and for each operand its offset and how far it moves on for each
    element, 1 or 0.
    """
    kernel, block, n_dropped = row[0], row[2], row[7]
    for start in range(0, row[1], block):
        n = min(block, row[1] - start)
        out = _vector(arena, row[3] + start, n)
        result = out if row[4] < 0 else _vector(arena, row[4], n)
        a = _vector(arena, row[5] + row[6] * start, n)
        b = _vector(arena, row[7] + row[8] * start, n)
        if kernel <= Kernel.sigmoid:
            kernels.unary(kernel, a, result)
        elif kernel <= Kernel.silu_slope:
            kernels.binary(kernel, a, b, result)
        elif kernel == Kernel.dropout_mask:
            kernels.dropout_mask(n_dropped, _vector(bits, row[5] + start, n), result)
        else:
            c = _vector(arena, row[9] + row[10] * start, n)
            if kernel == Kernel.where:
                kernels.where(a, b, c, result)
            elif kernel == Kernel.lerp:
                kernels.lerp(a, b, c, result)
            else:
                kernels.add_scaled(a, b, c, _vector(arena, row[11] + row[12] * start, n), result)
        if row[4] >= 0:
            kernels.copy(result, out)


@exact
def _copy_box(row, arena):
    """Copy numbers along three axes, along each of which both places move on by their steps.

    Source and its steps, target and its steps, lengths. Along the last axis, the numbers lie
    together, or one is repeated.
    """
    source, step, to, n_0, n_1, n_2 = row[1], row[4], row[5], row[9], row[10], row[11]
    end = source + (n_0 - 1) * row[2] + (n_1 - 1) * row[3] + (n_2 - 1) * step
    to_end = to + (n_0 - 1) * row[6] + (n_1 - 1) * row[7] + n_2 - 1
    if min(source, to) < 0 or max(end, to_end) >= arena.size:
        raise ValueError("a copy reaches beyond the arena")
    for i in range(n_0):
        for j in range(n_1):
            first, start = source + i * row[2] + j * row[3], to + i * row[6] + j * row[7]
            if step:
                kernels.copy(_vector(arena, first, n_2), _vector(arena, start, n_2))
            else:
                _vector(arena, start, n_2)[:] = arena[first]


@exact
def _box(row, i, arena):
    """View the i-th array of an instruction on whole arrays: an offset and three lengths."""
    j = 4 * i + 1
    n_0, n_1, n_2 = row[j + 1], row[j + 2], row[j + 3]
    return arena[row[j] : row[j] + n_0 * n_1 * n_2].reshape(n_0, n_1, n_2)


@exact
def _multiply(row, arena):
    """Two factors and the product, boxes of matrices; whether the factors are transposed."""
    a, b, out = _box(row, 0, arena), _box(row, 1, arena), _box(row, 2, arena)
    for i in range(min(len(a), len(b), len(out))):
        if row[0] == Kernel.product:
            if row[13]:
                kernels.product(a[i].T, b[i], out[i])
            elif row[14]:
                kernels.product_with_transposed(a[i], b[i], out[i])
            else:
                kernels.product(a[i], b[i], out[i])
        elif row[13]:
            if row[14]:
                np.dot(a[i].T, b[i].T, out[i])
            else:
                np.dot(a[i].T, b[i], out[i])
        elif row[14]:
            np.dot(a[i], b[i].T, out[i])
        else:
            np.dot(a[i], b[i], out[i])


@exact
def _run_fused(row, arena):
    """Run a fused operation on whole arrays, each of which is a box."""
    kernel, a, b = row[0], _box(row, 0, arena), _box(row, 1, arena)
    c, d, e = _box(row, 2, arena), _box(row, 3, arena), _box(row, 4, arena)
    if kernel == Kernel.cos_and_sin_turns:
        kernels.cos_and_sin_turns(a[0], b[0], c[0], d, e)
    elif kernel == Kernel.piecewise_linear:
        kernels.piecewise_linear(a[0], b[0], c[0], d, e)
    elif kernel == Kernel.grad_lines:
        kernels.grad_lines(a, b, c[0], d[0], e[0])
    elif kernel == Kernel.adam_direction:
        beta_2, scale, epsilon = arena[row[21]], arena[row[25]], arena[row[29]]
        kernels.adam_direction(
            a[0, 0], b[0, 0], c[0, 0], d[0, 0], e[0, 0, 0], beta_2, scale, epsilon
        )
    else:
        raise ValueError("no kernel has this number")


@exact
def _run_instruction(row, arena, index, data, indices, indptr):
    kernel, a, b = row[0], _box(row, 0, arena), _box(row, 1, arena)
    if kernel in (Kernel.dot, Kernel.product):
        _multiply(row, arena)
    elif kernel == Kernel.transpose:
        for i in range(min(len(a), len(b))):
            kernels.transpose(a[i], b[i])
    elif kernel == Kernel.sum:
        kernels.sum_middle(a, b)
    elif kernel == Kernel.take_rows:
        kernels.take_rows(a[0], b[0, 0], _box(row, 2, arena)[0])
    elif kernel == Kernel.scatter_add:
        kernels.scatter_add(a[0, 0], b[0], _box(row, 2, arena)[0])
    elif kernel == Kernel.csr_matmul:
        kernels.csr_matmul(index, data, indices, indptr, a[0], b[0])
    elif kernel == Kernel.csr_transposed_matmul:
        kernels.csr_transposed_matmul(index, data, indices, indptr, a[0], b[0])
    else:
        _run_fused(row, arena)


@exact
def _gather(places, arena, X, index, y, weight):
    """Copy the rows of a batch, and what belongs to them, to their places; -1 is none."""
    n = index.size
    if X.shape[1] and places[0] >= 0:
        x = _vector(arena, places[0], n * X.shape[1]).reshape(n, X.shape[1])
        for i in range(n):
            kernels.copy(X[index[i]], x[i])
    for values, place in ((y, places[1]), (weight, places[2])):
        if values.size and place >= 0:
            of_batch = _vector(arena, place, n)
            for i in range(n):
                of_batch[i] = values[index[i]]


def run_steps(
    table, places, arena, X, y, index, weight, scalars, bits, logits, data, indices, indptr
):
    """Run a table of instructions once for each row of `index`.

    Parameters
    ----------
    table : ndarray of int64 of shape (n_rows, N_COLUMNS)
    places : ndarray of int64 of shape (5,)
        Where in the arena x, y, the weights of the rows, the scalars and the logits are; -1 for
        none.
    arena : ndarray
        Memory of the program.
    X, y, index, weight, scalars, bits, logits : ndarray
        As in `Feed`; without columns where there are none.
    data, indices, indptr : ndarray
        Of a sparse X, or empty.
    """
    for step in range(len(index)):
        rows = index[step]
        _gather(places, arena, X, rows, y, weight)
        kernels.copy(scalars[step], _vector(arena, places[3], scalars.shape[1]))
        for i in range(len(table)):
            row = table[i]
            if row[0] <= Kernel.dropout_mask:
                _compute_elements(row, arena, bits[step])
            elif row[0] == Kernel.copy_box:
                _copy_box(row, arena)
            else:
                _run_instruction(row, arena, rows, data, indices, indptr)
        kernels.copy(_vector(arena, places[4], logits.shape[1]), logits[step])
