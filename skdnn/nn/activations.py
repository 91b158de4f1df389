"""Activation functions: one small class each, with its value and its derivative.

An activation is any object with ``value(z)`` and ``derivative(z)``, pure functions of each element.
A program computes what they have in common once. They also hold for complex z with a tiny imaginary
part (maxima compare real parts), for gradient checks by the complex step.

Examples
--------
>>> import numpy as np
>>> from skdnn.nn.activations import LeakyReLU, make_activation
>>> make_activation("relu").value(np.array([-1.0, 2.0]))
array([0., 2.])
>>> LeakyReLU(0.5).derivative(np.array([-1.0, 2.0]))
array([0.5, 1. ])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..engine.ops import (
    expm1,
    fused_elementwise,
    greater,
    maximum,
    minimum,
    ones_like,
    sigmoid,
    tanh,
)
from .functions import normal_cdf, normal_pdf, softplus


class ActivationFunction:
    """Apply a nonlinear function to each element: the base class of the built-in functions.

    One of your own may derive from this class, and need not.

    Shape: z, g(z) and g'(z) have the same shape.

    Attributes
    ----------
    initialization : str
        The recipe for the weights before it, from `skdnn.nn.initializers`.
    """

    initialization: ClassVar[str] = "he_normal"

    def value(self, z: Any) -> Any:
        """Return g(z).

        Parameters
        ----------
        z : array
            Outputs of a linear step.

        Returns
        -------
        value : array
            Of the shape of z.
        """
        raise NotImplementedError

    def derivative(self, z: Any) -> Any:
        """Return g'(z).

        Parameters
        ----------
        z : array
            Outputs of a linear step.

        Returns
        -------
        derivative : array
            Of the shape of z.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Identity(ActivationFunction):
    """``g(z) = z``, ``g'(z) = 1``: a layer that stays linear."""

    initialization = "glorot_uniform"

    def value(self, z: Any) -> Any:
        return z

    def derivative(self, z: Any) -> Any:
        return ones_like(z)


@dataclass(frozen=True)
class Logistic(ActivationFunction):
    """``g(z) = 1 / (1 + e^-z)``, ``g' = g (1 - g)``: the sigmoid."""

    initialization = "glorot_uniform"

    def value(self, z: Any) -> Any:
        return sigmoid(z)

    def derivative(self, z: Any) -> Any:
        return sigmoid(z) * (1.0 - sigmoid(z))


@dataclass(frozen=True)
class Tanh(ActivationFunction):
    """``g(z) = tanh z``, ``g' = 1 - g^2``."""

    initialization = "glorot_uniform"

    def value(self, z: Any) -> Any:
        return tanh(z)

    def derivative(self, z: Any) -> Any:
        return 1.0 - tanh(z) ** 2


@dataclass(frozen=True)
class ReLU(ActivationFunction):
    """``g(z) = max(z, 0)``, ``g' = [z > 0]``: the rectified linear unit.

    References
    ----------
    V. Nair and G. Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML
    2010.
    """

    def value(self, z: Any) -> Any:
        return maximum(z, 0.0)

    def derivative(self, z: Any) -> Any:
        return greater(z, 0.0)


@dataclass(frozen=True)
class LeakyReLU(ActivationFunction):
    """``g(z) = z if z > 0 else s z``, ``g' = 1 or s``: a ReLU with a slope below zero.

    Parameters
    ----------
    negative_slope : float, default=0.01
        The slope s below zero, in [0, 1].

    References
    ----------
    A. Maas, A. Hannun and A. Ng, "Rectifier nonlinearities improve neural network acoustic models",
    ICML 2013.
    """

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 <= self.negative_slope <= 1.0:
            raise ValueError(f"negative_slope must be in [0, 1], got {self.negative_slope!r}.")

    def value(self, z: Any) -> Any:
        return maximum(z, self.negative_slope * z)

    def derivative(self, z: Any) -> Any:
        return self.negative_slope + (1.0 - self.negative_slope) * greater(z, 0.0)


@dataclass(frozen=True)
class ELU(ActivationFunction):
    """``g(z) = z if z > 0 else e^z - 1``, ``g' = 1 or e^z = 1 + g``: smooth, mean near zero.

    References
    ----------
    D.-A. Clevert, T. Unterthiner and S. Hochreiter, "Fast and accurate deep network learning by
    exponential linear units (ELUs)", ICLR 2016, arXiv:1511.07289.
    """

    def value(self, z: Any) -> Any:
        return maximum(z, expm1(minimum(z, 0.0)))  # e^z - 1 >= z for every z

    def derivative(self, z: Any) -> Any:
        return expm1(minimum(z, 0.0)) + 1.0


@dataclass(frozen=True)
class SELU(ActivationFunction):
    """``g(z) = s z if z > 0 else s a (e^z - 1)``, ``g' = s or g + s a``: keeps mean 0, variance 1.

    References
    ----------
    G. Klambauer, T. Unterthiner, A. Mayr and S. Hochreiter, "Self-normalizing neural networks",
    NeurIPS 2017, arXiv:1706.02515.
    """

    initialization = "lecun_normal"
    scale: ClassVar[float] = 1.0507009873554805
    alpha: ClassVar[float] = 1.6732632423543772

    def value(self, z: Any) -> Any:
        a = self.scale * self.alpha
        return self.scale * maximum(z, 0.0) + a * expm1(minimum(z, 0.0))

    def derivative(self, z: Any) -> Any:
        a = self.scale * self.alpha
        return a * expm1(minimum(z, 0.0)) + a + (self.scale - a) * greater(z, 0.0)


@dataclass(frozen=True)
class GELU(ActivationFunction):
    """``g(z) = z F(z)``, ``g' = F(z) + z f(z)``; F and f are the normal distribution and density.

    The exact form with the error function, not its tanh approximation.

    References
    ----------
    D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", 2016, arXiv:1606.08415.
    """

    def value(self, z: Any) -> Any:
        return z * normal_cdf(z)

    def derivative(self, z: Any) -> Any:
        return normal_cdf(z) + z * normal_pdf(z)


@fused_elementwise
def silu_slope(s: Any, y: Any) -> Any:
    """Return the derivative of SiLU, from the sigmoid s and the value y."""
    return s + y * (1.0 - s)


@dataclass(frozen=True)
class SiLU(ActivationFunction):
    """``g(z) = z s(z)``, ``g' = s + g (1 - s)`` with s the sigmoid: also called swish.

    References
    ----------
    S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning", Neural Networks 107, 2018, arXiv:1702.03118.
    """

    def value(self, z: Any) -> Any:
        return z * sigmoid(z)

    def derivative(self, z: Any) -> Any:
        s = sigmoid(z)
        return silu_slope(s, z * s)


@dataclass(frozen=True)
class Mish(ActivationFunction):
    """``g(z) = z t``, ``g' = t + z s(z) (1 - t^2)`` with ``t = tanh(softplus(z))``, s the sigmoid.

    References
    ----------
    D. Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020,
    arXiv:1908.08681.
    """

    def value(self, z: Any) -> Any:
        return z * tanh(softplus(z))

    def derivative(self, z: Any) -> Any:
        t = tanh(softplus(z))
        return t + z * sigmoid(z) * (1.0 - t**2)


@dataclass(frozen=True)
class Softplus(ActivationFunction):
    """``g(z) = log(1 + e^z)``, ``g' = s(z) = 1 - e^-g``: a smooth ReLU.

    References
    ----------
    C. Dugas, Y. Bengio, F. Belisle, C. Nadeau and R. Garcia, "Incorporating second-order functional
    knowledge for better option pricing", NeurIPS 2000.
    """

    def value(self, z: Any) -> Any:
        return softplus(z)

    def derivative(self, z: Any) -> Any:
        return sigmoid(z)


ACTIVATIONS: dict[str, Callable[[], ActivationFunction]] = {
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


def make_activation(activation: Any) -> Any:
    """Turn a name into an activation function; an object is one already.

    Parameters
    ----------
    activation : str or object
        A name, as `DeepBinaryClassifier` takes it.

    Returns
    -------
    function : object
        Has ``value(z)`` and ``derivative(z)``.
    """
    return ACTIVATIONS[activation]() if isinstance(activation, str) else activation
