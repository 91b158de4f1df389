"""Optimizers: the transforms that they are made of, and the solvers by name.

Read "gd" in `make_optimizer` first: it is one transform long. Everything else answers one of its
weaknesses. What a transform is, and how a chain of them takes a step, says `skdnn._chain`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._chain import Optimizer, State, Transform, Work, chain, powers
from ._values import cached, frozen


@frozen
class AddL2Gradient(Transform):
    """Add the gradient of the penalty ``strength / 2 * |w|^2``: ``g += strength * w``.

    Acts on `columns`, the weights without the biases.
    """

    strength: float
    columns: slice

    is_recordable = True

    def update(self, updates, params, state, work):
        g, w, columns = updates, params, self.columns
        work.xp.add_scaled(g[:, columns], w[:, columns], self.strength, work.scratch[:, columns])


@frozen
class ClipByGlobalNorm(Transform):
    """Shorten each member's whole gradient to `max_norm`: ``g *= min(1, max_norm / |g|)``.

    What it does depends on the gradient, so that it cannot be recorded.

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, arXiv:1211.5063.
    """

    max_norm: float

    def update(self, updates, params, state, work):
        for member in updates:
            norm = float(np.einsum("i,i->", member, member, dtype=np.float64)) ** 0.5
            if norm > self.max_norm:
                member *= self.max_norm / norm


@frozen
class ScaleByRMS(Transform):
    """Divide by the root of the running mean of squares.

    ``v = decay v + (1 - decay) g^2``, ``g / (sqrt(v) + epsilon)``

    References
    ----------
    T. Tieleman and G. Hinton, "Lecture 6.5: RMSProp", COURSERA, 2012. The place of epsilon is
    PyTorch's.
    """

    decay: float
    epsilon: float

    is_recordable = True

    def init(self, params: np.ndarray) -> State:
        return {"second_moment": np.zeros_like(params)}

    def update(self, updates, params, state, work):
        g, v, root, xp = updates, state["second_moment"], work.scratch, work.xp
        _move_towards_square(v, g, self.decay, work)
        xp.sqrt(v, out=root)
        xp.add(root, self.epsilon, out=root)
        xp.divide(g, root, out=g)


@frozen
class ScaleByAdam(Transform):
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

    is_recordable = True
    n_numbers = 2

    def init(self, params: np.ndarray) -> State:
        return {"first_moment": np.zeros_like(params), "second_moment": np.zeros_like(params)}

    def begin(self, state, numbers, steps, learning_rates):
        m_factor = (1.0 - self.beta_1) / (1.0 - powers(self.beta_1, steps))
        root_factor = np.sqrt((1.0 - self.beta_2) / (1.0 - powers(self.beta_2, steps)))
        numbers[..., :1] = self.epsilon / root_factor
        numbers[..., 1:] = m_factor / root_factor

    def update(self, updates, params, state, work):
        m, v = state["first_moment"], state["second_moment"]
        work.xp.scale_by_moments(updates, m, v, self.beta_1, self.beta_2, work.numbers)


@frozen
class ScaleByNAdam(Transform):
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

    is_recordable = True
    n_numbers = 3

    def init(self, params: np.ndarray) -> State:
        return {
            "first_moment": np.zeros_like(params),
            "second_moment": np.zeros_like(params),
            "momentum_product": np.ones(1),
        }

    def _momentum(self, step: int) -> float:
        return self.beta_1 * (1.0 - 0.5 * 0.96 ** (0.004 * step))

    def begin(self, state, numbers, steps, learning_rates):
        product = state["momentum_product"]
        for step, of_step in zip(steps, numbers, strict=True):
            momentum, next_momentum = self._momentum(step), self._momentum(step + 1)
            product *= momentum
            of_g = (1.0 - momentum) / (1.0 - product[0])
            of_m = next_momentum / (1.0 - product[0] * next_momentum)
            of_step[:] = of_g, of_m, 1.0 / (1.0 - self.beta_2**step)

    def update(self, updates, params, state, work):
        g, m, v = updates, state["first_moment"], state["second_moment"]
        (of_g, of_m, of_v), scratch, xp = _columns(work.numbers), work.scratch, work.xp
        xp.multiply(g, 1.0 - self.beta_1, out=scratch)
        xp.multiply(m, self.beta_1, out=m)
        xp.add(m, scratch, out=m)
        _move_towards_square(v, g, self.beta_2, work)
        xp.multiply(g, of_g, out=g)
        xp.multiply(m, of_m, out=scratch)
        xp.add(g, scratch, out=g)
        xp.multiply(v, of_v, out=scratch)
        xp.sqrt(scratch, out=scratch)
        xp.add(scratch, self.epsilon, out=scratch)
        xp.divide(g, scratch, out=g)


@frozen
class ScaleByLearningRate(Transform):
    """Turn a direction to climb into a step down: ``u = -learning_rate * factor * g``.

    `factors` lists the ranges of columns with their own factor of the learning rate.
    """

    factors: Sequence[tuple[slice, float]]

    is_recordable = True

    @property
    def n_numbers(self) -> int:
        return len(self.factors)

    @cached
    def _signed_factors(self) -> np.ndarray:
        return np.array([-factor for _, factor in self.factors])

    def begin(self, state, numbers, steps, learning_rates):
        numbers[:] = self._signed_factors * learning_rates

    def update(self, updates, params, state, work):
        for (columns, _), rate in zip(self.factors, _columns(work.numbers), strict=True):
            work.xp.multiply(updates[:, columns], rate, out=updates[:, columns])


@frozen
class AccumulateMomentum(Transform):
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

    is_recordable = True

    def init(self, params: np.ndarray) -> State:
        return {"velocity": np.zeros_like(params)}

    def update(self, updates, params, state, work):
        v, scratch, xp = state["velocity"], work.scratch, work.xp
        xp.multiply(v, self.momentum, out=v)
        xp.add(v, updates, out=v)
        if self.nesterov:
            xp.multiply(v, self.momentum, out=scratch)
            xp.add(updates, scratch, out=updates)
        else:
            xp.copyto(updates, v)


@frozen
class DecayWeights(Transform):
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

    is_recordable = True
    n_numbers = 1

    def begin(self, state, numbers, steps, learning_rates):
        numbers[:] = 1.0 - self.rate * learning_rates

    def update(self, updates, params, state, work):
        w = params[:, self.columns]
        work.xp.multiply(w, work.numbers, out=w)


def _move_towards_square(v: np.ndarray, g: np.ndarray, decay: float, work: Work) -> None:
    """Move a running mean of squares on: ``v = decay v + (1 - decay) g^2``."""
    scratch, xp = work.scratch, work.xp
    xp.multiply(g, g, out=scratch)
    xp.multiply(scratch, 1.0 - decay, out=scratch)
    xp.multiply(v, decay, out=v)
    xp.add(v, scratch, out=v)


def _columns(array: np.ndarray) -> list[np.ndarray]:
    """View the columns of (n_members, k), each as (n_members, 1)."""
    return [array[:, i : i + 1] for i in range(array.shape[1])]


ADAPTIVE_SOLVERS = ("rmsprop", "adam", "adamw", "nadam")
"""Those that divide by the size of the gradient, and by no less than epsilon."""

SOLVERS = ("gd", "sgd", *ADAPTIVE_SOLVERS)


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
