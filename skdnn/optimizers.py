"""Optimizers: chains of small transforms, each changing the one gradient array in place.

A transform is a pair: ``init(params) -> state`` makes its arrays, ``update(updates, params, state,
step)`` rewrites `updates`, which enters a chain as the gradient and leaves it as what is added to
the parameters. All arrays have the shape (n_members, n_params); no transform knows of layers.

Read `gradient_descent` first: it is one transform long. Everything after it answers one of its
weaknesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ._passes import NUMPY, ArrayModule
from ._values import frozen

State = dict[str, np.ndarray]
LearningRate = float | np.ndarray
"""One number, or one for each member: an array of shape (n_members, 1)."""


class Step(NamedTuple):
    """What a transform may want to know of the step being taken."""

    number: int  # counts from 1
    learning_rate: LearningRate
    scratch: np.ndarray  # (n_members, n_params), space to compute in
    xp: ArrayModule = NUMPY


class Transform(Protocol):
    """One stage on the way from a gradient to an update."""

    def init(self, params: np.ndarray) -> State:
        """Return the arrays that the transform carries from step to step."""

    def update(self, updates: np.ndarray, params: np.ndarray, state: State, step: Step) -> None:
        """Rewrite `updates` in place."""


class Stateless:
    """Carry nothing from step to step."""

    def init(self, params: np.ndarray) -> State:
        return {}


@frozen
class AddL2Gradient(Stateless):
    """Add the gradient of the penalty ``strength / 2 * |w|^2``: ``g += strength * w``.

    Acts on `columns`, the weights without the biases.
    """

    strength: float
    columns: slice

    def update(self, updates, params, state, step):
        g, w, columns = updates, params, self.columns
        step.xp.add_scaled(g[:, columns], w[:, columns], self.strength, step.scratch[:, columns])


@frozen
class ClipByGlobalNorm(Stateless):
    """Shorten each member's whole gradient to `max_norm`: ``g *= min(1, max_norm / |g|)``.

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, arXiv:1211.5063.
    """

    max_norm: float

    def update(self, updates, params, state, step):
        for member in updates:
            norm = float(np.einsum("i,i->", member, member, dtype=np.float64)) ** 0.5
            if norm > self.max_norm:
                member *= self.max_norm / norm


@frozen
class ScaleByRMS:
    """Divide by the root of the running mean of squares.

    ``v = decay v + (1 - decay) g^2``, ``g / (sqrt(v) + epsilon)``

    References
    ----------
    T. Tieleman and G. Hinton, "Lecture 6.5: RMSProp", COURSERA, 2012. The place of epsilon is
    PyTorch's.
    """

    decay: float
    epsilon: float

    def init(self, params: np.ndarray) -> State:
        return {"second_moment": np.zeros_like(params)}

    def update(self, updates, params, state, step):
        v, root = state["second_moment"], step.scratch
        _move_towards_square(v, updates, self.decay, step.scratch)
        np.sqrt(v, out=root)
        root += self.epsilon
        updates /= root


@frozen
class ScaleByAdam:
    """Divide the running mean of the gradient by the root of that of its square.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)``

    Both means start at zero; the divisors undo that bias. Epsilon comes after them, as in PyTorch
    and the paper's algorithm 1; MLPClassifier adds it before. The state keeps ``m / (1 - b1)`` and
    ``v / (1 - b2)``: the same numbers up to a constant, with two passes over the array fewer.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015,
    arXiv:1412.6980.
    """

    beta_1: float
    beta_2: float
    epsilon: float

    def init(self, params: np.ndarray) -> State:
        return {"first_moment": np.zeros_like(params), "second_moment": np.zeros_like(params)}

    def update(self, updates, params, state, step):
        m, v = state["first_moment"], state["second_moment"]
        m_factor = (1.0 - self.beta_1) / (1.0 - self.beta_1**step.number)
        root_factor = ((1.0 - self.beta_2) / (1.0 - self.beta_2**step.number)) ** 0.5
        epsilon, factor = self.epsilon / root_factor, m_factor / root_factor
        step.xp.scale_by_moments(updates, m, v, self.beta_1, self.beta_2, epsilon, factor)


@frozen
class ScaleByNAdam:
    """Adam that looks ahead: the mean of the gradient as it will be after the next step.

    ``mu_t = b1 (1 - 0.96^(0.004 t) / 2)``, ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``(mu_{t+1} m / (1 - mu_1 ... mu_{t+1}) + (1 - mu_t) g / (1 - mu_1 ... mu_t))
    / (sqrt(v / (1 - b2^t)) + epsilon)``

    References
    ----------
    T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR 2016 workshop.
    """

    beta_1: float
    beta_2: float
    epsilon: float

    def init(self, params: np.ndarray) -> State:
        return {
            "first_moment": np.zeros_like(params),
            "second_moment": np.zeros_like(params),
            "momentum_product": np.ones(1),
        }

    def _momentum(self, step: int) -> float:
        return self.beta_1 * (1.0 - 0.5 * 0.96 ** (0.004 * step))

    def update(self, updates, params, state, step):
        m, v, scratch = state["first_moment"], state["second_moment"], step.scratch
        momentum, next_momentum = self._momentum(step.number), self._momentum(step.number + 1)
        product = float(state["momentum_product"][0]) * momentum
        state["momentum_product"][0] = product
        np.multiply(updates, 1.0 - self.beta_1, out=scratch)
        m *= self.beta_1
        m += scratch
        _move_towards_square(v, updates, self.beta_2, scratch)
        updates *= (1.0 - momentum) / (1.0 - product)
        np.multiply(m, next_momentum / (1.0 - product * next_momentum), out=scratch)
        updates += scratch
        np.multiply(v, 1.0 / (1.0 - self.beta_2**step.number), out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += self.epsilon
        updates /= scratch


@frozen
class ScaleByLearningRate(Stateless):
    """Turn a direction to climb into a step down: ``u = -learning_rate * factor * g``.

    `factors` lists the ranges of columns with their own factor of the learning rate.
    """

    factors: Sequence[tuple[slice, float]]

    def update(self, updates, params, state, step):
        for columns, factor in self.factors:
            updates[:, columns] *= -factor * step.learning_rate


@frozen
class AccumulateMomentum:
    """Keep moving the way the last steps went: ``v = mu v + u``, ``u = v``.

    Nesterov's variant looks ahead along it: ``u = mu v + u``. Placed after the learning rate, as in
    MLPClassifier: a smaller rate slows later steps and not those already in the velocity. PyTorch
    puts it before; with a constant rate both are the same.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013.
    """

    momentum: float
    nesterov: bool = False

    def init(self, params: np.ndarray) -> State:
        return {"velocity": np.zeros_like(params)}

    def update(self, updates, params, state, step):
        velocity = state["velocity"]
        velocity *= self.momentum
        velocity += updates
        if self.nesterov:
            np.multiply(velocity, self.momentum, out=step.scratch)
            updates += step.scratch
        else:
            updates[...] = velocity


@frozen
class DecayWeights(Stateless):
    """Shrink the weights themselves, whatever the gradient: ``w *= 1 - learning_rate * rate``.

    The one transform that acts on `params`: decay that does not pass through the optimizer's
    moments ("decoupled"). Acts on `columns`, the weights without the biases.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019,
    arXiv:1711.05101.
    """

    rate: float
    columns: slice

    def update(self, updates, params, state, step):
        params[:, self.columns] *= 1.0 - self.rate * step.learning_rate


@frozen
class Optimizer:
    """Run transforms one after the other, then add the result to the parameters.

    Its state is plain data (a step count and arrays), to be pickled, resumed and averaged.
    """

    transforms: tuple[Transform, ...]

    def init(self, params: np.ndarray) -> dict:
        """Return the state before the first step: a count, and arrays by name of transform."""
        arrays = {type(t).__name__: t.init(params) for t in self.transforms}
        return {"step": 0, "arrays": arrays}

    def can_continue(self, state: dict) -> bool:
        """Say whether a state was made by the same transforms."""
        return list(state["arrays"]) == [type(t).__name__ for t in self.transforms]

    def update(
        self,
        grads: np.ndarray,
        params: np.ndarray,
        state: dict,
        learning_rate: LearningRate,
        scratch: np.ndarray,
        xp: ArrayModule = NUMPY,
    ) -> None:
        """Take one step: overwrite `grads` with the update and add it to `params`."""
        state["step"] += 1
        step = Step(state["step"], learning_rate, scratch, xp)
        for transform, arrays in zip(self.transforms, state["arrays"].values(), strict=True):
            transform.update(grads, params, arrays, step)
        params += grads


def chain(*transforms: Transform | None) -> Optimizer:
    """Join transforms in the order given; None stands for one that is not wanted."""
    return Optimizer(tuple(t for t in transforms if t is not None))


def _move_towards_square(v: np.ndarray, g: np.ndarray, decay: float, scratch: np.ndarray) -> None:
    """Move a running mean of squares on: ``v = decay v + (1 - decay) g^2``."""
    np.multiply(g, g, out=scratch)
    scratch *= 1.0 - decay
    v *= decay
    v += scratch


SOLVERS = ("gd", "sgd", "rmsprop", "adam", "adamw", "nadam")


def make_optimizer(
    solver: str,
    *,
    decayed: slice,
    lr_scales: Sequence[tuple[slice, float]],
    l2: float = 0.0,
    weight_decay: float = 0.0,
    max_grad_norm: float | None = None,
    momentum: float = 0.9,
    nesterov: bool = True,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
) -> Optimizer:
    """Build a named optimizer from its parts.

    The penalty's gradient comes first, then clipping, then what is special to the solver; the
    learning rate; momentum; and last the decay of the weights.
    """
    direction: dict[str, Transform | None] = {
        "gd": None,
        "sgd": None,
        "rmsprop": ScaleByRMS(beta_2, epsilon),
        "adam": ScaleByAdam(beta_1, beta_2, epsilon),
        "adamw": ScaleByAdam(beta_1, beta_2, epsilon),
        "nadam": ScaleByNAdam(beta_1, beta_2, epsilon),
    }
    has_momentum = solver == "sgd" and momentum > 0
    return chain(
        AddL2Gradient(l2, decayed) if l2 > 0 else None,
        ClipByGlobalNorm(max_grad_norm) if max_grad_norm is not None else None,
        direction[solver],
        ScaleByLearningRate(tuple(lr_scales)),
        AccumulateMomentum(momentum, nesterov) if has_momentum else None,
        DecayWeights(weight_decay, decayed) if weight_decay > 0 else None,
    )
