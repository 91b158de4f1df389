"""The array module that layers compute with: NumPy, and a few passes over arrays beside it.

A pass is one step of a formula that NumPy takes several calls for, or is slow at. Its NumPy code
stands here and is the reference. Where numba is installed, the same passes are compiled to
single loops, which give the same numbers to the last bit: see `skdnn._loading`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from scipy.sparse import csc_array
from scipy.special import erf


class ArrayModule(SimpleNamespace):
    """Functions of an array module and passes, by name."""

    @classmethod
    def extend(cls, module: ModuleType, passes: dict[str, Callable[..., Any]]) -> ArrayModule:
        """Put passes, and SciPy's error function, beside the functions of a module."""
        public = {name: f for name, f in vars(module).items() if not name.startswith("_")}
        return cls(**public, **passes, erf=erf)

    def run(self, compute: Callable[[Any, int], Any], x: Any, n_steps: int = 1) -> Any:
        """Compute ``compute(batch, step)`` on each of the batches in x, and return the last result.

        A `skdnn._tape.Recorder` records it.
        """
        result = None
        for step, batch in enumerate(cut_batches(x, n_steps)):
            result = compute(batch, step)
        return result


def cut_batches(x: Any, n_batches: int) -> Iterator[Any]:
    """Yield batches of the same size, which follow each other in x (n_members, n_rows, n_in)."""
    if n_batches == 1:
        yield x
        return
    size = x.shape[1] // n_batches
    for start in range(0, n_batches * size, size):
        yield x[:, start : start + size]


def add_bias(y: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute ``y += b``: y (n_members, n_samples, n_units), b (n_members, 1, n_units)."""
    return np.add(y, b, out=y)


def rectify(z: np.ndarray, out: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Write ``max(z, 0)`` into `out`."""
    work.fill(0.0)  # an array of zeros is compared three times as fast as the number
    return np.maximum(z, work, out=out)


def mask_by_sign(grad: np.ndarray, y: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Compute ``grad *= [y > 0]``."""
    np.greater(y, 0.0, out=work)
    return np.multiply(grad, work, out=grad)


def weigh_by_sigmoid(z: np.ndarray, s: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Compute ``s = 1 / (1 + s)``, where s is ``e^-z``, and write ``s z`` into `out`."""
    np.add(s, 1.0, out=s)
    np.reciprocal(s, out=s)
    return np.multiply(s, z, out=out)


def slope_of_silu(grad: np.ndarray, y: np.ndarray, s: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Compute ``grad *= y - y s + s``."""
    np.multiply(y, s, out=work)
    np.subtract(y, work, out=work)
    np.add(work, s, out=work)
    return np.multiply(grad, work, out=grad)


def multiply_outer(column: np.ndarray, row: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write ``column row`` into `out`: (n_members, n, 1) by (n_members, 1, k).

    As a product of matrices it takes BLAS five times as long.
    """
    return np.einsum("mij,mjk->mik", column, row, out=out)


def clip_to_ramp(u: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write ``min(max(u, 0), 1)`` into `out`."""
    return np.clip(u, 0.0, 1.0, out=out)


def mark_equal(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Compute ``y = [y = x]``."""
    return np.equal(y, x, out=y)


def mask_from_words(
    words: np.ndarray, n_dropped: int, factor: float, out: np.ndarray
) -> np.ndarray:
    """Write ``factor [words >= n_dropped]`` into `out`: arrays (n_members, n)."""
    np.greater_equal(words, n_dropped, out=out)
    return np.multiply(out, factor, out=out)


def round_to_codes(x: np.ndarray, n_levels: int, out: np.ndarray) -> np.ndarray:
    """Write numbers as integers from 0 to ``n_levels - 1`` into `out`: arrays (n_members, n).

    What lies beyond is the first or the last of them, and what is not a number the first. `x` may
    be overwritten.
    """
    np.fmax(x, 0.0, out=x)
    np.fmin(x, n_levels - 1.0, out=x)
    np.copyto(out, x, casting="unsafe")
    return out


def look_up(codes: np.ndarray, table: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write ``row codes_i of the table`` into row i of `out`.

    Shape: codes (n_members, n), table (n_members, n_levels, n_units), out (n_members, n, n_units).
    """
    for of_member, its_table, its_out in zip(codes, table, out, strict=True):
        # mode="clip" writes straight into `out`; the default would go through a copy.
        its_table.take(of_member, axis=0, out=its_out, mode="clip")
    return out


def add_up_rows(
    codes: np.ndarray, rows: np.ndarray, out: np.ndarray, work: csc_array
) -> np.ndarray:
    """Write the sum of the rows of each code into `out`: what `look_up` is, transposed.

    `work` has the shape (n_members n_levels, n_members n), and a one in each column. Its product
    with the rows adds up those of a level faster than anything in NumPy; only the places of the
    ones change.
    """
    n_members, n_levels, n_units = out.shape
    first_levels = n_levels * np.arange(n_members)[:, np.newaxis]
    np.add(codes, first_levels, out=work.indices.reshape(codes.shape))
    np.copyto(out, (work @ rows.reshape(-1, n_units)).reshape(out.shape))
    return out


def add_scaled(y: np.ndarray, x: np.ndarray, factor: float, work: np.ndarray) -> np.ndarray:
    """Compute ``y += factor x``: arrays (n_members, n_params)."""
    np.multiply(x, factor, out=work)
    return np.add(y, work, out=y)


def move_towards(y: np.ndarray, x: np.ndarray, shares: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Compute ``y = s y + t x``: (n_members, n_params), with the s and t of members (n_members, 2).

    These add up to 1.
    """
    np.multiply(x, shares[:, 1:], out=work)
    np.multiply(y, shares[:, :1], out=y)
    return np.add(y, work, out=y)


def draw_words(rngs: Sequence[np.random.Generator], out: np.ndarray) -> np.ndarray:
    """Fill `out` (n_members, n) with words of 64 random bits, for each member from its stream."""
    for rng, of_member in zip(rngs, out, strict=True):
        of_member[:] = rng.integers(0, 1 << 64, len(of_member), dtype=np.uint64)
    return out


def scale_by_moments(
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    beta_1: float,
    beta_2: float,
    numbers: np.ndarray,
) -> np.ndarray:
    """Compute ``m = beta_1 m + g``, ``v = beta_2 v + g^2``, ``g = m / (sqrt(v) + epsilon) factor``.

    Arrays (n_members, n_params), but for `numbers` (n_members, 2): epsilon and the factor.
    """
    epsilon, factor = numbers[:, :1], numbers[:, 1:]
    m *= beta_1
    m += g
    v *= beta_2
    g *= g
    v += g
    np.sqrt(v, out=g)
    g += epsilon
    np.divide(m, g, out=g)
    g *= factor
    return g


PASSES: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        add_bias,
        rectify,
        mask_by_sign,
        weigh_by_sigmoid,
        slope_of_silu,
        multiply_outer,
        clip_to_ramp,
        mark_equal,
        mask_from_words,
        round_to_codes,
        look_up,
        add_up_rows,
        add_scaled,
        move_towards,
        scale_by_moments,
        draw_words,
    )
}

NUMPY = ArrayModule.extend(np, PASSES)
