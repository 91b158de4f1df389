"""The loop that runs a table of instructions over one arena, without Python.

A row of the table is a kernel's number, offsets, lengths and flags; `lowering` writes it, and the
functions here say what stands where. Views are cut from the arena: a wrong row cannot make a kernel
write elsewhere.
"""

import zlib
from pathlib import Path

import numpy as np

from . import kernels
from . import opcodes as op
from .kernels import exact

SOURCE = zlib.crc32(
    b"".join(
        Path(__file__).with_name(f"{name}.py").read_bytes()
        for name in ("interpreter", "kernels", "opcodes", "vector_math")
    )
)
"""Checksum of the kernels. `run_steps` returns that of those that it was compiled from: numba looks
only at the time and size of one of the files when it loads what it has kept."""


@exact
def _compute_block(table, i, start, n, arena, bits):
    """Compute `n` elements of an instruction of a group, from `start` on.

    Kernel, result, where to compute it if an operand lies there (else -1), and for each operand its
    offset and how far it moves on for each element, 1 or 0.
    """
    kernel, out = table[i, 0], table[i, 1] + start
    if kernel == op.REPEAT:  # the rows of this block
        n_columns = table[i, 5]
        _repeat(table[i], start // n_columns, n // n_columns, arena)
    elif kernel == op.DROPOUT_MASK:
        kernels.dropout_mask(table[i, 3], bits, table[i, 2] + start, arena, out, n)
    else:
        result = out if table[i, 2] < 0 else table[i, 2]
        a = table[i, 3] + table[i, 4] * start
        if kernel < op.N_UNARY:
            kernels.unary(kernel, arena, a, result, n)
        else:
            b = table[i, 5] + table[i, 6] * start
            if kernel < op.N_UNARY + op.N_BINARY:
                kernels.binary(kernel, arena, a, b, result, n)
            else:
                c, d = table[i, 7] + table[i, 8] * start, table[i, 9] + table[i, 10] * start
                if kernel == op.WHERE:
                    kernels.where(arena, a, b, c, result, n)
                elif kernel == op.LERP:
                    kernels.lerp(arena, a, b, c, result, n)
                else:
                    kernels.add_scaled(arena, a, b, c, d, result, n)
        if result != out:
            kernels.unary(op.COPY, arena, result, out, n)


@exact
def _repeat(row, moved, n_1, arena):
    """Kernel, to, from, three lengths (`n_1` is the second), and how far to move on along each."""
    out = arena[row[1] : row[1] + row[3] * n_1 * row[5]]
    kernels.repeat(arena[row[2] + moved :], row[6:9], out.reshape(row[3], n_1, row[5]))


@exact
def _run_group(table, first, arena, bits):
    """Run instructions on each element, block by block, so that a block stays in the cache.

    The first row has the numbers of rows of the two parts, of elements, and of those of a block.
    """
    size, block = table[first, 3], table[first, 4]
    body, end = first + 1 + table[first, 1], first + 1 + table[first, 1] + table[first, 2]
    for i in range(first + 1, body):
        _repeat(table[i], 0, table[i, 4], arena)
    for start in range(0, size, block):
        for i in range(body, end):
            _compute_block(table, i, start, min(block, size - start), arena, bits)


@exact
def _vector(arena, start, n):
    return arena[start : start + n]


@exact
def _matrix(arena, start, m, n):
    return arena[start : start + m * n].reshape(m, n)


@exact
def _copy_rows(row, arena):
    """Copy a box of rows: from, its two strides, to, its two strides, three lengths."""
    n = row[9]
    for i in range(row[7]):
        for j in range(row[8]):
            a = row[1] + i * row[2] + j * row[3]
            out = row[4] + i * row[5] + j * row[6]
            kernels.copy(_vector(arena, a, n), _vector(arena, out, n))


@exact
def _matrices(arena, start, count, m, n):
    return arena[start : start + count * m * n].reshape(count, m, n)


@exact
def _multiply_matrices(row, arena):
    """Kernel, operands, result, number of matrices, m, k, n, whether operands are transposed."""
    count, m, k, n = row[4], row[5], row[6], row[7]
    a, a_t = _matrices(arena, row[1], count, m, k), _matrices(arena, row[1], count, k, m)
    b, b_t = _matrices(arena, row[2], count, k, n), _matrices(arena, row[2], count, n, k)
    out = _matrices(arena, row[3], count, m, n)
    for i in range(count):
        if row[0] == op.SMALL_PRODUCT:
            if row[8]:
                kernels.product(a_t[i].T, b[i], out[i])
            elif row[9]:
                kernels.product_with_transposed(a[i], b_t[i], out[i])
            else:
                kernels.product(a[i], b[i], out[i])
        elif row[8]:
            if row[9]:
                np.dot(a_t[i].T, b_t[i].T, out[i])
            else:
                np.dot(a_t[i].T, b[i], out[i])
        elif row[9]:
            np.dot(a[i], b_t[i].T, out[i])
        else:
            np.dot(a[i], b[i], out[i])


@exact
def _run_embedding(row, arena):
    """Kernel, x, w, b, two results, the numbers of inputs, functions and samples, of results."""
    n_in, n_functions, n_samples = row[6], row[7], row[8]
    n = n_in * n_functions
    x = _matrix(arena, row[1], n_in, n_samples)
    w, b = _vector(arena, row[2], n), _vector(arena, row[3], n)
    first = _matrix(arena, row[4], n, n_samples)
    second = _matrix(arena, row[5], n * row[9], n_samples)
    if row[0] == op.COS_AND_SIN_TURNS:
        kernels.cos_and_sin_turns(x, w, b, first, second)
    else:
        kernels.piecewise_linear(x, w, b, first, second)


@exact
def _run_grad_lines(row, arena):
    """Kernel, gradients, slopes, x, two results, the numbers of inputs, functions and samples."""
    n, n_samples = row[6] * row[7], row[8]
    grads, slopes = _matrix(arena, row[1], n, n_samples), _matrix(arena, row[2], n, n_samples)
    x = _matrix(arena, row[3], row[6], n_samples)
    kernels.grad_lines(grads, slopes, x, _vector(arena, row[4], n), _vector(arena, row[5], n))


@exact
def _run_adam(row, arena):
    """Kernel, gradients, moments, result, four scalars, number of parameters."""
    n = row[9]
    grads, m, v = _vector(arena, row[1], n), _vector(arena, row[2], n), _vector(arena, row[3], n)
    beta_1, beta_2, scale, epsilon = arena[row[5]], arena[row[6]], arena[row[7]], arena[row[8]]
    kernels.adam_direction(grads, m, v, _vector(arena, row[4], n), beta_1, beta_2, scale, epsilon)


@exact
def _run_with_codes(row, arena):
    """Kernel, codes, rows by level and by code, numbers of codes, of levels, and of columns."""
    codes, by_level = _vector(arena, row[1], row[4]), _matrix(arena, row[2], row[5], row[6])
    by_code = _matrix(arena, row[3], row[4], row[6])
    if row[0] == op.TAKE_ROWS:
        kernels.take_rows(by_level, codes, by_code)
    else:
        kernels.scatter_add(codes, by_code, by_level)


@exact
def _run_sparse(row, arena, index, data, indices, indptr):
    """Kernel, rows by sample and by feature, numbers of samples, of columns, and of features."""
    by_sample = _matrix(arena, row[1], row[3], row[4])
    by_feature = _matrix(arena, row[2], row[5], row[4])
    if row[0] == op.CSR_MATMUL:
        kernels.csr_matmul(index, data, indices, indptr, by_feature, by_sample)
    else:
        kernels.csr_transposed_matmul(index, data, indices, indptr, by_sample, by_feature)


@exact
def _run_instruction(row, arena, index, data, indices, indptr):  # noqa: C901
    kernel = row[0]
    if kernel in (op.DOT, op.SMALL_PRODUCT):
        _multiply_matrices(row, arena)
    elif kernel == op.COPY_ROWS:
        _copy_rows(row, arena)
    elif kernel == op.TRANSPOSE:
        m, n = row[4], row[5]
        for i in range(row[3]):
            a = _matrix(arena, row[1] + i * m * n, m, n)
            kernels.transpose(a, _matrix(arena, row[2] + i * m * n, n, m))
    elif kernel == op.SUM:
        n_0, n_1, n_2 = row[3], row[4], row[5]
        a = _vector(arena, row[1], n_0 * n_1 * n_2).reshape(n_0, n_1, n_2)
        kernels.sum_middle(a, _matrix(arena, row[2], n_0, n_2))
    elif kernel in (op.TAKE_ROWS, op.SCATTER_ADD):
        _run_with_codes(row, arena)
    elif kernel in (op.CSR_MATMUL, op.CSR_TRANSPOSED_MATMUL):
        _run_sparse(row, arena, index, data, indices, indptr)
    elif kernel in (op.COS_AND_SIN_TURNS, op.PIECEWISE_LINEAR):
        _run_embedding(row, arena)
    elif kernel == op.GRAD_LINES:
        _run_grad_lines(row, arena)
    elif kernel == op.ADAM_DIRECTION:
        _run_adam(row, arena)
    else:
        raise ValueError("no kernel has this number")


@exact
def _gather(places, arena, X, index, y, weight):
    """Copy the rows of a batch, and what belongs to them, to their places; -1 is none."""
    n = index.size
    if X.shape[1] and places[0] >= 0:
        x = _matrix(arena, places[0], n, X.shape[1])
        for i in range(n):
            kernels.copy(X[index[i]], x[i])
    for values, place in ((y, places[1]), (weight, places[2])):
        if values.size and place >= 0:
            of_batch = _vector(arena, place, n)
            for i in range(n):
                of_batch[i] = values[index[i]]


def run_steps(
    table, places, arena, X, index, y, weight, scalars, bits, logits, data, indices, indptr
):
    """Run a table of instructions once for each row of `index`; return `SOURCE`.

    Parameters
    ----------
    table : ndarray of int64 of shape (n_rows, op.N_COLUMNS)
    places : ndarray of int64 of shape (5,)
        Where in the arena x, y, the weights of the rows, the scalars and the logits are; -1 for
        none.
    arena : ndarray
        Memory of the program.
    X, index, y, weight, scalars, bits, logits : ndarray
        As in `Feed`; without columns where there are none.
    data, indices, indptr : ndarray
        Of a sparse X, or empty.
    """
    for step in range(len(index)):
        rows = index[step]
        _gather(places, arena, X, rows, y, weight)
        kernels.copy(scalars[step], _vector(arena, places[3], scalars.shape[1]))
        i = 0
        while i < len(table):
            if table[i, 0] == op.GROUP:
                _run_group(table, i, arena, bits[step])
                i += table[i, 1] + table[i, 2]
            else:
                _run_instruction(table[i], arena, rows, data, indices, indptr)
            i += 1
        kernels.copy(_vector(arena, places[4], logits.shape[1]), logits[step])
    return SOURCE
