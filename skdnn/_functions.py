"""Functions that activations and losses are made of, written into given arrays by those of `xp`."""

from __future__ import annotations

import math

import numpy as np

from ._passes import ArrayModule


def sigmoid(z: np.ndarray, out: np.ndarray, xp: ArrayModule) -> np.ndarray:
    """Write ``1 / (1 + e^-z)`` into `out`.

    An exponential that overflows is infinite, and one over it is 0, as it should be. By the
    hyperbolic tangent nothing would overflow, at half the speed in float32 and less in float64.
    """
    xp.add(exp_of_minus(z, out, xp), 1.0, out=out)
    return xp.reciprocal(out, out=out)


def exp_of_minus(z: np.ndarray, out: np.ndarray, xp: ArrayModule) -> np.ndarray:
    """Write ``e^-z`` into `out`, infinity where it overflows."""
    xp.negative(z, out=out)
    with np.errstate(over="ignore"):
        return xp.exp(out, out=out)


def softplus(z: np.ndarray, out: np.ndarray, work: np.ndarray, xp: ArrayModule) -> np.ndarray:
    """Write ``log(1 + e^z) = max(z, 0) + log(1 + e^-|z|)`` into `out`: no overflow."""
    xp.maximum(z, 0.0, out=work)
    xp.minimum(z, 0.0, out=out)
    xp.subtract(out, work, out=out)  # -|z|, in a form that complex numbers can follow
    xp.exp(out, out=out)
    xp.log1p(out, out=out)
    return xp.add(out, work, out=out)


def mark_positive(z: np.ndarray, out: np.ndarray, work: np.ndarray, xp: ArrayModule) -> np.ndarray:
    """Write ``[z > 0]`` into `out`."""
    xp.copyto(out, 1.0)
    return xp.mask_by_sign(out, z, work)


def normal_cdf(z: np.ndarray, out: np.ndarray, xp: ArrayModule) -> np.ndarray:
    """Write ``F(z)`` into `out`, with F the normal distribution."""
    xp.multiply(z, math.sqrt(0.5), out=out)
    xp.erf(out, out=out)
    xp.add(out, 1.0, out=out)
    return xp.multiply(out, 0.5, out=out)


def weigh_by_density(z: np.ndarray, out: np.ndarray, xp: ArrayModule) -> np.ndarray:
    """Write ``z f(z)`` into `out`, with f the normal density."""
    xp.multiply(z, z, out=out)
    xp.multiply(out, -0.5, out=out)
    xp.exp(out, out=out)
    xp.multiply(out, 1.0 / math.sqrt(2.0 * math.pi), out=out)
    return xp.multiply(out, z, out=out)
