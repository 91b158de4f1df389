"""Solvers: transforms of a gradient into an update, optimizers made of them, and their names.

A transform is three pure functions: ``init(params)`` returns the arrays that it carries from step
to step, ``prepare(steps, learning_rates)`` numbers that depend on the step alone, and
``update(u, params, state, step)`` the new update and state. All arrays are the flat parameters of
one member, (n_trainable,); no transform knows of layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..engine.ops import constant_like, fused, fused_elementwise, maximum, sqrt

Array = Any
State = dict[str, Array]
Scalars = dict[str, np.ndarray]
Step = SimpleNamespace
Update = tuple[Array, State]


class Transform:
    """Transform a gradient, or what transforms before have made of it: the base class.

    A transform of one's own is a frozen dataclass that derives from this class, and is a `solver`
    of `DeepBinaryClassifier`: it takes the place that ``ScaleByAdam`` has in "adam", behind the
    penalty and the clipping and before the learning rate. `update` is a pure function: it returns
    new arrays and changes none.

    Shape: u, params and every array of the state (n_trainable,).

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from sklearn.datasets import make_moons
    >>> from skdnn import DeepBinaryClassifier
    >>> from skdnn.nn.functions import maximum
    >>> from skdnn.optim import Transform
    >>> @dataclass(frozen=True)
    ... class ClipByValue(Transform):
    ...     largest: float
    ...     def update(self, u, params, state, step):
    ...         return maximum(-self.largest, -maximum(-self.largest, -u)), state
    >>> X, y = make_moons(100, random_state=0)
    >>> model = DeepBinaryClassifier((8,), solver=ClipByValue(0.1), n_members=1, max_iter=2)
    >>> model.fit(X, y).n_iter_
    2
    """

    def init(self, params: np.ndarray) -> State:
        """Return the arrays that the transform carries from step to step, before the first one.

        Parameters
        ----------
        params : ndarray of shape (n_trainable,)
            The first parameters of a member.

        Returns
        -------
        state : dict of str to ndarray
            Arrays of the shape of `params`, by names of the transform's own.
        """
        return {}

    def prepare(self, steps: np.ndarray, learning_rates: np.ndarray) -> Scalars:
        """Return numbers that depend on the step alone, beside its learning rate.

        Parameters
        ----------
        steps : ndarray of int of shape (n_steps,)
            The steps that follow, counted from 1.
        learning_rates : ndarray of shape (n_steps,)
            Their learning rates.

        Returns
        -------
        scalars : dict of str to ndarray of shape (n_steps,)
            `update` finds them as ``step.name``.
        """
        return {}

    def update(self, u: Array, params: Array, state: State, step: Step) -> Update:
        """Return the new update and the new state.

        Parameters
        ----------
        u : array of shape (n_trainable,)
            The gradient, as the transforms before have left it.
        params : array of shape (n_trainable,)
            The parameters before the step.
        state : dict of str to array
            What `init`, or the step before, has returned.
        step : namespace
            Has ``learning_rate`` and the numbers of `prepare` for this step, by name.

        Returns
        -------
        u : array of shape (n_trainable,)
            The new update.
        state : dict of str to array
            The new state, by the names of `init`.
        """
        return u, state


@dataclass(frozen=True)
class AddL2Gradient(Transform):
    """Add the gradient of the penalty ``strength / 2 * |w|^2``: ``g += strength * w``.

    Acts on the first parameters: the weights, without the biases.

    Shape: w and g (n_trainable,).

    Parameters
    ----------
    strength : float
        Of the penalty.
    n_decayed : int
        The number of parameters that it acts on.

    References
    ----------
    A. Krogh and J. A. Hertz, "A simple weight decay can improve generalization", NeurIPS 1991.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.optim import AddL2Gradient
    >>> AddL2Gradient(0.1, n_decayed=1).update(np.zeros(2), np.array([5.0, 7.0]), {}, None)[0]
    array([0.5, 0. ])
    """

    strength: float
    n_decayed: int

    def update(self, u: Array, params: Array, state: State, step: Step) -> Update:
        is_decayed = np.arange(len(params)) < self.n_decayed
        return u + constant_like(self.strength * is_decayed, params) * params, state


@dataclass(frozen=True)
class ClipByGlobalNorm(Transform):
    """Limit the norm of each member's whole gradient: ``g = g min(1, max_norm / |g|)``.

    Shape: g (n_trainable,).

    Parameters
    ----------
    max_norm : float
        The largest norm.

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, arXiv:1211.5063.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.optim import ClipByGlobalNorm
    >>> ClipByGlobalNorm(1.0).update(np.array([3.0, 4.0]), np.zeros(2), {}, None)[0]
    array([0.6, 0.8])
    """

    max_norm: float

    def update(self, u: Array, params: Array, state: State, step: Step) -> Update:
        norm = sqrt((u * u).sum())
        return u * (self.max_norm / maximum(norm, self.max_norm)), state


@dataclass(frozen=True)
class ScaleByRMS(Transform):
    """Divide by the root of the running mean of squares.

    ``v = decay v + (1 - decay) g^2``, ``u = g / (sqrt(v) + epsilon)``

    The place of epsilon is PyTorch's.

    Shape: g, v and u (n_trainable,).

    Parameters
    ----------
    decay : float
        Share of itself that the mean keeps.
    epsilon : float
        Keeps the divisor off zero.

    References
    ----------
    T. Tieleman and G. Hinton, "Lecture 6.5: RMSProp", COURSERA, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.optim import ScaleByRMS
    >>> rms, params = ScaleByRMS(0.75, 0.0), np.zeros(2)
    >>> rms.update(np.array([3.0, -4.0]), params, rms.init(params), None)[0]
    array([ 2., -2.])
    """

    decay: float
    epsilon: float

    def init(self, params: np.ndarray) -> State:
        return {"second_moment": np.zeros_like(params)}

    def update(self, u: Array, params: Array, state: State, step: Step) -> Update:
        v = self.decay * state["second_moment"] + (1.0 - self.decay) * u * u
        return u / (sqrt(v) + self.epsilon), {"second_moment": v}


@fused(np.broadcast_shapes, n_results=3)
def adam_direction(
    g: Array, m: Array, v: Array, beta_1: float, beta_2: float, scale: Array, epsilon: Array
) -> tuple[Array, Array, Array]:
    """Return ``scale m / (sqrt(v) + epsilon)`` for the new moments m and v, and these."""
    m = beta_1 * m + (1.0 - beta_1) * g
    v = beta_2 * v + (1.0 - beta_2) * g * g
    return scale * m / (sqrt(v) + epsilon), m, v


@dataclass(frozen=True)
class ScaleByAdam(Transform):
    """Divide the running mean of the gradient by the root of that of its square.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)``

    Both means start at zero; the divisors undo that bias. Epsilon comes after them, as in PyTorch
    and the paper's algorithm 1; MLPClassifier adds it before. As the divisors depend on the step
    alone, they are joined: ``m s / (sqrt(v) + r epsilon)`` with ``r = sqrt(1 - b2^t)`` and
    ``s = r / (1 - b1^t)``.

    Shape: g, m, v and u (n_trainable,).

    Parameters
    ----------
    beta_1, beta_2 : float
        Shares of themselves, b1 and b2, that the means keep.
    epsilon : float
        Keeps the divisor off zero.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015,
    arXiv:1412.6980.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from skdnn.optim import ScaleByAdam
    >>> adam, params = ScaleByAdam(0.9, 0.999, 0.0), np.zeros(2)
    >>> first = SimpleNamespace(**adam.prepare(np.array(1), np.array(0.01)))
    >>> adam.update(np.array([3.0, -4.0]), params, adam.init(params), first)[0]
    array([ 1., -1.])
    """

    beta_1: float
    beta_2: float
    epsilon: float

    def init(self, params: np.ndarray) -> State:
        return {"first_moment": np.zeros_like(params), "second_moment": np.zeros_like(params)}

    def prepare(self, steps: np.ndarray, learning_rates: np.ndarray) -> Scalars:
        correction_2 = np.sqrt(1.0 - self.beta_2**steps)
        return {
            "scale": correction_2 / (1.0 - self.beta_1**steps),
            "epsilon": self.epsilon * correction_2,
        }

    def update(self, u: Array, params: Array, state: State, step: Step) -> Update:
        m, v = state["first_moment"], state["second_moment"]
        u, m, v = adam_direction(u, m, v, self.beta_1, self.beta_2, step.scale, step.epsilon)
        return u, {"first_moment": m, "second_moment": v}


@dataclass(frozen=True)
class ScaleByNAdam(Transform):
    """Combine Nesterov's momentum with Adam's divisor.

    The mean of the gradient is taken as it will be after the next step:

    ``mu_t = b1 (1 - 0.96^(0.004 t) / 2)``, ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``u = (mu_{t+1} m / (1 - mu_1 ... mu_{t+1}) + (1 - mu_t) g / (1 - mu_1 ... mu_t))
    / (sqrt(v / (1 - b2^t)) + epsilon)``

    Shape: g, m, v and u (n_trainable,).

    Parameters
    ----------
    beta_1, beta_2 : float
        Shares of themselves, b1 and b2, that the means keep.
    epsilon : float
        Keeps the divisor off zero.

    References
    ----------
    T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR 2016 workshop.

    Examples
    --------
    >>> from skdnn import DeepBinaryClassifier
    >>> from skdnn.optim import ScaleByNAdam
    >>> model = DeepBinaryClassifier(solver=ScaleByNAdam(0.9, 0.999, 1e-8))  # as solver="nadam"
    """

    beta_1: float
    beta_2: float
    epsilon: float

    def init(self, params: np.ndarray) -> State:
        return {"first_moment": np.zeros_like(params), "second_moment": np.zeros_like(params)}

    def prepare(self, steps: np.ndarray, learning_rates: np.ndarray) -> Scalars:
        all_steps = np.arange(1, steps[-1] + 2)
        mu = self.beta_1 * (1.0 - 0.5 * 0.96 ** (0.004 * all_steps))
        product = np.cumprod(mu)
        return {
            "of_g": (1.0 - mu[steps - 1]) / (1.0 - product[steps - 1]),
            "of_m": mu[steps] / (1.0 - product[steps]),
            "correction_2": 1.0 / (1.0 - self.beta_2**steps),
        }

    def update(self, u: Array, params: Array, state: State, step: Step) -> Update:
        m = self.beta_1 * state["first_moment"] + (1.0 - self.beta_1) * u
        v = self.beta_2 * state["second_moment"] + (1.0 - self.beta_2) * u * u
        u = (step.of_g * u + step.of_m * m) / (sqrt(v * step.correction_2) + self.epsilon)
        return u, {"first_moment": m, "second_moment": v}


@dataclass(frozen=True)
class ScaleByLearningRate(Transform):
    """Multiply by the negative learning rate: ``u = -learning_rate factor g``.

    Parameters may have factors of their own.

    Shape: g and u (n_trainable,).

    Parameters
    ----------
    factors : tuple of (int, float)
        Numbers of successive parameters, and their factors; ``layout.lr_factors`` of a `Network`.

    References
    ----------
    H. Robbins and S. Monro, "A stochastic approximation method", Annals of Mathematical Statistics
    22, 1951.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from skdnn.optim import ScaleByLearningRate
    >>> step = SimpleNamespace(learning_rate=0.5)
    >>> ScaleByLearningRate(((2, 1.0),)).update(np.array([3.0, -4.0]), np.zeros(2), {}, step)[0]
    array([-1.5,  2. ])
    """

    factors: tuple[tuple[int, float], ...]

    def update(self, u: Array, params: Array, state: State, step: Step) -> Update:
        sizes, factors = zip(*self.factors, strict=True)
        if len(set(factors)) > 1:
            return u * constant_like(-np.repeat(factors, sizes), u) * step.learning_rate, state
        return u * (-factors[0] * step.learning_rate), state


@dataclass(frozen=True)
class AccumulateMomentum(Transform):
    """Accumulate the last updates in a velocity: ``v = mu v + u``, ``u = v``.

    Nesterov's variant looks ahead along it: ``u = mu v + u``. Placed after the learning rate, as in
    MLPClassifier: a smaller rate slows later steps and not those already in the velocity. PyTorch
    puts it before; with a constant rate both are the same.

    Shape: u and v (n_trainable,).

    Parameters
    ----------
    momentum : float
        The share mu of the velocity that is kept.
    nesterov : bool, default=False
        Whether to look ahead.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.optim import AccumulateMomentum
    >>> momentum, params = AccumulateMomentum(0.5), np.zeros(1)
    >>> u, state = momentum.update(np.array([2.0]), params, momentum.init(params), None)
    >>> momentum.update(np.array([2.0]), params, state, None)[0]
    array([3.])
    """

    momentum: float
    nesterov: bool = False

    def init(self, params: np.ndarray) -> State:
        return {"velocity": np.zeros_like(params)}

    def update(self, u: Array, params: Array, state: State, step: Step) -> Update:
        v = self.momentum * state["velocity"] + u
        return self.momentum * v + u if self.nesterov else v, {"velocity": v}


@dataclass(frozen=True)
class DecayWeights(Transform):
    """Shrink the weights themselves: ``u = u - learning_rate rate w``.

    This decay does not pass through the optimizer's moments ("decoupled"). It acts on the first
    parameters: the weights, without the biases.

    Shape: u and w (n_trainable,).

    Parameters
    ----------
    rate : float
        Share of the weights, times the learning rate, that a step takes away.
    n_decayed : int
        How many parameters it acts on.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019,
    arXiv:1711.05101.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from skdnn.optim import DecayWeights
    >>> decay, step = DecayWeights(0.1, n_decayed=1), SimpleNamespace(learning_rate=0.5)
    >>> decay.update(np.zeros(2), np.array([20.0, 20.0]), {}, step)[0]
    array([-1.,  0.])
    """

    rate: float
    n_decayed: int

    def update(self, u: Array, params: Array, state: State, step: Step) -> Update:
        is_decayed = np.arange(len(params)) < self.n_decayed
        rate = constant_like(-self.rate * is_decayed, params)
        return add_scaled(u, params, rate, step.learning_rate), state


@fused_elementwise
def add_scaled(a: Array, b: Array, factor: Array, rate: Array) -> Array:
    """Return ``a + b factor rate``."""
    return a + b * factor * rate


@dataclass(frozen=True)
class Optimizer:
    """Apply transforms one after the other, and add the update to the parameters.

    Parameters
    ----------
    transforms : tuple of Transform
        From the gradient to the update, in this order.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.optim import Optimizer, ScaleByLearningRate
    >>> optimizer = Optimizer((ScaleByLearningRate(((2, 1.0),)),))
    >>> params, grads = np.array([1.0, 1.0]), np.array([2.0, -2.0])
    >>> scalars = optimizer.prepare(np.array(1), np.array(0.1))
    >>> optimizer.update(grads, params, optimizer.init(params), scalars)[0]
    array([0.8, 1.2])
    """

    transforms: tuple[Transform, ...]

    def init(self, params: np.ndarray) -> State:
        """Return the state before the first step.

        Parameters
        ----------
        params : ndarray of shape (n_trainable,)
            The first parameters of a member.

        Returns
        -------
        state : dict of str to ndarray
            The arrays of all transforms.

        Raises
        ------
        ValueError
            If an array is of another shape than `params`, or two have the same name.
        """
        state = State()
        for transform in self.transforms:
            state = _join(state, transform.init(params))
        for name, array in state.items():
            state[name] = np.asarray(array, params.dtype)
            if state[name].shape != params.shape:
                raise ValueError(
                    f"The state of a transform must have the shape of the parameters, "
                    f"{params.shape}, got {state[name].shape} for {name!r}."
                )
        return state

    def prepare(self, steps: np.ndarray, learning_rates: np.ndarray) -> Scalars:
        """Return the numbers that depend on the step alone.

        Parameters
        ----------
        steps : ndarray of int of shape (n_steps,)
            The steps that follow, counted from 1.
        learning_rates : ndarray of shape (n_steps,)
            Their learning rates.

        Returns
        -------
        scalars : dict of str to ndarray of shape (n_steps,)
            "learning_rate", and the numbers of all transforms.

        Raises
        ------
        ValueError
            If two have the same name.
        """
        scalars = {"learning_rate": learning_rates}
        for transform in self.transforms:
            scalars = _join(scalars, transform.prepare(steps, learning_rates))
        return scalars

    def update(
        self, grads: Array, params: Array, state: State, scalars: dict[str, Array]
    ) -> tuple[Array, State]:
        """Return the new parameters and the new state after one step.

        Parameters
        ----------
        grads : array of shape (n_trainable,)
            The gradient of the cost.
        params : array of shape (n_trainable,)
            The parameters before the step.
        state : dict of str to array
            What `init`, or the step before, has returned.
        scalars : dict of str to float
            The numbers of this step, by the names of `prepare`.

        Returns
        -------
        params : array of shape (n_trainable,)
            The new parameters.
        state : dict of str to array
            The new state, of the same names.
        """
        u, step = grads, SimpleNamespace(**scalars)
        for transform in self.transforms:
            u, own = transform.update(u, params, state, step)
            state = state | own
        return params + u, state


def _join(known: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays of some transforms and those of the next one."""
    repeated = sorted(known.keys() & own.keys())
    if repeated:
        raise ValueError(
            f"The transforms of an optimizer must give their arrays and numbers names that "
            f"differ, got {repeated} twice; rename one."
        )
    return known | own


SOLVERS = ("gd", "sgd", "rmsprop", "adam", "adamw", "nadam")


def make_optimizer(parameters: Any, layout: Any, l2: float) -> Optimizer:
    """Build the optimizer that an estimator's parameters name; the simplest is that of "gd".

    First come the gradient of the penalty and clipping, then what is special to the solver, or a
    transform of one's own in its place, the learning rate and momentum, and last the decay.

    Parameters
    ----------
    parameters : object
        Has `solver` and the other parameters of solvers, by the names of `DeepBinaryClassifier`.
    layout : Layout
        Where the parameters of the network that decay are, and their learning-rate factors.
    l2 : float
        The strength of the penalty.

    Returns
    -------
    optimizer : Optimizer
        The transforms that have an effect.
    """
    solver, n_decayed, epsilon = parameters.solver, layout.n_decayed, parameters.epsilon
    beta_1, beta_2 = parameters.beta_1, parameters.beta_2
    transforms: list[Transform] = []
    if l2 > 0.0:
        transforms.append(AddL2Gradient(l2, n_decayed))
    if parameters.max_grad_norm is not None:
        transforms.append(ClipByGlobalNorm(parameters.max_grad_norm))
    if isinstance(solver, Transform):
        transforms.append(solver)
    elif solver == "rmsprop":
        transforms.append(ScaleByRMS(beta_2, epsilon))
    elif solver in ("adam", "adamw"):
        transforms.append(ScaleByAdam(beta_1, beta_2, epsilon))
    elif solver == "nadam":
        transforms.append(ScaleByNAdam(beta_1, beta_2, epsilon))
    transforms.append(ScaleByLearningRate(layout.lr_factors))
    if solver == "sgd" and parameters.momentum > 0.0:
        transforms.append(AccumulateMomentum(parameters.momentum, parameters.nesterovs_momentum))
    if parameters.weight_decay > 0.0:
        transforms.append(DecayWeights(parameters.weight_decay, n_decayed))
    return Optimizer(tuple(transforms))
