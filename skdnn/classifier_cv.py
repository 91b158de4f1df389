"""DeepBinaryClassifierCV: an ensemble of ensembles, for those who can wait.

Several `DeepBinaryClassifier` are fitted, some with hyperparameters drawn at random. Their
predictions of rows that they did not train on say how much each counts in the average of all.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from itertools import count
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from .classifier import DeepBinaryClassifier, PredictionsMixin
from .estimator.tables import (
    Given,
    encode_labels,
    multiply_weights,
    number_groups,
    read_labels,
)
from .nn import BinaryCrossEntropy
from .preprocessing import TabularEncoder
from .training.calibration import count_evidence
from .training.interrupt import Interrupt
from .training.rows import Rows, assign_folds
from .tuning import CANDIDATES
from .typing import ArrayLike, TableLike
from .utils import (
    DocumentedMixin,
    Interval,
    check_weights,
    count_samples,
    find_stack_level,
    fit_context,
)

__all__ = ["DeepBinaryClassifierCV"]

CROSS_ENTROPY = BinaryCrossEntropy()

N_ROUNDS = 50
"""Candidates chosen by `select_weights`, with replacement: weights are multiples of a fiftieth."""

EVEN_ROWS = 2_000
"""Rows that the selection has to outweigh: with so many, weights are halfway to equal ones."""

CLEARLY_WORSE = 3.0
"""Standard errors above the least loss, beyond which a candidate is left out."""

N_FOLDS = 8
"""Folds of the boosted trees, as many as those of the networks by default."""

MOST_LEVELS = 253
"""Levels of a category that the boosted trees tell apart, beside missing and unknown ones: they
have 255 bins."""

BOOSTING = {"learning_rate": 0.05, "max_iter": 300}
"""Parameters of the boosted trees, for early stopping: at their defaults they are too certain on
small tables to be of use in an average."""

FEWEST_TO_STOP = 20
"""Rows of each class from which on the boosted trees stop early, by a tenth of them."""


class Candidate(NamedTuple):
    """A fitted estimator of the pool.

    Attributes
    ----------
    name : str
        Of the class.
    estimator : DeepBinaryClassifier or Pipeline
    params : dict
        The parameters that were drawn for it.
    logits : ndarray of shape (n_samples,)
        Out of fold; NaN for rows that were never held out.
    fit_time : float
        Seconds.
    """

    name: str
    estimator: Any
    params: dict[str, Any]
    logits: NDArray[np.float64]
    fit_time: float


class DeepBinaryClassifierCV(DocumentedMixin, PredictionsMixin, ClassifierMixin, BaseEstimator):
    """Average ensembles of networks, weighted by their predictions out of fold.

    A mode of `DeepBinaryClassifier` for those who can wait. It fits a pool of candidates: the first
    is the estimator itself; of the others every second one has a width, depth, activation,
    embedding, dropout, weight decay and learning rate that are drawn at random, and those between
    differ by their seeds alone. Each is an ensemble whose networks hold out folds of the rows. The
    weights in the average of their logits are those that do well out of fold; candidates of weight
    zero are dropped.

    Parameters
    ----------
    estimator : DeepBinaryClassifier or None, default=None
        The first candidate. For the others, parameters that it leaves at their defaults are drawn,
        and those that it sets are kept. It needs several networks and early stopping, which hold
        out rows; None is ``DeepBinaryClassifier()``.
    n_candidates : int or None, default=8
        Candidates at most, beside boosted trees. Each has its own random stream, and is the same
        whatever their number. None is as many as `max_time` allows.
    max_time : float or None, default=None
        Seconds after which no new candidate begins, and the one at work ends with its epoch. How
        many are finished depends on the machine: two runs with the same `random_state` may differ.
    blend_boosting : bool, default=False
        Whether scikit-learn's HistGradientBoostingClassifier, which is no network, is one more
        candidate. It gets the table from a `TabularEncoder`, with all categories as such, and is
        validated on folds of its own, made as those of networks: a group, and copies of a row, lie
        in the same one. For it a row of weight k is not k rows, since it counts the rows of its
        leaves.
    n_jobs : int or None, default=None
        Threads of each candidate's fit, in place of the estimator's own, which None leaves.
        Candidates are fitted one after the other.
    random_state : int, RandomState instance or None, default=None
        Seed of the first candidate, and of the streams that those of the others and what is drawn
        for them come from.
    verbose : bool or int, default=False
        Whether to print a line for each candidate.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels, in sorted order.
    estimators_ : list of estimators
        Fitted candidates of weights above zero; they predict and cannot be trained further. The
        one of `blend_boosting` is a Pipeline.
    weights_ : ndarray of shape (n_estimators,)
        Their weights, which sum to 1.
    pool_ : dict of str to list or ndarray
        The whole pool, as a table for ``pandas.DataFrame``: of each candidate its "estimator" (the
        name of the class), "params" (what was drawn for it), "log_loss" (out of fold, weighted),
        "weight" and "fit_time" (seconds).
    oof_decision_function_ : ndarray of shape (n_samples,)
        The weighted average of the candidates' logits out of fold; NaN for rows that some of them
        never hold out.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where X had names that are all strings.

    See Also
    --------
    DeepBinaryClassifier : A single candidate, several times faster.
    skdnn.tuning.search_space : Ranges for Optuna, which searches for one best candidate.
    sklearn.ensemble.VotingClassifier : An average of classifiers with weights of your own.

    Notes
    -----
    The weights are found by ensemble selection with replacement [1]_: 50 times the candidate is
    chosen that, averaged with those chosen before, has the least log-loss out of fold, whatever
    `loss` the networks train on. Left out before are candidates whose loss lies above the least one
    by three standard errors of the difference. With w the share of the choices of one of the m
    others, and n the effective number of rows, ``(sum w)^2 / sum w^2`` of their weights where
    copies of a row are one, its weight is

        ``(n w + 2000 / m) / (n + 2000)``,

    as few rows cannot tell candidates apart. Weights below half of 1 / m are set to zero.

    References
    ----------
    .. [1] R. Caruana, A. Niculescu-Mizil, G. Crew and A. Ksikes, "Ensemble selection from
       libraries of models", ICML 2004.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skdnn import DeepBinaryClassifier, DeepBinaryClassifierCV
    >>> X, y = make_classification(random_state=0)
    >>> quick = DeepBinaryClassifier(max_iter=4)
    >>> model = DeepBinaryClassifierCV(quick, n_candidates=3, random_state=0).fit(X, y)
    >>> sorted(model.pool_)
    ['estimator', 'fit_time', 'log_loss', 'params', 'weight']
    >>> float(model.pool_["weight"].sum().round(6))
    1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [DeepBinaryClassifier, None],
        "n_candidates": [Interval(Integral, 1, None, closed="left"), None],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "blend_boosting": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # What `fit` sets; declared only, so that there is none before.
    classes_: NDArray[Any]
    estimators_: list[Any]
    weights_: NDArray[np.float64]
    pool_: dict[str, Any]
    oof_decision_function_: NDArray[np.float64]
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    def __init__(
        self,
        estimator: DeepBinaryClassifier | None = None,
        *,
        n_candidates: int | None = 8,
        max_time: float | None = None,
        blend_boosting: bool = False,
        n_jobs: int | None = None,
        random_state: int | RandomState | None = None,
        verbose: int = False,
    ) -> None:
        self.estimator = estimator
        self.n_candidates = n_candidates
        self.max_time = max_time
        self.blend_boosting = blend_boosting
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    if TYPE_CHECKING:  # what scikit-learn makes has no types

        def set_fit_request(self, **requests: bool | str | None) -> Self: ...
        def set_score_request(self, **requests: bool | str | None) -> Self: ...

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: TableLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the candidates, and find their weights.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_samples, n_features)
            The table, as for `DeepBinaryClassifier`.
        y : array-like of shape (n_samples,)
            Labels of any type, of two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, at least 0, also in the selection; None stands for ones.
        groups : array-like of shape (n_samples,), default=None
            What rows belong together, as any label: rows of a group are held out together.

        Returns
        -------
        self : DeepBinaryClassifierCV
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a parameter cannot be used, or if the estimator holds out no rows.

        Warns
        -----
        ConvergenceWarning
            If Ctrl-C ended the fit; the pool has the candidates until then.
        """
        base = DeepBinaryClassifier() if self.estimator is None else clone(self.estimator)
        self._check(base, X)
        is_seed = isinstance(self.random_state, Integral)
        drawn = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        base.set_params(random_state=self.random_state if is_seed else drawn)
        if self.n_jobs is not None:
            base.set_params(n_jobs=self.n_jobs)
        given = Given(X, y, sample_weight, groups=groups)
        pool = self._fit_pool(base, given)
        classes = pool[0].estimator.classes_
        rows = read_rows(given, classes, base.class_weight)
        logits = np.stack([candidate.logits for candidate in pool])
        weights = select_weights(logits, rows.y, rows.weights)
        validate_data(self, X, skip_check_array=True)
        self.classes_ = classes
        self.estimators_ = [c.estimator for c, w in zip(pool, weights, strict=True) if w > 0.0]
        self.weights_ = weights[weights > 0.0]
        self.pool_ = {
            "estimator": np.array([c.name for c in pool]),
            "params": [c.params for c in pool],
            "log_loss": np.array([log_loss(z, rows.y, rows.weights) for z in logits]),
            "weight": weights,
            "fit_time": np.array([c.fit_time for c in pool]),
        }
        self.oof_decision_function_ = weights @ logits
        return self

    def decision_function(self, X: TableLike) -> NDArray[np.floating]:
        """Return the weighted average of the candidates' logits for each row.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        logit : ndarray of shape (n_samples,)
            Positive where ``classes_[1]`` is more likely.
        """
        return self._predict_logits(X)[0]

    def _predict_logits(self, X: TableLike) -> tuple[np.ndarray, np.dtype]:
        check_is_fitted(self)
        logits = [estimator.decision_function(X) for estimator in self.estimators_]
        logit = sum(w * z for w, z in zip(self.weights_.tolist(), logits, strict=True))
        return logit, logit.dtype

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        base = DeepBinaryClassifier() if self.estimator is None else self.estimator
        tags.input_tags = get_tags(base).input_tags
        tags.input_tags.sparse &= not self.blend_boosting
        return tags

    def _check(self, base: DeepBinaryClassifier, X: Any) -> None:
        """Refuse before training what cannot be fitted."""
        if self.n_candidates is None and self.max_time is None:
            raise ValueError("n_candidates=None needs max_time, which ends the fit; set either.")
        is_single = base.n_members == 1 or (base.n_members == "auto" and base.max_fun is not None)
        if is_single or base.solver == "lbfgs" or base.early_stopping is False:
            raise ValueError(
                "estimator must hold out rows of X, to say how good it is: several networks "
                f"(n_members={base.n_members!r}, max_fun={base.max_fun!r}), early stopping "
                f"(early_stopping={base.early_stopping!r}) and another solver than 'lbfgs' "
                f"(solver={base.solver!r}). Leave these parameters at their defaults."
            )
        has_own_encoder = not isinstance(base.encoder, str | TabularEncoder | None)
        if self.blend_boosting and (has_own_encoder or issparse(X)):
            raise ValueError(
                "blend_boosting=True takes tables that are not sparse, and encoder 'auto', None or "
                f"a TabularEncoder; got {type(X).__name__} and encoder={base.encoder!r}. Set "
                "blend_boosting=False."
            )

    def _fit_pool(self, base: DeepBinaryClassifier, given: Given) -> list[Candidate]:
        """Fit candidates until there are enough, the time is over, or Ctrl-C."""
        started = time.monotonic()
        end = np.inf if self.max_time is None else started + self.max_time
        pool: list[Candidate] = []
        for number in count() if self.n_candidates is None else range(self.n_candidates):
            if pool and time.monotonic() >= end:
                break
            params = draw_params(base, number, pool[0].estimator) if pool else {}
            with warnings.catch_warnings():
                if pool:  # the first one has warned of what is the matter with the table
                    warnings.simplefilter("ignore")
                candidate = fit_network(base, params, given, end)
            is_interrupted = Interrupt.last_request >= started
            if not (pool and is_interrupted):
                pool.append(candidate)
                if self.verbose:
                    print(f"candidate {number}: {candidate.fit_time:.1f} s, {params}", flush=True)
            if is_interrupted:
                warnings.warn(
                    f"Fitting was interrupted in candidate {number}; the pool has those before it.",
                    ConvergenceWarning,
                    stacklevel=find_stack_level(),
                )
                break
            if self.blend_boosting and number == 0:
                pool.append(fit_boosting(base, given, candidate.estimator.classes_))
        return pool


def read_rows(given: Given, classes: np.ndarray, class_weight: Any) -> Rows:
    """Return what `fit` is given with labels as 0.0 / 1.0, and weights with those of classes."""
    _, y = encode_labels(np.ravel(read_labels(given.y)), classes)
    weight = check_weights(given.sample_weight, y, may_vanish=False)
    totals = np.bincount(y.astype(np.intp), weights=weight)
    return multiply_weights(Rows(given.X, y, weight), class_weight, classes, totals)


def draw_params(
    base: DeepBinaryClassifier, number: int, first: DeepBinaryClassifier
) -> dict[str, Any]:
    """Return the parameters of a candidate: its seed, and for every other one what is drawn.

    Drawn are parameters that the estimator leaves at their defaults. Numbers that the first
    candidate does not embed, as very many, are not embedded.
    """
    own, defaults = base.get_params(deep=False), DeepBinaryClassifier().get_params(deep=False)
    stream = np.random.SeedSequence([own["random_state"], number])
    seed = {"random_state": int(stream.generate_state(1)[0])}
    if number % 2 == 0:
        return seed
    distributions = {name: values.distribution() for name, values in CANDIDATES.items()}
    [drawn] = ParameterSampler(distributions, 1, **seed)
    is_set = {n: type(own[n]) is not type(defaults[n]) or own[n] != defaults[n] for n in drawn}
    is_set["numeric_embedding"] |= first.resolved_params_.get("numeric_embedding", "") is None
    params = {n: float(v) if isinstance(v, np.floating) else v for n, v in drawn.items()}
    return seed | {name: value for name, value in params.items() if not is_set[name]}


def fit_network(
    base: DeepBinaryClassifier, params: dict[str, Any], given: Given, end: float
) -> Candidate:
    """Fit a candidate; its training ends when the time is over."""
    started = time.monotonic()
    estimator = clone(base).set_params(**params)
    if np.isfinite(end):
        left = max(end - started, 1e-3)
        estimator.set_params(max_time=min(left, estimator.max_time or np.inf))
    estimator.fit(given.X, given.y, given.sample_weight, groups=given.groups)
    logits = getattr(estimator, "oof_decision_function_", np.full(count_samples(given.X), np.nan))
    seconds = time.monotonic() - started
    name = type(estimator).__name__
    return Candidate(name, estimator.without_training_state(), params, logits, seconds)


def fit_boosting(base: DeepBinaryClassifier, given: Given, classes: np.ndarray) -> Candidate:
    """Fit boosted trees, and predict rows by trees that have not seen them."""
    started = time.monotonic()
    rows = read_rows(given, classes, base.class_weight)
    is_second, weight = rows.y > 0.0, rows.weights
    if base.encoder is None:
        encoder = FunctionTransformer(np.asarray)
    else:
        is_auto = isinstance(base.encoder, str)
        encoder = TabularEncoder(base.categorical_features) if is_auto else clone(base.encoder)
        encoder.set_params(max_one_hot=0, max_categories=MOST_LEVELS)
    with warnings.catch_warnings(action="ignore"):  # networks have warned of the table
        X = encoder.set_output(transform="default").fit_transform(given.X)
    first_code = X.shape[1] - len(getattr(encoder, "code_sizes_", ()))
    boosting = HistGradientBoostingClassifier(
        categorical_features=np.arange(X.shape[1]) >= first_code,
        early_stopping=bool(np.bincount(is_second).min() >= FEWEST_TO_STOP),
        random_state=base.random_state,
        **BOOSTING,
    )
    logits = np.full(len(X), np.nan)
    groups = None if given.groups is None else number_groups(given.groups, given.X)
    rows = replace(rows, X=X.astype(np.float64, copy=False), group=groups)
    for test in assign_folds(rows, N_FOLDS, 0.0, np.random.default_rng(base.random_state)):
        if test.any():
            fold = clone(boosting).fit(X[~test], is_second[~test], weight[~test])
            logits[test] = fold.decision_function(X[test])
    estimator = make_pipeline(encoder, boosting.fit(X, is_second, weight))
    seconds = time.monotonic() - started
    return Candidate(type(boosting).__name__, estimator, BOOSTING, logits, seconds)


def log_loss(logits: np.ndarray, is_second: np.ndarray, weight: np.ndarray) -> float:
    """Return the mean loss of the rows that have a logit; NaN if none has."""
    weight = np.where(np.isfinite(logits), weight, 0.0)
    losses = CROSS_ENTROPY.loss(is_second, np.nan_to_num(logits))
    return float(np.average(losses, weights=weight)) if weight.any() else np.nan


def select_weights(logits: np.ndarray, is_second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weights of candidates, given their logits out of fold, (n_candidates, n_rows)."""
    is_known = np.isfinite(logits).all(axis=0)
    logits, is_second, weight = logits[:, is_known], is_second[is_known], weight[is_known]
    if not weight.any():
        return np.full(len(logits), 1.0 / len(logits))
    _, copied = np.unique(logits[0].round(6), return_inverse=True)  # copies of a row are one
    n_rows = count_evidence(np.bincount(copied, weight), np.ones(1))
    weight = weight / weight.sum()
    is_able = ~find_worse(CROSS_ENTROPY.loss(is_second, logits), weight, n_rows)
    shares, total = np.zeros(len(logits)), np.zeros(len(weight))
    for number in range(1, N_ROUNDS + 1):
        averages = (total + logits[is_able]) / number
        best = np.flatnonzero(is_able)[np.argmin(CROSS_ENTROPY.loss(is_second, averages) @ weight)]
        shares[best] += 1.0 / N_ROUNDS
        total += logits[best]
    even = is_able / is_able.sum()
    weights = (n_rows * shares + EVEN_ROWS * even) / (n_rows + EVEN_ROWS)
    weights[weights < even / 2] = 0.0
    return weights / weights.sum()


def find_worse(losses: np.ndarray, weight: np.ndarray, n_rows: float) -> np.ndarray:
    """Say of each candidate whether it is clearly worse than the best one, row by row."""
    excess = losses - losses[np.argmin(losses @ weight)]
    mean = excess @ weight
    variance = (excess - mean[:, np.newaxis]) ** 2 @ weight
    return mean > CLEARLY_WORSE * np.sqrt(variance / n_rows)
