"""The estimator: parameters in scikit-learn's words around the engine of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from typing import ClassVar, Self

import numpy as np
from scipy.special import expit, log_expit, logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ._architecture import build_network
from ._compat import fit_context
from ._network import Network
from ._plan import describe_architecture, first_state, make_plan
from ._rows import Rows, split_validation
from ._training import TrainingPlan, TrainingState, train
from ._validation import PARAMETER_CONSTRAINTS, check_rows, choose_dtype


class DeepBinaryClassifier(ClassifierMixin, BaseEstimator):
    """Classify rows of a table into two classes by an ensemble of deep networks.

    Several networks of dense layers, each ending in one logit, are trained side by side on the
    cross-entropy of the labels by mini-batch gradient descent; their probabilities are averaged.
    The parameters carry MLPClassifier's names wherever it has one, with the same meaning.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of shape (n_hidden_layers,), default=(64, 64)
        The network: units in each hidden layer. An integer is one layer; an empty sequence is
        logistic regression.
    activation : str, object or sequence of these, default="relu"
        The network: activation function of the hidden layers, or one for each: "identity",
        "logistic", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus",
        or an object of your own with the methods ``value(z)`` and ``derivative(z)``, which
        `check_gradients` can check.
    initialization : {"auto", "zeros", "normal", "uniform", "he_normal", "he_uniform", \
            "glorot_normal", "glorot_uniform", "lecun_normal", "lecun_uniform", "orthogonal"}, \
            default="auto"
        The network: first weights; biases begin at zero. "auto" takes the one that suits the
        activation: LeCun's for "selu", Glorot's for "identity", "logistic" and "tanh", He's for
        the others, and Glorot's for the output. With "zeros" all units of a layer learn the same.
    n_members : int, default=4
        The network: how many are trained side by side and averaged. They differ in their first
        weights, the order of their rows and their dropout. MLPClassifier trains one.
    dropout : float or sequence of floats, default=0.1
        Regularisation: probability in [0, 1) of dropping a hidden unit in a training step, or one
        for each hidden layer. MLPClassifier has none.
    alpha : float, default=1e-4
        Regularisation: strength of the L2 penalty on the weights, not on the biases: ``alpha / 2
        |W|^2`` beside the sum of the losses of all rows, whatever the batch size. MLPClassifier
        adds it once for each batch.
    weight_decay : float or None, default=None
        Regularisation: fraction of each weight, times the learning rate, that a step takes away,
        beside the gradient and not through it. None is 0.01 for solver "adamw", else 0.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with `sample_weight`; labels that a dict leaves out have
        weight 1. "balanced" makes both classes weigh the same. Weights shift the probabilities.
    solver : {"gd", "sgd", "rmsprop", "adam", "adamw", "nadam"}, default="adam"
        Learning: the optimizer. "gd" is gradient descent on all rows at each step; "sgd" takes
        mini-batches and `momentum`.
    batch_size : int or "auto", default="auto"
        Learning: rows in a step, at most. "auto" is 200. A table with fewer rows is one batch.
    learning_rate : {"constant", "invscaling", "adaptive", "cosine", "one_cycle", "coslog4"}, \
            default="cosine"
        Learning: schedule of the learning rate. "cosine" warms up for a twentieth of the steps and
        then falls to zero, which reaches a lower loss than MLPClassifier's "constant"; "one_cycle"
        rises and falls; "coslog4" does so four times. These know their end: they train for
        `max_iter` epochs. "adaptive" divides the rate by 5 whenever progress ends; "invscaling"
        divides it by ``(1 + t_)^power_t``.
    learning_rate_init : float, default=3e-3
        Learning: the learning rate that the schedule multiplies. MLPClassifier's 1e-3 is as good
        with "constant".
    power_t : float, default=0.5
        Learning: exponent of "invscaling".
    momentum : float, default=0.9
        Learning: share of the last step that "sgd" adds to the next, in [0, 1).
    nesterovs_momentum : bool, default=True
        Learning: whether "sgd" looks ahead along its momentum.
    beta_1 : float, default=0.9
        Learning: decay of the mean of the gradient in "adam", "adamw" and "nadam", in [0, 1).
    beta_2 : float, default=0.999
        Learning: decay of the mean of its square in these and in "rmsprop", in [0, 1).
    epsilon : float, default=1e-8
        Learning: smallest divisor of a gradient in these.
    max_grad_norm : float or None, default=None
        Learning: length to which a longer gradient is cut, for each member.
    max_iter : int, default=60
        Duration: epochs, that is passes over the rows, at most.
    shuffle : bool, default=True
        Duration: whether to shuffle the rows before each epoch.
    tol : float, default=1e-4
        Duration: fall of the loss that counts as progress.
    n_iter_no_change : int or inf, default=10
        Duration: epochs without progress after which a member stops. Watches the validation loss
        with `early_stopping`; without, the training loss, and only where the schedule has no end.
    early_stopping : bool, default=False
        Duration: whether to hold out validation rows and to keep, for each member, the weights of
        its best epoch on them by log-loss. MLPClassifier compares accuracies.
    validation_fraction : float, default=0.1
        Duration: fraction of the rows of each class to hold out, in (0, 1).
    dtype : {"auto", "float32", "float64"}, default="auto"
        Run: precision of training. "auto" takes float32, at twice the speed, unless X is a
        float64 table of up to 2,000 rows, or has a column that float32 would round by more than a
        thousandth of its standard deviation.
    warm_start : bool, default=False
        Run: whether `fit` goes on from where the last one ended, for `max_iter` epochs more, with
        the optimizer's state and random streams, instead of starting anew.
    random_state : int, RandomState instance or None, default=None
        Run: seed of the first weights, the shuffling, the dropout and the validation rows.
    verbose : bool or int, default=False
        Run: print a line for each epoch, or for every `verbose`-th.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels, in sorted order.
    params_ : ndarray of shape (n_members, n_params)
        All weights and biases of each member.
    coefs_ : list of ndarray
        The weights of each linear step; see the property.
    intercepts_ : list of ndarray
        The biases of each linear step; see the property.
    history_ : dict of str to list of float
        By epoch, averaged over the members still training: "loss" (of the rows, with dropout on),
        "penalty" (the L2 term, at the beginning of the epoch), "validation_loss" (with
        `early_stopping`), "learning_rate" (of its last step) and "seconds".
    loss_curve_ : list of float
        The sum of loss and penalty by epoch, as in MLPClassifier.
    n_iter_ : int
        Epochs done, those of earlier warm starts included.
    t_ : int
        Rows seen, counted again in each epoch; rows that were merged into one count once.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where X had names that are all strings.

    See Also
    --------
    sklearn.neural_network.MLPClassifier : One network, also for many classes.
    check_gradients : Prove the gradients of a network.

    Notes
    -----
    With ``a[0]`` the row, each hidden layer l computes ``z[l] = a[l-1] W[l] + b[l]`` and
    ``a[l] = g(z[l])``; the last z is the logit, and ``1 / (1 + e^-z)`` the probability of
    ``classes_[1]``. `docs/from_scratch.md` derives everything that follows from this.

    Where all rows form one batch, identical rows are merged into one with the sum of their weights,
    so that a weight of k and k equal rows give the same network to the last bit.

    Scale the features: a network learns slowly, or diverges, where they are large.

    References
    ----------
    D. E. Rumelhart, G. E. Hinton and R. J. Williams, "Learning representations by back-propagating
    errors", Nature 323, 1986.

    B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and scalable predictive uncertainty
    estimation using deep ensembles", NeurIPS 2017, arXiv:1612.01474.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdnn import DeepBinaryClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    >>> model = make_pipeline(StandardScaler(), DeepBinaryClassifier(random_state=0))
    >>> accuracy = model.fit(X_train, y_train).score(X_test, y_test)
    >>> bool(accuracy > 0.9)
    True
    """

    classes_: np.ndarray
    params_: np.ndarray
    _architecture: dict
    _resume: dict

    _parameter_constraints: ClassVar[dict] = PARAMETER_CONSTRAINTS

    def __init__(
        self,
        hidden_layer_sizes=(64, 64),
        activation="relu",
        *,
        # the network
        initialization="auto",
        n_members=4,
        # what keeps it from overfitting
        dropout=0.1,
        alpha=1e-4,
        weight_decay=None,
        class_weight=None,
        # how it learns
        solver="adam",
        batch_size="auto",
        learning_rate="cosine",
        learning_rate_init=3e-3,
        power_t=0.5,
        momentum=0.9,
        nesterovs_momentum=True,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        max_grad_norm=None,
        # how long it learns
        max_iter=60,
        shuffle=True,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        # the run
        dtype="auto",
        warm_start=False,
        random_state=None,
        verbose=False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.initialization = initialization
        self.n_members = n_members
        self.dropout = dropout
        self.alpha = alpha
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.solver = solver
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.max_grad_norm = max_grad_norm
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.dtype = dtype
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train on a table.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers, without missing values; on similar scales, or training is slow.
        y : array-like of shape (n_samples,)
            Labels of any type, of two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, at least 0. A row of weight k counts as k rows; None stands for ones.

        Returns
        -------
        self : DeepBinaryClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a parameter cannot be used, or if training diverges in its first epoch.
        """
        with _unchanged_by_failure(self):
            continues = self.warm_start and hasattr(self, "params_")
            plan, state, rows = self._pose(X, y, sample_weight, continues=continues)
            if len(rows) <= plan.batch_size:
                rows = rows.merge_identical()
            validation = None
            if self.early_stopping:
                rng = deepcopy(state.streams.split)  # a warm start validates on the same rows again
                rows, validation = split_validation(rows, self.validation_fraction, rng)
                validation = validation.normalize_weights()
            train(plan, state, rows.normalize_weights(), validation)
            return self._keep(state)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one pass over a part of a table, and remember where training stands.

        Weights are used as they are, so that they mean the same in every part. `early_stopping` is
        ignored; a `learning_rate` schedule that needs to know its end stays at its peak.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers, without missing values.
        y : array-like of shape (n_samples,)
            Labels, all of them among `classes`.
        classes : array-like of shape (2,), default=None
            The two classes. Required in the first call, checked in later ones if given.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, at least 0; None stands for ones.

        Returns
        -------
        self : DeepBinaryClassifier
            The estimator, fitted a little further.

        Raises
        ------
        ValueError
            If the data, the classes or a parameter cannot be used.
        """
        continues = hasattr(self, "params_")
        if not continues and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs all labels at once, which partial_fit "
                "never has; pass a dict, for instance from sklearn.utils.class_weight."
            )
        classes = None if classes is None else np.unique(classes)
        if continues and classes is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"classes={classes!r} are not those of the first call, {self.classes_!r}."
            )
        with _unchanged_by_failure(self):
            plan, state, rows = self._pose(
                X, y, sample_weight, continues=continues, classes=classes, is_part=True
            )
            train(plan, state, rows)
            return self._keep(state)

    def decision_function(self, X):
        """Return the logit of each row: positive where the second class is the more likely one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to judge.

        Returns
        -------
        logit : ndarray of shape (n_samples,)
            ``log(p / (1 - p))`` of the predicted probability of `classes_[1]`, which is the mean of
            the members' probabilities. Float32 if X and the weights are; float64 otherwise.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        dtype = np.result_type(X, self.params_)
        params = self.params_.astype(dtype, copy=False)
        return _average(self._network.logits(params, X.astype(dtype, copy=False)))

    def predict_proba(self, X):
        """Return the probabilities of the two classes for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to judge.

        Returns
        -------
        probability : ndarray of shape (n_samples, 2)
            Columns in the order of `classes_`.
        """
        logit = self.decision_function(X)
        return np.column_stack([expit(-logit), expit(logit)])

    def predict(self, X):
        """Return the more likely class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to judge.

        Returns
        -------
        label : ndarray of shape (n_samples,)
            Labels as in `classes_`.
        """
        is_second = self.decision_function(X) > 0
        return self.classes_[is_second.astype(np.intp)]

    @property
    def coefs_(self):
        """The weights W of each linear step, views of `params_`.

        A list of arrays of shape (n_in, n_out), as in MLPClassifier; with several members of shape
        (n_members, n_in, n_out).
        """
        return self._views("W")

    @property
    def intercepts_(self):
        """The biases b of each linear step, views of `params_`.

        A list of arrays of shape (n_out,); with several members of shape (n_members, n_out).
        """
        return [b[..., 0, :] for b in self._views("b")]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "params_")

    @property
    def _network(self) -> Network:
        return build_network(self.n_features_in_, **self._architecture)

    def _views(self, name: str) -> list[np.ndarray]:
        check_is_fitted(self)
        layout = self._network.layout
        views = [layout.view(self.params_, e) for e in layout.entries if e.endswith(f".{name}")]
        return [view[0] for view in views] if len(self.params_) == 1 else views

    def _pose(
        self, X, y, sample_weight, *, continues: bool, classes=None, is_part=False
    ) -> tuple[TrainingPlan, TrainingState, Rows]:
        """Check everything; return the plan, the state to begin from, and the rows."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], reset=not continues)
        rows, self.classes_ = check_rows(
            X,
            y,
            sample_weight,
            class_weight=self.class_weight,
            classes=self.classes_ if continues else classes,
            dtype=self.params_.dtype if continues else choose_dtype(self.dtype, X),
            is_part=is_part,
        )
        parameters = self.get_params(deep=False)
        architecture = describe_architecture(parameters)
        if continues and architecture != self._architecture:
            changed = [k for k, v in architecture.items() if v != self._architecture[k]]
            raise ValueError(
                f"Training can only go on with the same network, but {', '.join(changed)} changed "
                "since the first fit. Set them back, or train anew with warm_start=False."
            )
        self._architecture = architecture
        plan = make_plan(parameters, self._network, rows, is_part=is_part)
        if not continues:
            seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
            return plan, first_state(plan, seed, rows.X.dtype), rows
        # A copy, so that a training that fails leaves no trace.
        history = {name: values.copy() for name, values in self.history_.items()}
        state = TrainingState(self.params_.copy(), history=history, **deepcopy(self._resume))
        if not plan.optimizer.can_continue(state.optimizer):
            state.optimizer = plan.optimizer.init(state.params)
        return plan, state, rows

    def _keep(self, state: TrainingState) -> Self:
        """Turn the state of training into fitted attributes."""
        resume = {field.name: getattr(state, field.name) for field in fields(state)}
        self.params_, self.history_ = resume.pop("params"), resume.pop("history")
        self._resume = resume
        self.loss_curve_ = np.add(state.history["loss"], state.history["penalty"]).tolist()
        self.n_iter_ = len(self.loss_curve_)
        self.t_ = state.n_samples_seen
        return self


@contextmanager
def _unchanged_by_failure(estimator: DeepBinaryClassifier) -> Iterator[None]:
    """Leave a fitted estimator as it was if fitting it again fails."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


def _average(logits: np.ndarray) -> np.ndarray:
    """Return the logit of the members' mean probability: (n_samples,)."""
    if len(logits) == 1:
        return logits[0]
    return logsumexp(log_expit(logits), axis=0) - logsumexp(log_expit(-logits), axis=0)
