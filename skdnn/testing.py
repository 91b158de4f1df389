"""Check gradients by numerical derivatives; print versions.

The complex step needs no subtraction and is exact to rounding: for an analytic f, ``f'(x) = Im f(x
+ i h) / h`` with an h so small (1e-30) that h^2 vanishes. Functions that are not analytic are
checked by central differences, and float32 along a random direction, as the rounding errors of
single entries are too large.
"""

from __future__ import annotations

import os
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import sklearn
from joblib import cpu_count

from .engine.executors import Feed, Memory
from .engine.formula import Formula
from .engine.loading import is_numba_usable
from .engine.trace import UntraceableError
from .estimator.fitting import prepare
from .estimator.tables import Given
from .nn import Activation, BinaryCrossEntropy, Loss, Network
from .training.rows import Rows
from .training.state import make_stream
from .training.step import training_formula
from .training.threads import resolve_n_jobs

if TYPE_CHECKING:
    from .classifier import DeepBinaryClassifier


Mode = Literal["auto", "complex", "central", "directional"]

COMPLEX_STEP = 1e-30
CENTRAL_STEP = 1e-6
TOLERANCES = {"complex": 1e-12, "central": 1e-6, "directional": 1e-3}
METHODS = {
    "complex": "the complex step",
    "central": "central differences",
    "directional": "central differences along a random direction, in float32",
}


@dataclass(frozen=True)
class GradientReport:
    """Report the errors of gradients, parameter by parameter.

    `check_gradients` returns it; printed, it is a table.

    Parameters
    ----------
    mode : {"complex", "central", "directional"}
        What the gradients were compared with.
    errors : dict of str to float
        The largest error of each parameter over all its entries and members: the absolute
        difference, divided by the largest gradient of the network where that is above 1.
    gradients : dict of str to float
        The largest absolute gradient of each parameter.
    tolerance : float
        The error up to which a gradient counts as right.

    See Also
    --------
    check_gradients : Make such a report.

    Examples
    --------
    >>> from skdnn import GradientReport
    >>> report = GradientReport("central", {"dense_1.W": 0.3}, {"dense_1.W": 1.2}, 1e-6)
    >>> report.passed
    False
    """

    mode: str
    errors: dict[str, float]
    gradients: dict[str, float]
    tolerance: float

    @property
    def max_error(self) -> float:
        """The largest of all errors; not a number if one of them is not."""
        return float(np.max(list(self.errors.values())))

    @property
    def passed(self) -> bool:
        """Whether every error is within the tolerance; one that is not a number is not."""
        return not self._wrong

    @property
    def _wrong(self) -> list[str]:
        return [name for name, error in self.errors.items() if not error <= self.tolerance]

    def __str__(self) -> str:
        width = max(len(name) for name in self.errors)
        lines = [
            f"Gradients by back-propagation against {METHODS[self.mode]}:",
            f"  {'parameter':{width}}  largest gradient  largest error",
        ]
        lines += [
            f"  {name:{width}}  {self.gradients[name]:16.3g}  {error:13.2e}"
            for name, error in self.errors.items()
        ]
        verdict = (
            f"Wrong beyond the tolerance of {self.tolerance:g}: {', '.join(self._wrong)}."
            if self._wrong
            else f"All errors are within the tolerance of {self.tolerance:g}."
        )
        return "\n".join([*lines, verdict])


def check_gradients(
    estimator_or_network: DeepBinaryClassifier | Network,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    mode: Mode = "auto",
    random_state: int = 0,
) -> GradientReport:
    """Compare the gradients of the cost by back-propagation with numerical ones.

    Use it before trusting an activation function or a layer of your own. Dropout is on, with masks
    held fixed; the L2 penalty of an estimator is part of its cost.

    Parameters
    ----------
    estimator_or_network : DeepBinaryClassifier or Network
        An estimator is checked at its fitted weights, or near its first ones if it is not fitted;
        it is left as it is. A network is checked at random weights. Where a kink is met exactly,
        such as ReLU's at 0, there is no derivative to agree on, and an error is reported.
    X : array-like of shape (n_samples, n_features)
        Rows to compute the cost on; a few are enough.
    y : array-like of shape (n_samples,)
        Their labels; 0 and 1 for a network.
    sample_weight : array-like of shape (n_samples,), default=None
        Their weights.
    mode : {"auto", "complex", "central", "directional"}, default="auto"
        "complex" is exact but needs functions that accept complex numbers; "central" is good for
        six digits of any function; "directional" checks the gradients as float32 computes them.
        "auto" is "central" if there is a layer, an activation function or a loss of the user's own,
        else "complex".
    random_state : int, default=0
        Seed of the weights, the dropout masks and the direction.

    Returns
    -------
    report : GradientReport
        Errors by parameter; `print` shows a table.

    Raises
    ------
    ValueError
        If `mode` is unknown, or the estimator refuses the data.

    See Also
    --------
    scipy.optimize.check_grad : The same idea by forward differences, for any function.

    References
    ----------
    J. Martins, P. Sturdza and J. Alonso, "The complex-step derivative approximation", ACM
    Transactions on Mathematical Software 29, 2003.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skdnn import DeepBinaryClassifier, check_gradients
    >>> X, y = make_classification(20, 5, random_state=0)
    >>> estimator = DeepBinaryClassifier((5, 5), "tanh", n_members=2, dropout=0.5)
    >>> check_gradients(estimator, X, y).passed
    True
    """
    if mode != "auto" and mode not in TOLERANCES:
        raise ValueError(f"mode must be 'auto' or one of {sorted(TOLERANCES)}, got {mode!r}.")
    if isinstance(estimator_or_network, Network):
        cost = _Cost.of_network(estimator_or_network, X, y, sample_weight, random_state)
    else:
        cost = _Cost.of_estimator(estimator_or_network, X, y, sample_weight, random_state)
    own_parts = _find_own_parts(cost)
    if mode == "auto":
        mode = "central" if own_parts else "complex"
    gradient = cost.gradient(np.float32 if mode == "directional" else np.float64)
    scale = max(1.0, float(np.abs(gradient).max()))
    errors, gradients = {}, {}
    layout = cost.network.layout
    for name, columns in layout.columns.items():
        if layout.specs[name].trainable:
            errors[name] = _find_error(cost, mode, gradient, columns) / scale
            gradients[name] = float(np.abs(gradient[:, columns]).max())
    for place, part in own_parts:
        if hasattr(part, "value"):
            name = f"derivative of {type(part).__name__} ({place})"
            errors[name], gradients[name] = _activation_error(part)
    for executor in ("numpy", "numba") if is_numba_usable() else ("numpy",):
        with suppress(UntraceableError):  # which is trained by the formulas themselves
            programmed = cost.gradient(np.float64, executor)
            error = np.abs(programmed - cost.gradient(np.float64)).max()
            errors[f"program by {executor}"] = float(error) / scale
            gradients[f"program by {executor}"] = float(np.abs(programmed).max())
    return GradientReport(mode, errors, gradients, TOLERANCES[mode])


@dataclass(frozen=True)
class _Cost:
    """The cost of each member as a deterministic function of the flat parameters."""

    network: Network
    params: np.ndarray  # (n_members, n_params)
    rows: Rows
    l2: float
    loss: Loss
    seed: int

    @classmethod
    def of_network(cls, network: Network, X: Any, y: Any, sample_weight: Any, seed: int) -> _Cost:
        members = range(network.n_members)
        params = network.init_params([make_stream(seed, "initialization", i) for i in members])
        weight = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        rows = Rows(np.asarray(X, np.float64), np.asarray(y, np.float64), weight)
        params = _off_zero(network, params, seed)
        return cls(network, params, rows, 0.0, BinaryCrossEntropy(), seed)

    @classmethod
    def of_estimator(
        cls, estimator: DeepBinaryClassifier, X: Any, y: Any, sample_weight: Any, seed: int
    ) -> _Cost:
        estimator = deepcopy(estimator)
        estimator._validate_params()
        is_fitted = hasattr(estimator, "params_")
        estimator.set_params(warm_start=True)  # at the weights that it has, if it has any
        if not is_fitted:
            estimator.set_params(random_state=seed)
        _, plan, state, rows, _ = prepare(estimator, Given(X, y, sample_weight))
        X, y = rows.X.astype(np.float64), rows.y.astype(np.float64)
        rows = replace(rows, X=X, y=y).normalize_weights()
        params: np.ndarray = state.params.astype(np.float64)
        if not is_fitted:
            params = _off_zero(plan.network, params, seed)
        return cls(plan.network, params, rows, plan.l2, plan.loss, seed)

    def __call__(self, params: np.ndarray) -> np.ndarray:
        """Return the cost of each member, shape (n_members,), in the dtype of `params`."""
        weights = params[:, : self.network.layout.n_decayed]
        costs = 0.5 * self.l2 * (weights * weights).sum(axis=1)
        for member in range(len(params)):
            logits = self._run(params, member, "eager")["logits"]
            losses = self.loss.loss(self.rows.y, logits)
            weight = self.rows.sample_weight
            costs[member] += (losses if weight is None else losses * weight).mean()
        return costs

    def gradient(self, dtype: type, executor: str = "eager") -> np.ndarray:
        """Return the gradient by back-propagation, shape (n_members, n_trainable)."""
        params: np.ndarray = self.params.astype(dtype)
        n_decayed = self.network.layout.n_decayed
        grads = np.empty((len(params), self.network.layout.n_trainable))
        for member in range(len(params)):
            grads[member] = self._run(params, member, executor)["grads"]
        grads[:, :n_decayed] += self.l2 * params[:, :n_decayed]
        return grads

    def _run(self, params: np.ndarray, member: int, executor: str) -> dict[str, np.ndarray]:
        """Run a step of a member: its program, or if "eager", its formula in any dtype."""
        n, (formula, bits) = len(self.rows), self._formulas[member]
        compiled = formula if executor == "eager" else formula.compile(executor)
        executable = Memory(params.dtype).executable(compiled)
        n_trainable = self.network.layout.n_trainable
        executable.views["params"][0] = params[member, :n_trainable]
        if params.shape[1] > n_trainable:
            executable.views["statistics"][0] = params[member, n_trainable:]
        feed = Feed(
            np.ascontiguousarray(self.rows.X, params.dtype),
            np.arange(n)[np.newaxis, np.newaxis],
            self.rows.y.astype(params.dtype),
            None if self.rows.sample_weight is None else self.rows.sample_weight[np.newaxis],
            bits=bits[np.newaxis, np.newaxis],
            logits=np.empty((1, 1, n), params.dtype),
        )
        executable.run(feed)
        return {name: view[0] for name, view in executable.views.items()}

    @cached_property
    def _formulas(self) -> list[tuple[Formula, np.ndarray]]:
        """The formula of a step of each member, and the random bits that it always takes."""
        formulas = []
        for member in range(self.network.n_members):
            rng = make_stream(self.seed, "dropout", member)
            formula = training_formula(
                self.network,
                self.network.of_member(member),
                len(self.rows),
                is_sparse=False,
                loss=self.loss,
                optimizer=None,
                state_names=(),
                is_weighted=self.rows.sample_weight is not None,
            )
            formulas.append((formula, rng.integers(0, 1 << 16, formula.n_bits, dtype=np.uint16)))
        return formulas


def _off_zero(network: Network, params: np.ndarray, seed: int) -> np.ndarray:
    """Move parameters off zero, where ReLU has its kink and errors of biases do not show."""
    params = params.copy()
    trainable = params[:, : network.layout.n_trainable]
    trainable += np.random.default_rng(seed).normal(0.0, 0.1, trainable.shape)
    return params


def _find_error(cost: _Cost, mode: str, gradient: np.ndarray, columns: slice) -> float:
    """Return the largest error of some columns, which are moved in all members at once.

    One after the other, or all along a random direction of length 1.
    """
    if mode == "directional":
        direction = np.random.default_rng(cost.seed).normal(size=columns.stop - columns.start)
        moves = [(columns, direction / np.linalg.norm(direction))]
    else:
        moves = [(slice(j, j + 1), np.ones(1)) for j in range(columns.start, columns.stop)]
    error = 0.0
    for moved, direction in moves:
        step = np.zeros(cost.params.shape[1])
        step[moved] = direction
        derivative = _differentiate(cost, mode, step)
        error = np.maximum(error, np.abs(derivative - gradient[:, moved] @ direction).max())
    return float(error)


def _differentiate(cost: _Cost, mode: str, direction: np.ndarray) -> np.ndarray:
    """Return the derivative of the cost of each member along a direction."""
    if mode == "complex":
        return cost(cost.params + COMPLEX_STEP * 1j * direction).imag / COMPLEX_STEP
    step = CENTRAL_STEP * direction
    return (cost(cost.params + step) - cost(cost.params - step)) / (2.0 * CENTRAL_STEP)


def _find_own_parts(cost: _Cost) -> list[tuple[str, Any]]:
    """Return the user's own loss, layers and activation functions, with their places."""
    parts = [("loss", getattr(cost.loss, "function", cost.loss))]
    for path, layer, _ in cost.network.of_member(0).walk(cost.network.n_in):
        parts.append((path[:-1], layer))
        if isinstance(layer, Activation):
            parts.append((path[:-1], layer.function))
    return [
        (place, part)
        for place, part in parts
        if not (isinstance(part, str) or type(part).__module__.startswith("skdnn."))
    ]


def _activation_error(function: Any) -> tuple[float, float]:
    """Compare a user's derivative with central differences of the value, on a grid off zero."""
    z = np.linspace(-5.0, 5.0, 400)  # an even number: zero, where kinks are, is not among them
    difference = function.value(z + CENTRAL_STEP) - function.value(z - CENTRAL_STEP)
    derivative = np.asarray(function.derivative(z))
    error = np.abs(difference / (2.0 * CENTRAL_STEP) - derivative).max()
    return float(error), float(np.abs(derivative).max())


def show_versions() -> None:
    """Print what results and speed depend on.

    The versions and threads of this package, and then what `sklearn.show_versions` prints: other
    versions, and the BLAS that NumPy and SciPy compute matrix products with. Put it into a report
    of a bug, and look here first where training is slow.

    See Also
    --------
    sklearn.show_versions : Prints the second part.

    Notes
    -----
    "compiled kernels" says whether numba (``pip install numba``) is there and has not failed; a
    training runs by them where NumPy would take half a second or more. Threads are those that
    ``n_jobs=None`` stands for, here and now.

    Examples
    --------
    >>> from skdnn import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    skdnn            ...
    compiled kernels ...
    """
    from . import __version__  # which is set after this module is imported

    numba = f"by numba {version('numba')}" if is_numba_usable() else "no"
    print(f"{'skdnn':16} {__version__}")
    print(f"{'compiled kernels':16} {numba}")
    print(f"{'n_jobs=None':16} threads: {resolve_n_jobs(None)}")
    print(f"{'processors':16} {os.cpu_count()}, of which usable: {cpu_count()}")
    sklearn.show_versions()
