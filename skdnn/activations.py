"""Activation functions: one small class each, with its value and its derivative.

To the outside an activation is any object with ``value(z)`` and ``derivative(z)``. The built-in
ones also write into given arrays: `value_into(z, out, work, xp)` and `derivative_into(z, y, out,
work, xp)`, where ``y = value(z)`` is handed over because many derivatives are shorter in terms of
it, and `work` is an array of the same shape to compute in. No function changes `z` or `y`. Those
that say ``is_recordable`` compute by functions of `xp` alone (see `skdnn._tape`).

The value functions hold for complex z with a tiny imaginary part too (maxima compare real parts),
so that gradient checks can differentiate the very code that runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np

from ._functions import (
    exp_of_minus,
    mark_positive,
    normal_cdf,
    sigmoid,
    softplus,
    weigh_by_density,
)
from ._passes import NUMPY, ArrayModule
from ._values import frozen


class Activation(Protocol):
    """What the network asks of an activation function."""

    initialization: ClassVar[str]
    keeps_work: ClassVar[bool]
    """Whether `backward_into` wants to find in `work` what `value_into` has left there."""

    def value_into(
        self, z: np.ndarray, out: np.ndarray, work: np.ndarray, xp: ArrayModule
    ) -> np.ndarray:
        """Write g(z) into `out` and return it."""

    def derivative_into(
        self, z: np.ndarray, y: np.ndarray, out: np.ndarray, work: np.ndarray, xp: ArrayModule
    ) -> np.ndarray:
        """Write g'(z) into `out` and return it, given ``y = g(z)``."""

    def backward_into(
        self,
        grad_y: np.ndarray,
        z: np.ndarray,
        y: np.ndarray,
        slope: np.ndarray,
        work: np.ndarray,
        xp: ArrayModule,
    ) -> np.ndarray:
        """Overwrite ``grad_y`` with ``grad_y * g'(z)``; `slope` and `work` are to compute in."""


class ChainRule:
    """Take a gradient back through a function, by its derivative."""

    keeps_work: ClassVar[bool] = False

    def backward_into(
        self: Any,
        grad_y: np.ndarray,
        z: np.ndarray,
        y: np.ndarray,
        slope: np.ndarray,
        work: np.ndarray,
        xp: ArrayModule,
    ) -> np.ndarray:
        """Overwrite ``grad_y`` with ``grad_y * g'(z)``; `slope` and `work` are to compute in."""
        return xp.multiply(grad_y, self.derivative_into(z, y, slope, work, xp), out=grad_y)


class BuiltinActivation(ChainRule):
    """Give the built-in functions the plain form, ``value(z)`` and ``derivative(z)``."""

    initialization: ClassVar[str] = "he_normal"

    def value(self: Any, z: np.ndarray) -> np.ndarray:
        """Return g(z) in a new array."""
        return self.value_into(z, np.empty_like(z), np.empty_like(z), NUMPY)

    def derivative(self: Any, z: np.ndarray) -> np.ndarray:
        """Return g'(z) in a new array."""
        return self.derivative_into(z, self.value(z), np.empty_like(z), np.empty_like(z), NUMPY)


@frozen
class Identity(BuiltinActivation):
    """``g(z) = z``, ``g'(z) = 1``: a layer that stays linear."""

    initialization = "glorot_uniform"
    is_recordable = True

    def value_into(self, z, out, work, xp):
        return xp.positive(z, out=out)

    def derivative_into(self, z, y, out, work, xp):
        xp.copyto(out, 1.0)
        return out


@frozen
class Logistic(BuiltinActivation):
    """``g(z) = 1 / (1 + e^-z)``, ``g' = g (1 - g)``: the sigmoid."""

    initialization = "glorot_uniform"
    is_recordable = True

    def value_into(self, z, out, work, xp):
        return sigmoid(z, out, xp)

    def derivative_into(self, z, y, out, work, xp):
        xp.subtract(1.0, y, out=out)
        return xp.multiply(out, y, out=out)


@frozen
class Tanh(BuiltinActivation):
    """``g(z) = tanh z``, ``g' = 1 - g^2``."""

    initialization = "glorot_uniform"
    is_recordable = True

    def value_into(self, z, out, work, xp):
        return xp.tanh(z, out=out)

    def derivative_into(self, z, y, out, work, xp):
        xp.multiply(y, y, out=out)
        return xp.subtract(1.0, out, out=out)


@frozen
class ReLU(BuiltinActivation):
    """``g(z) = max(z, 0)``, ``g' = [z > 0]``: the rectified linear unit.

    References
    ----------
    V. Nair and G. Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML
    2010.
    """

    is_recordable = True

    def value_into(self, z, out, work, xp):
        return xp.rectify(z, out, work)

    def derivative_into(self, z, y, out, work, xp):
        return xp.greater(y, 0.0, out=out)

    def backward_into(self, grad_y, z, y, slope, work, xp):
        return xp.mask_by_sign(grad_y, y, slope)


@frozen
class LeakyReLU(BuiltinActivation):
    """``g(z) = z if z > 0 else s z``, ``g' = 1 or s``: a ReLU that never quite switches off.

    References
    ----------
    A. Maas, A. Hannun and A. Ng, "Rectifier nonlinearities improve neural network acoustic models",
    ICML 2013.
    """

    negative_slope: float = 0.01

    is_recordable = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.negative_slope <= 1.0:
            raise ValueError(f"negative_slope must be in [0, 1], got {self.negative_slope!r}.")

    def value_into(self, z, out, work, xp):
        xp.multiply(z, self.negative_slope, out=out)
        return xp.maximum(z, out, out=out)

    def derivative_into(self, z, y, out, work, xp):
        mark_positive(z, out, work, xp)
        xp.multiply(out, 1.0 - self.negative_slope, out=out)
        return xp.add(out, self.negative_slope, out=out)


@frozen
class ELU(BuiltinActivation):
    """``g(z) = z if z > 0 else e^z - 1``, ``g' = 1 or e^z = 1 + g``: smooth, mean near zero.

    References
    ----------
    D.-A. Clevert, T. Unterthiner and S. Hochreiter, "Fast and accurate deep network learning by
    exponential linear units (ELUs)", ICLR 2016, arXiv:1511.07289.
    """

    is_recordable = True

    def value_into(self, z, out, work, xp):
        xp.minimum(z, 0.0, out=out)
        xp.expm1(out, out=out)
        return xp.maximum(z, out, out=out)  # e^z - 1 >= z for every z

    def derivative_into(self, z, y, out, work, xp):
        xp.minimum(y, 0.0, out=out)
        return xp.add(out, 1.0, out=out)


@frozen
class SELU(BuiltinActivation):
    """``g(z) = s z if z > 0 else s a (e^z - 1)``, ``g' = s or g + s a``: keeps mean 0, variance 1.

    References
    ----------
    G. Klambauer, T. Unterthiner, A. Mayr and S. Hochreiter, "Self-normalizing neural networks",
    NeurIPS 2017, arXiv:1706.02515.
    """

    initialization = "lecun_normal"
    scale = 1.0507009873554805
    alpha = 1.6732632423543772

    is_recordable = True

    def value_into(self, z, out, work, xp):
        xp.minimum(z, 0.0, out=out)
        xp.expm1(out, out=out)
        xp.multiply(out, self.scale * self.alpha, out=out)
        xp.maximum(z, 0.0, out=work)
        xp.multiply(work, self.scale, out=work)
        return xp.add(out, work, out=out)

    def derivative_into(self, z, y, out, work, xp):
        mark_positive(z, work, out, xp)
        xp.multiply(work, self.scale * (1.0 - self.alpha), out=work)
        xp.minimum(y, 0.0, out=out)
        xp.add(out, self.scale * self.alpha, out=out)
        return xp.add(out, work, out=out)


@frozen
class GELU(BuiltinActivation):
    """``g(z) = z F(z)``, ``g' = F(z) + z f(z)``; F and f are the normal distribution and density.

    The exact form with the error function, not its tanh approximation.

    References
    ----------
    D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", 2016, arXiv:1606.08415.
    """

    keeps_work: ClassVar[bool] = True
    is_recordable = True

    def value_into(self, z, out, work, xp):
        return xp.multiply(normal_cdf(z, work, xp), z, out=out)

    def derivative_into(self, z, y, out, work, xp):
        return xp.add(normal_cdf(z, out, xp), weigh_by_density(z, work, xp), out=out)

    def backward_into(self, grad_y, z, y, slope, work, xp):
        # With F as the forward pass has left it: the error function is dear.
        xp.add(weigh_by_density(z, slope, xp), work, out=slope)
        return xp.multiply(grad_y, slope, out=grad_y)


@frozen
class SiLU(BuiltinActivation):
    """``g(z) = z s(z)``, ``g' = s + g (1 - s)`` with s the sigmoid: also called swish.

    References
    ----------
    S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning", Neural Networks 107, 2018, arXiv:1702.03118.
    """

    keeps_work: ClassVar[bool] = True
    is_recordable = True

    def value_into(self, z, out, work, xp):
        return xp.weigh_by_sigmoid(z, exp_of_minus(z, work, xp), out)

    def derivative_into(self, z, y, out, work, xp):
        sigmoid(z, out, xp)
        xp.subtract(1.0, out, out=work)
        xp.multiply(work, y, out=work)
        return xp.add(out, work, out=out)

    def backward_into(self, grad_y, z, y, slope, work, xp):
        # As s + g - g s, with s as the forward pass has left it: the exponential is dear.
        return xp.slope_of_silu(grad_y, y, work, slope)


@frozen
class Mish(BuiltinActivation):
    """``g(z) = z t``, ``g' = t + z s(z) (1 - t^2)`` with ``t = tanh(softplus(z))``, s the sigmoid.

    References
    ----------
    D. Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020,
    arXiv:1908.08681.
    """

    def value_into(self, z, out, work, xp):
        xp.tanh(softplus(z, out, work, xp), out=out)
        return xp.multiply(out, z, out=out)

    def derivative_into(self, z, y, out, work, xp):
        t = xp.tanh(softplus(z, out, work, xp), out=out)
        slope = xp.multiply(sigmoid(z, work, xp), z, out=work)
        slope *= 1.0 - t * t
        return xp.add(t, slope, out=out)


@frozen
class Softplus(BuiltinActivation):
    """``g(z) = log(1 + e^z)``, ``g' = s(z) = 1 - e^-g``: a smooth ReLU.

    References
    ----------
    C. Dugas, Y. Bengio, F. Belisle, C. Nadeau and R. Garcia, "Incorporating second-order functional
    knowledge for better option pricing", NeurIPS 2000.
    """

    is_recordable = True

    def value_into(self, z, out, work, xp):
        return softplus(z, out, work, xp)

    def derivative_into(self, z, y, out, work, xp):
        xp.negative(y, out=out)
        xp.expm1(out, out=out)
        return xp.negative(out, out=out)


@frozen
class CustomActivation(ChainRule):
    """Run a user's own object with ``value(z)`` and ``derivative(z)`` inside the network."""

    function: Any
    initialization: ClassVar[str] = "he_normal"

    def value_into(self, z, out, work, xp):
        out[...] = self.function.value(z)
        return out

    def derivative_into(self, z, y, out, work, xp):
        out[...] = self.function.derivative(z)
        return out


ACTIVATIONS: dict[str, Callable[[], Activation]] = {
    "identity": Identity,
    "logistic": Logistic,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "selu": SELU,
    "gelu": GELU,
    "silu": SiLU,
    "mish": Mish,
    "softplus": Softplus,
}


def make_activation(activation: Any) -> Activation:
    """Turn a name, a built-in function or a user's own object into what the network runs."""
    if isinstance(activation, str):
        return ACTIVATIONS[activation]()
    if isinstance(activation, BuiltinActivation):
        return activation  # type: ignore[return-value]
    return CustomActivation(activation)
