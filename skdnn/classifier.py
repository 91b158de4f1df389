"""The estimator: parameters in scikit-learn's words around the engine of this package."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.special import expit, log_expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neural_network import MLPClassifier
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from .estimator import encoders, explanations, fitted, fitting, tables
from .estimator.explanations import Explanation
from .estimator.parameters import (
    PARAMETER_CONSTRAINTS,
    Activations,
    HiddenLayerSizes,
    Rates,
    Schedules,
)
from .optim import Transform
from .preprocessing import TabularEncoder
from .training.prediction import Predictor
from .typing import ArrayLike, LossLike, TableLike
from .utils import (
    CallbackSupportMixin,
    DocumentedMixin,
    available_if,
    fill_masked,
    fit_context,
    with_usual_errors,
)


class PredictionsMixin:
    """Probabilities and labels by `_predict_logits`, which classifiers share that have a logit."""

    classes_: NDArray[Any]

    @abstractmethod
    def _predict_logits(self, X: TableLike) -> tuple[np.ndarray, np.dtype]:
        """Return the logit of each row, in float64, and the dtype of predictions of such rows."""

    @with_usual_errors
    def predict_proba(self, X: TableLike) -> NDArray[np.floating]:
        """Return the probabilities of the two classes for each row.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        probability : ndarray of shape (n_samples, 2)
            Columns in the order of `classes_`.
        """
        logit, dtype = self._predict_logits(X)
        probability = np.empty((len(logit), 2), dtype)
        probability[:, 0], probability[:, 1] = expit(-logit), expit(logit)
        return probability

    @with_usual_errors
    def predict_log_proba(self, X: TableLike) -> NDArray[np.floating]:
        """Return the logarithms of the probabilities of the two classes for each row.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        log_probability : ndarray of shape (n_samples, 2)
            Columns in the order of `classes_`; finite even where a probability is rounded to 0.
        """
        logit, dtype = self._predict_logits(X)
        log_probability = np.column_stack([log_expit(-logit), log_expit(logit)])
        lowest = np.finfo(dtype).min
        return np.maximum(log_probability, lowest).astype(dtype, copy=False)

    def predict(self, X: TableLike) -> NDArray[Any]:
        """Return the more likely class of each row.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        label : ndarray of shape (n_samples,)
            Labels as in `classes_`.
        """
        is_second = self._predict_logits(X)[0] > 0
        return self.classes_[is_second.astype(np.intp)]


class DeepBinaryClassifier(
    DocumentedMixin, CallbackSupportMixin, PredictionsMixin, ClassifierMixin, BaseEstimator
):
    """Classify rows of a table into two classes by an ensemble of deep networks.

    Takes tables as they are: numbers of any unit, outliers, missing values and categories. Several
    networks, each ending in one logit, are trained side by side on the cross-entropy of the labels
    by mini-batch gradient descent. Each holds out some rows of its own, on which training is
    judged; their probabilities are averaged. The parameters carry MLPClassifier's names wherever
    it has one, with the same meaning.

    Parameters
    ----------
    hidden_layer_sizes : int, array-like of shape (n_hidden_layers,) or "auto", default="auto"
        The network: units in each hidden layer. An integer is one layer; an empty sequence is
        logistic regression. Layers of `skdnn.nn`, or of your own, may stand among the integers or
        in their place; `activation`, `normalization`, `residual` and `dropout` are for those that
        integers make. "auto" is (64, 64), and (32, 32) where what enters the network has more
        columns than rows (not by `partial_fit`); MLPClassifier has one layer of 100.
    activation : str, object or sequence of these, default="auto"
        The network: activation function of the hidden layers, or one for each: "identity",
        "logistic", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus",
        or an object of your own with the methods ``value(z)`` and ``derivative(z)``, which
        `check_gradients` can check. "auto" is "silu", or "relu" where `max_fun` is set.
    encoder : transformer, "auto" or None, default="auto"
        The table: what makes numbers of it before it enters the network. "auto" is
        `TabularEncoder`, which `fit` fits to the rows that it gets, and `partial_fit` to the first
        ones. Of sparse tables only columns of large numbers are brought to scale; networks with
        `max_fun` set have no encoder. None takes X as it is: numbers without missing values, which
        should be on similar scales. A transformer of your own is cloned and fitted likewise; one in
        a `FrozenEstimator` is copied as it is. A `TabularEncoder` within either is seen through.
    categorical_features : array-like of {bool, int, str}, "from_dtype" or None, \
            default="from_dtype"
        The table: which columns are categories, for encoder "auto"; see `TabularEncoder`.
    target_encoding : "auto" or None, default="auto"
        The table: what becomes of categories of many levels, the codes of a `TabularEncoder`. Each
        level has an embedding of 8 units that are learnt. In columns in which most rows have a
        level of fewer than 8 rows these would overfit: "auto" takes two statistics of the level
        instead, its smoothed log-odds and how many rows it has. Each network computes them from the
        rows that it learns from, and those of a row without a fifth of the rows that it is among:
        no label of its own enters, nor any of a row that is held out. None, solver "lbfgs" and a
        first `partial_fit` take embeddings; later ones leave the statistics as they are.
    numeric_embedding : {"auto", "mixed", "periodic", "piecewise"} or None, default="auto"
        The table: describes each number by functions of it, beside itself; see
        `skdnn.nn.NumericEmbedding`. They are learnt cosines for "periodic"; for "piecewise"
        piecewise-linear functions that rise within a bin each, with edges where the labels of a
        member's own rows change (`partial_fit`: those of the first part); with "mixed" members take
        turns. "auto" is "mixed", or "periodic" for a single network, for the numbers that a
        `TabularEncoder` returns; it is None without one, for more than 1,000 numbers, with solver
        "lbfgs" and without hidden layers.
    initialization : {"auto", "zeros", "normal", "uniform", "he_normal", "he_uniform", \
            "glorot_normal", "glorot_uniform", "lecun_normal", "lecun_uniform", "orthogonal", \
            "mlp"}, default="auto"
        The network: first weights; biases begin at zero. "auto" takes the one that suits the
        activation: LeCun's for "selu", Glorot's for "identity", "logistic" and "tanh", He's for
        the others, and Glorot's for the output. With "zeros" all units of a layer learn the same.
        "mlp" is MLPClassifier's, which draws biases too; "auto" takes it where `max_fun` is set.
    normalization : {"batch", "layer"} or None, default=None
        The network: normalise what enters each activation function, over the rows of a batch or
        over the units of a layer, which lets deeper networks train.
    residual : bool, default=False
        The network: whether to add to the output of a hidden layer its input, from the second
        hidden layer on and where both have the same width. Deeper networks train better so.
    n_members : int or "auto", default="auto"
        The network: how many are trained side by side and averaged. They differ in their first
        weights, the rows that they hold out, the order of the others, their dropout, and how
        they look at numbers. "auto" is 8, and 16 up to 300 rows if there are no more columns than
        rows (not by `partial_fit`); it is 1, as in MLPClassifier, with solver "lbfgs" and where
        `max_fun` is set.
    dropout : float, sequence of floats or "auto", default="auto"
        Regularisation: probability in [0, 1) of dropping a hidden unit in a training step, or one
        for each hidden layer. "auto" is 0.15; it is 0, as in MLPClassifier, with solver "lbfgs"
        and where `max_fun` is set.
    alpha : float, default=0
        Regularisation: strength of the L2 penalty on the weights, not on the biases: ``alpha / 2
        |W|^2`` beside the sum of the losses of all rows, whatever the batch size. MLPClassifier
        adds it once for each batch.
    weight_decay : float or None, default=None
        Regularisation: fraction of each weight, times the learning rate, that a step takes away,
        beside the gradient and not through it. None is 0.02 for solver "adamw", else 0. Numbers
        above 0 are refused with "lbfgs".
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, above 0, multiplied with `sample_weight`; labels that a dict leaves
        out have weight 1. "balanced" makes both classes weigh the same. Weights shift the
        probabilities.
    loss : {"log_loss", "focal"} or object, default="log_loss"
        The cost of a row: cross-entropy, or the focal loss, which turns to the rows that are hard.
        The focal loss gives up calibrated probabilities: they are drawn towards 1/2. An object of
        your own has the methods ``loss(y, z)`` and ``derivative(y, z)``; see `skdnn.nn.Loss`.
    focal_gamma : float, default=2.0
        The cost of a row: how much less the focal loss minds easy rows; 0 is cross-entropy. Only
        used when loss='focal'.
    label_smoothing : float, default=0.0
        The cost of a row: train on labels moved this share of the way to 1/2, in [0, 1). It holds
        probabilities back from 0 and 1. Validation rows keep their labels.
    solver : {"gd", "sgd", "rmsprop", "adam", "adamw", "nadam", "lbfgs"} or Transform, \
            default="adamw"
        Learning: the optimizer. "gd" is gradient descent on all rows at each step; "sgd" takes
        mini-batches and `momentum`; "lbfgs" is SciPy's minimiser on all rows, good for small
        tables, whose iterations count as epochs. An object of your own is a
        `skdnn.optim.Transform`, which stands where "adam" has its means of the gradient.
    batch_size : int or "auto", default="auto"
        Learning: rows in a step, at most. "auto" is the power of two next to a fortieth of the
        rows, from 64 to 512; small tables need steps, and large ones gain by speed. MLPClassifier's
        is 200. A table with fewer rows is one batch, without MLPClassifier's warning. Not used when
        solver is 'gd' or 'lbfgs', whose steps take all rows.
    learning_rate : {"constant", "invscaling", "adaptive", "cosine", "one_cycle", "coslog4"} or \
            callable, default="cosine"
        Learning: schedule of the learning rate. "cosine" warms up for a twentieth of the steps and
        then falls to zero; "one_cycle" rises and falls; "coslog4" falls to zero and rises again
        four times, ever more slowly. These know their end, which is at `max_iter` epochs: where
        training stops long before, "cosine" has hardly fallen. "adaptive" divides the rate by 5
        whenever progress ends; "invscaling" divides it by ``(1 + t_)^power_t``. MLPClassifier has
        schedules for "sgd" alone, and is "constant" otherwise. A function of your own,
        ``f(done, total)`` of the steps done and of all, returns what `learning_rate_init` is
        multiplied by. Not used when solver='lbfgs'.
    learning_rate_init : float, default=0.01
        Learning: the learning rate that the schedule multiplies. MLPClassifier's is 1e-3. Not used
        when solver='lbfgs'.
    power_t : float, default=0.5
        Learning: exponent of "invscaling". Only used when learning_rate='invscaling'.
    momentum : float, default=0.9
        Learning: share of the last step that is added to the next, in [0, 1). Only used when
        solver='sgd'.
    nesterovs_momentum : bool, default=True
        Learning: whether to look ahead along the momentum. Only used when solver='sgd'.
    beta_1 : float, default=0.9
        Learning: decay of the mean of the gradient, in [0, 1). Only used when solver is 'adam',
        'adamw' or 'nadam'.
    beta_2 : float, default=0.999
        Learning: decay of the mean of its square, in [0, 1). Only used when solver is 'adam',
        'adamw', 'nadam' or 'rmsprop'.
    epsilon : float, default=1e-8
        Learning: smallest divisor of a gradient, above zero in the precision of training. It is
        added after the correction of the bias, as in PyTorch and the paper; MLPClassifier adds it
        before. Only used when solver is 'adam', 'adamw', 'nadam' or 'rmsprop'.
    max_grad_norm : float or None, default=None
        Learning: length to which a longer gradient is cut, for each member. Refused with solver
        "lbfgs".
    ema_decay : float, "auto" or None, default="auto"
        Learning: validate, keep and predict with a moving average of the weights: the share in
        (0, 1) that it keeps of itself at each step. "auto" is ``1 - 1 / k``, with k the steps of an
        epoch, 50 at most: about the mean over the last k steps, which is calmer than the last one.
        In full batches, with solver "lbfgs" and where `max_fun` is set it is None, which leaves the
        weights as they are. Numbers are refused with "lbfgs".
    max_iter : int or "auto", default="auto"
        Duration: epochs, that is passes over the rows, at most. "auto" is 64 up to 12,000 rows, and
        falls as the inverse root of their number to 16. MLPClassifier's is 200.
    max_fun : int or None, default=None
        Duration: evaluations of the cost, at most. Only used when solver='lbfgs', and None is
        15,000, as in MLPClassifier. As its ``get_params()`` always has it, setting it also makes
        the parameters left at "auto" those of MLPClassifier: one network, no dropout, its first
        weights.
    max_time : float or None, default=None
        Duration: seconds after which no new epoch begins. A warm start goes on from there.
    shuffle : bool, default=True
        Duration: whether to shuffle the rows before each epoch. Not used when solver is 'gd' or
        'lbfgs'.
    tol : float, default=1e-4
        Duration: fall of the loss that counts as progress, where `n_iter_no_change` watches it; for
        "lbfgs" also the gradient's largest entry at which it has converged.
    n_iter_no_change : int, inf or "auto", default="auto"
        Duration: epochs without progress after which training ends; MLPClassifier waits one more.
        Watches `scoring` on the validation rows with early stopping; without, the training loss,
        and only where the schedule has no end. "auto" is 10; where five networks or more are judged
        together by the rows that they hold out, 3 (6 up to 300 rows) and 0.35 of the epochs until
        the last progress; with "coslog4" 10 and 1.5 times these: until after the next fall.
    early_stopping : bool or "auto", default="auto"
        Duration: whether to keep the weights of the best epoch on rows that were not trained on:
        those given to `fit`, or else rows held out. Each of several networks holds out a part of
        the rows of its own, of as many parts as there are networks, 10 at most; the best epoch is
        that of the least mean loss over all of them, after a temperature from 1 to 2 that suits it,
        since an average is less sure than its members. A single network, and "lbfgs", hold out
        `validation_fraction` of the rows, and each network then has a best epoch of its own.
        "auto" does so for several networks, if rows are given, and for tables of more than 500
        rows, or 10,000 with "gd" and "lbfgs". MLPClassifier's default is False.
    validation_fraction : float, default=0.1
        Duration: fraction of each class to hold out, in (0, 1), if no rows are given and there are
        fewer than five networks: each holds out so much, and some the same rows where all together
        would hold out more than there is. It is one row at least, and one is left to learn from.
    scoring : str, callable or None, default="loss"
        Duration: what is best on the validation rows: "loss", a scorer's name, a callable
        ``scorer(estimator, X, y)``, or None for the accuracy, which is what MLPClassifier watches.
        The loss moves where the accuracy stands still. Where each network holds out its own rows,
        all of these are scored together, each by the networks that hold it out; else each network
        is scored by itself. A scorer is given an estimator with `classes_`, X as it enters the
        network (what the encoder makes of it: an array of floats, or a CSR matrix, without column
        names), labels as in y, and, where rows have weights, `sample_weight`. Only used with early
        stopping.
    calibration : {"auto", "temperature"} or None, default="auto"
        Probabilities: "temperature" divides all logits by one number, chosen for the least
        cross-entropy on rows of both classes that were not trained on, and for being near 1: its
        logarithm has a normal prior of standard deviation 1/5. So few rows, or rows that are all
        answered right, move it little. The prior stands beside the number of these rows (of
        unequal weights their effective number, ``(sum w)^2 / sum w^2``), whatever weights are
        multiplied by. Out of fold each row has one network, which is surer of itself than the
        average of all: its logits are brought to the size of the average's before. On tables of
        150 to 1,000 rows it lowers the log-loss of an ensemble by 1 to 3%, of a single network by
        half a percent. "auto" does so for several networks with early stopping and 16 to 2,000
        rows, if rows of both classes are held out; not with solver "lbfgs" and where `max_fun` is
        set.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Run: precision of training. "auto" takes float32, at twice the speed, for what
        `TabularEncoder` returns. Without it, X stays float64 if it is a float64 table of up to
        2,000 rows, or has a column that float32 would round by more than a thousandth of its
        standard deviation.
    n_jobs : int or None, default=None
        Run: threads that share the networks; -1 stands for all processors. None is as many as BLAS
        would take, so that joblib's workers, OMP_NUM_THREADS and threadpoolctl limit them too. The
        result does not depend on it. A single network of large layers leaves the threads to BLAS.
    warm_start : bool, default=False
        Run: whether `fit` goes on from where the last one ended instead of starting anew. On the
        same rows it goes on exactly, with the optimizer's state and random streams: a fit
        that a callback or `max_time` cut short is brought to its end, and one that `max_iter` ended
        gets as many epochs more. Everything else begins with the weights that were kept and an
        optimizer that knows nothing, as in MLPClassifier: other rows, another cycle of a
        `learning_rate` that knows its end, a fit that had stopped early, and any by "lbfgs".
    random_state : int, RandomState instance or None, default=None
        Run: seed of the first weights, the shuffling, the dropout and the validation rows.
    verbose : bool or int, default=False
        Run: print a line for each epoch, or for every `verbose`-th and the last, and in the end why
        training stopped.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels, in sorted order.
    params_ : ndarray of shape (n_members, n_params)
        All weights and biases of each member.
    resolved_params_ : dict
        The parameters that were left open, with what was chosen for this table; they make the same
        network if they are passed. "auto" stands for a rule and not for a value where
        `initialization`, `target_encoding` and `n_iter_no_change` have it, and these are not among
        them.
    encoder_ : transformer or None
        The fitted encoder.
    oof_decision_function_ : ndarray of shape (n_samples,)
        Where each network held out its own rows: for each row of X the logit by those that did not
        train on it, an honest estimate without cross-validation. With `calibration` it is brought
        to the size of the average's logits and divided by `temperature_`. Not a number for a row
        that all of them trained on: some rows with fewer than five networks, or the only row of a
        class. Rows of weight zero are judged by all. Where less than
        16 rows are distinct, all networks know them, and it is the logit of their mean probability.
    feature_importances_ : ndarray of shape (n_features_in_,)
        How much each feature moves the logit; see the property.
    temperature_ : float
        What logits are divided by; 1 where there is no `calibration`.
    coefs_ : list of ndarray
        The weights of each linear step; see the property.
    intercepts_ : list of ndarray
        The biases of each linear step; see the property.
    history_ : dict of str to list of float
        By epoch, averaged over the members still training: "loss" (of the rows, with dropout on),
        "penalty" (the L2 term, at the beginning of the epoch), "validation_loss" and
        "validation_score" (with early stopping), "learning_rate" (of its last step) and "seconds".
    loss_curve_ : list of float
        The sum of loss and penalty by epoch, as in MLPClassifier.
    loss_ : float
        The last of them.
    best_loss_ : float or None
        The least of them; None with early stopping.
    validation_scores_ : list of float or None
        "validation_score" of `history_`, what early stopping watches, the more the better: the
        score, or minus the loss by which epochs are judged; not a number for epochs of a fit
        without early stopping. None where there was none in any fit.
    best_validation_score_ : float or None
        The greatest of them.
    best_iter_ : int
        The epoch, counted from 1 in `history_`, after which no member's kept weights changed: its
        best epoch with early stopping, else the last. Where training diverged, or a warm start
        gained nothing, it is that of the weights that were kept instead; 0 stands for those from
        before training.
    n_iter_ : int
        Epochs done by the last call, as in MLPClassifier; `history_` has those before it too.
    t_ : int
        Rows seen, counted again in each epoch; rows that were merged into one count once, and parts
        of a row each.
    n_layers_ : int
        Layers, with input and output, as in MLPClassifier.
    n_outputs_ : int
        1, as in MLPClassifier.
    out_activation_ : str
        "logistic", as in MLPClassifier.
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

    Ctrl-C stops training after the batch and warns; the model has the best weights so far, or the
    last ones without validation rows. When training is over it ends what follows, which is to
    predict rows held out, and keeps the model. A second Ctrl-C aborts, and leaves the estimator as
    it was. So does one before training begins.

    A member whose loss stops being finite goes back to where the epoch began and on at half the
    learning rate, five times at most.

    Rows are held out in proportion to their class. Copies of a row are held out together, and so
    are all rows of a group of `groups`. Each row is held out by itself where equal rows are
    observations of their own: where more than a tenth of the x that stand there more than once bear
    both labels, or at most 64 x are distinct, five times each in the mean. A class of fewer rows
    than networks is held out row by row; the only row of a class, or the only group that has one,
    is learned from by all networks and judged by none.

    Where all rows form one batch, identical rows are merged into one with the sum of their weights,
    so that a weight of k and k equal rows give the same network. Where they are observations, a row
    whose weight is a whole number k becomes k rows instead, 10,000 in all at most.

    Without `alpha`, only the ratios of weights matter. With it their sum does, as ``alpha`` stands
    beside the sum of the losses.

    Without an encoder, scale the features: a network learns slowly, or diverges, where they are
    large.

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
    >>> from skdnn import DeepBinaryClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    >>> model = DeepBinaryClassifier(random_state=0).fit(X_train, y_train)
    >>> bool(model.score(X_test, y_test) > 0.9)
    True
    >>> model.resolved_params_["batch_size"], model.oof_decision_function_.shape
    (64, (426,))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = PARAMETER_CONSTRAINTS

    # What a fit sets; declared only, so that there is none before a fit.
    classes_: NDArray[Any]
    params_: NDArray[np.floating]
    resolved_params_: dict[str, Any]
    oof_decision_function_: NDArray[np.float64]
    temperature_: float
    history_: dict[str, list[float]]
    loss_curve_: list[float]
    loss_: float
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    best_iter_: int
    n_iter_: int
    t_: int
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    _encoder: Any
    _predictor: Predictor

    def __init__(
        self,
        hidden_layer_sizes: HiddenLayerSizes = "auto",
        activation: Activations = "auto",
        *,
        # the table
        encoder: BaseEstimator | Literal["auto"] | None = "auto",
        categorical_features: ArrayLike | Literal["from_dtype"] | None = "from_dtype",
        target_encoding: Literal["auto"] | None = "auto",
        numeric_embedding: Literal["auto", "mixed", "periodic", "piecewise"] | None = "auto",
        # the network
        initialization: str = "auto",
        normalization: Literal["batch", "layer"] | None = None,
        residual: bool = False,
        n_members: int | Literal["auto"] = "auto",
        # what keeps it from overfitting
        dropout: Rates = "auto",
        alpha: float = 0.0,
        weight_decay: float | None = None,
        # what a row costs
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        loss: str | LossLike = "log_loss",
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
        # how it learns
        solver: str | Transform = "adamw",
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: Schedules = "cosine",
        learning_rate_init: float = 0.01,
        power_t: float = 0.5,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        max_grad_norm: float | None = None,
        ema_decay: float | Literal["auto"] | None = "auto",
        # how long it learns
        max_iter: int | Literal["auto"] = "auto",
        max_fun: int | None = None,
        max_time: float | None = None,
        shuffle: bool = True,
        tol: float = 1e-4,
        n_iter_no_change: float | Literal["auto"] = "auto",
        early_stopping: bool | Literal["auto"] = "auto",
        validation_fraction: float = 0.1,
        scoring: str | Callable[..., float] | None = "loss",
        calibration: Literal["auto", "temperature"] | None = "auto",
        # the run
        dtype: Literal["auto", "float32", "float64"] = "auto",
        n_jobs: int | None = None,
        warm_start: bool = False,
        random_state: int | RandomState | None = None,
        verbose: int = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.categorical_features = categorical_features
        self.target_encoding = target_encoding
        self.numeric_embedding = numeric_embedding
        self.initialization = initialization
        self.normalization = normalization
        self.residual = residual
        self.n_members = n_members
        self.dropout = dropout
        self.alpha = alpha
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.loss = loss
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
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
        self.ema_decay = ema_decay
        self.max_iter = max_iter
        self.max_fun = max_fun
        self.max_time = max_time
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.scoring = scoring
        self.calibration = calibration
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of the encoder by names such as ``encoder__max_one_hot``.

        Parameters
        ----------
        **params : dict
            Parameters by name.

        Returns
        -------
        self : DeepBinaryClassifier
            The estimator.

        Raises
        ------
        ValueError
            If there is no parameter of this name.
        """
        encoder = params.get("encoder", self.encoder)
        nested = [name for name in params if name.startswith("encoder__")]
        if nested and (encoder is None or isinstance(encoder, str)):
            raise ValueError(
                f"{nested[0]} is a parameter of an encoder, but encoder={encoder!r} is none that "
                "has parameters. Set encoder=TabularEncoder(), which 'auto' stands for."
            )
        return super().set_params(**params)

    if TYPE_CHECKING:  # what scikit-learn makes has no types

        def set_callbacks(self, *callbacks: Any) -> Self: ...
        def set_fit_request(self, **requests: bool | str | None) -> Self: ...
        def set_partial_fit_request(self, **requests: bool | str | None) -> Self: ...
        def set_score_request(self, **requests: bool | str | None) -> Self: ...

    @fit_context(prefer_skip_nested_validation=True)
    @with_usual_errors
    def fit(
        self,
        X: TableLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: TableLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train on a table.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_samples, n_features)
            The table. Sparse ones, and others without an encoder, hold numbers on similar scales.
        y : array-like of shape (n_samples,)
            Labels of any type, of two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, at least 0. A row of weight k counts as k rows, but for an integer
            `min_frequency` of the encoder, which counts rows as they are; None stands for ones.
        X_val : {array-like, DataFrame, sparse matrix} of shape (n_val, n_features), default=None
            Rows for early stopping, instead of some held out from X. In a pipeline,
            ``Pipeline(..., transform_input=["X_val"])`` transforms them as X.
        y_val : array-like of shape (n_val,), default=None
            Their labels.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.
        groups : array-like of shape (n_samples,), default=None
            What rows belong together (a patient, a day), as any label: all rows of a group are held
            out by the same members, so that these are judged by groups that they have not seen. Of
            no effect where no rows are held out from X.

        Returns
        -------
        self : DeepBinaryClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a parameter cannot be used, if `groups` leave none to hold out, or if
            training diverges whatever is tried.
        """
        validation = tables.check_validation(
            X_val, y_val, sample_weight_val, early_stopping=self.early_stopping
        )
        fitting.fit(self, tables.Given(X, y, sample_weight, validation, groups))
        return self

    def _has_partial_fit(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for solvers that take batches; solver='lbfgs' needs "
                "all rows."
            )
        return True

    @available_if(_has_partial_fit)
    @fit_context(prefer_skip_nested_validation=True)
    @with_usual_errors
    def partial_fit(
        self,
        X: TableLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one pass over a part of a table, and remember where training stands.

        Weights are used as they are, so that they mean the same in every part. What decides how
        long a whole table is trained on is not used: `max_iter`, `tol`, `n_iter_no_change`,
        `early_stopping`, `validation_fraction` and `scoring`; nor is `calibration`, as no rows are
        held out, and `temperature_` is 1. A `learning_rate` schedule that needs to know its end
        stays at its peak.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_samples, n_features)
            The part. The encoder is fitted to the first one: it should have all categories, and
            numbers of all sizes; levels that come later are taken as unknown. A column of a single
            value in the first part says nothing from then on, of which a warning tells.
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
        if continues:
            self._validate_params()  # scikit-learn does so before the first part alone
        if not continues and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs all labels at once, which partial_fit "
                "never has; pass a dict, for instance from sklearn.utils.class_weight."
            )
        classes = None if classes is None else np.unique(tables.read_labels(classes, "classes"))
        if continues and classes is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"classes={classes!r} are not those of the first call, {self.classes_!r}."
            )
        fitting.fit(self, tables.Given(X, y, sample_weight, classes=classes, is_part=True))
        return self

    @classmethod
    def from_mlp(cls, mlp: MLPClassifier) -> Self:
        """Take over a trained MLPClassifier: its network, its parameters, its optimizer.

        Parameters
        ----------
        mlp : MLPClassifier
            Fitted, with two classes.

        Returns
        -------
        estimator : DeepBinaryClassifier
            Fitted, with the same probabilities. `partial_fit` goes on from there with Adam's
            moments or the velocity of "sgd", and `fit` with ``warm_start=True`` without them.

        Raises
        ------
        TypeError
            If it is not an MLPClassifier.
        ValueError
            If it has other than two classes.

        Examples
        --------
        >>> from sklearn.datasets import make_classification
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skdnn import DeepBinaryClassifier
        >>> X, y = make_classification(random_state=0)
        >>> mlp = MLPClassifier(early_stopping=True, random_state=0).fit(X, y)
        >>> model = DeepBinaryClassifier.from_mlp(mlp)
        >>> bool(abs(model.predict_proba(X) - mlp.predict_proba(X)).max() < 1e-12)
        True
        """
        return fitting.from_mlp(cls, mlp)

    @with_usual_errors
    def decision_function(self, X: TableLike) -> NDArray[np.floating]:
        """Return the logit of each row: positive where the second class is the more likely one.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        logit : ndarray of shape (n_samples,)
            ``log(p / (1 - p))`` of the predicted probability of `classes_[1]`, which is the mean of
            the members' probabilities. An array of float32 if X is one and the weights are float32
            too, else of float64.

        Raises
        ------
        ValueError
            If a logit is not a number, as numbers of X are so large that the network overflows.

        Notes
        -----
        More than 64 rows are computed in the precision of the weights (`dtype`), which in float32
        takes a fraction of the time, up to the members' logits; their average is taken in float64.
        A row's probability by itself and among many others differs by about 1e-7, and by less than
        1e-6 unless weights that nothing holds back have grown very large.
        """
        logit, dtype = self._predict_logits(X)
        with np.errstate(over="ignore"):  # infinite in float32, and still the right side of zero
            return logit.astype(dtype, copy=False)

    def score(self, X: TableLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy of the predicted labels.

        Parameters
        ----------
        X : {array-like, DataFrame, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,)
            Their labels, of any type that `fit` takes.
        sample_weight : array-like of shape (n_samples,), default=None
            Their weights.

        Returns
        -------
        score : float
            The share of the weight of rows with the right label.
        """
        return super().score(X, tables.read_labels(y), fill_masked(sample_weight))

    @with_usual_errors
    def explain(self, X: TableLike, background: TableLike | None = None) -> Explanation:
        """Share out the logit of each row among the features.

        What a feature contributes says how much it moves the logit, from the mean logit of the
        background to that of the row. All contributions and the base value together are the logit.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            The rows to explain, of any kind that can be predicted but sparse ones.
        background : {array-like, DataFrame} of shape (n_background, n_features), default=None
            The rows to compare with, such as a hundred of those of `fit`: the time grows with their
            number. None stands for one row of zeros as they enter the network. A `TabularEncoder`
            makes them of the median of each number and the mean of each flag; a category that is
            embedded is an unknown one. Without an encoder they are zeros of the table.

        Returns
        -------
        explanation : Explanation
            With `values`, `base_values`, `data` and `feature_names`. For an encoder of your own
            they go by the columns that it makes, whose numbers are the data.

        Raises
        ------
        ValueError
            If the rows cannot be predicted.
        TypeError
            If they are sparse.

        Warns
        -----
        UserWarning
            If 128 points on a path do not do for some rows, whose contributions then do not add up.

        See Also
        --------
        feature_importances_ : The mean of the absolute contributions, from `fit`.
        sklearn.inspection.permutation_importance : How much a score needs each feature.

        Notes
        -----
        These are expected gradients [1]_, integrated gradients [2]_ averaged over the background.
        For a row h and a background row h', as the first hidden layer reads them (numbers, flags
        and embeddings of each feature side by side),

            ``(h - h') * integral of grad f(h' + t (h - h')) dt``, for t from 0 to 1,

        with f the logit of the members' mean probability, summed over what is made of each feature.
        Each member has embeddings of its own; all go along their paths together. The integral takes
        8 points of Gauss-Legendre quadrature (64 for a single background row), and twice as many
        until the contributions of a row miss the difference of the logits by at most half a percent
        of the sum of their absolute values, plus 1e-4. What then is left is shared out in
        proportion to these, so that they add up to rounding. They approximate Shapley values, but
        are not the same.

        References
        ----------
        .. [1] G. Erion, J. D. Janizek, P. Sturmfels, S. M. Lundberg and S.-I. Lee, "Improving
           performance of deep learning models with axiomatic attribution priors and expected
           gradients", Nature Machine Intelligence 3, 2021, arXiv:1906.10670.
        .. [2] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks", ICML
           2017, arXiv:1703.01365.

        Examples
        --------
        >>> from sklearn.datasets import make_classification
        >>> from skdnn import DeepBinaryClassifier
        >>> X, y = make_classification(n_features=4, random_state=0)
        >>> model = DeepBinaryClassifier(random_state=0).fit(X, y)
        >>> explanation = model.explain(X[:3], background=X)
        >>> logit = explanation.values.sum(axis=1) + explanation.base_values
        >>> bool(abs(logit - model.decision_function(X[:3])).max() < 1e-4)
        True
        """
        check_is_fitted(self)
        return explanations.explain(self, X, background)

    @with_usual_errors
    def input_gradients(
        self,
        X: TableLike,
        *,
        method: Literal["gradient", "integrated"] = "gradient",
        baseline: ArrayLike | None = None,
        steps: int = 512,
    ) -> NDArray[np.floating]:
        """Return what moves the logit of each row: its gradient with respect to the features.

        Categories have none: their entries are NaN. Booleans count as the numbers 0 and 1.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to explain.
        method : {"gradient", "integrated"}, default="gradient"
            "gradient" says how fast the logit changes with each feature, at the row. "integrated"
            shares out the difference between the row's logit and the baseline's among the features:
            the mean gradient on the straight line between them, as they enter the network, times
            the difference there. Categories stay those of the row.
        baseline : array-like of shape (n_features,), default=None
            The row that "integrated" compares with, in the units of the table; entries of
            categories are not read. None stands for zeros as they enter the network: for a
            `TabularEncoder` the median of each number, and the mean of a column of two values; else
            zeros of the table, the mean row where features are standardised.
        steps : int, default=512
            Points on that line. The more, the closer the sum over the features comes to the
            difference of the logits; piecewise-linear functions, as `numeric_embedding` may make
            them, are steep and take many.

        Returns
        -------
        gradients : ndarray of shape (n_samples, n_features)
            Of the logit that `decision_function` returns, in its unit per unit of the feature; for
            "integrated" in its unit. NaN for categories. At a missing number the gradient is 0.

        Raises
        ------
        ValueError
            If `method`, `baseline` or `steps` cannot be used, or with an encoder of your own.

        See Also
        --------
        explain : Contributions of all features, categories too.

        References
        ----------
        M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks", ICML 2017,
        arXiv:1703.01365.

        Examples
        --------
        >>> from sklearn.datasets import make_classification
        >>> from skdnn import DeepBinaryClassifier
        >>> X, y = make_classification(n_features=4, random_state=0)
        >>> model = DeepBinaryClassifier(random_state=0).fit(X, y)
        >>> model.input_gradients(X).shape
        (100, 4)
        """
        check_is_fitted(self)
        return explanations.input_gradients(self, X, method, baseline, steps)

    def without_training_state(self) -> Self:
        """Return a copy without what only further training needs, for a small file.

        It predicts the same to the bit. Left out are the optimizer's moments, the moving average
        of the weights, the best weights so far, the random streams, and `oof_decision_function_`:
        at the defaults five sixths of a pickle. The rest is little larger than the weights.

        Returns
        -------
        model : DeepBinaryClassifier
            Fitted, with the other attributes and parameters of this one. It shares their arrays. A
            warm start and `partial_fit` are refused, as they could only begin with another
            training than the one that made the weights; `fit` with ``warm_start=False`` trains
            anew.

        Raises
        ------
        NotFittedError
            If there is nothing to predict with yet.

        Examples
        --------
        >>> import pickle
        >>> from sklearn.datasets import make_classification
        >>> from skdnn import DeepBinaryClassifier
        >>> X, y = make_classification(random_state=0)
        >>> model = DeepBinaryClassifier(max_iter=5, random_state=0).fit(X, y)
        >>> small = model.without_training_state()
        >>> bool((small.predict_proba(X) == model.predict_proba(X)).all())
        True
        >>> len(pickle.dumps(small)) < 1.1 * model.params_.nbytes
        True
        """
        check_is_fitted(self)
        return fitted.copy_without_training_state(self)

    @property
    def encoder_(self) -> Any:
        """The fitted encoder, or None."""
        return encoders.get_encoder(self._encoder)

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """The mean absolute contribution of each feature to the logit, (n_features_in_,).

        As by `explain`, of 128 rows of the table in `fit`, drawn by weight, with 16 of them as the
        background; of all rows if there are fewer. They are found when first asked for; until then
        the model keeps these rows as they enter the network, which no pickle does. Not there after
        `partial_fit`, for sparse tables, and with an encoder of your own.
        """
        check_is_fitted(self)
        return explanations.read_importances(self)

    @property
    def coefs_(self) -> list[NDArray[np.floating]]:
        """The weights W of each linear step, views of `params_`.

        A list of arrays of shape (n_in, n_out), as in MLPClassifier; with several members of shape
        (n_members, n_in, n_out).
        """
        check_is_fitted(self)
        return fitted.view_dense(self._predictor.network.layout, self.params_, "W")

    @property
    def intercepts_(self) -> list[NDArray[np.floating]]:
        """The biases b of each linear step, views of `params_`.

        A list of arrays of shape (n_out,); with several members of shape (n_members, n_out).
        """
        check_is_fitted(self)
        return fitted.view_dense(self._predictor.network.layout, self.params_, "b")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.sparse = True
        wanted = encoders.choose_encoder(self)
        if wanted is None:
            return tags
        is_auto = isinstance(wanted, str)
        encoder = TabularEncoder(self.categorical_features) if is_auto else wanted
        own = get_tags(encoder).input_tags
        tags.input_tags.sparse = is_auto or own.sparse
        tags.input_tags.allow_nan, tags.input_tags.categorical = own.allow_nan, own.categorical
        tags.input_tags.string = own.string
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return plain data, with the format and the version that writes it."""
        explanations.find_importances(self)  # a file is to hold no rows
        return fitted.pack(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what `__getstate__` has returned, here or in another version."""
        super().__setstate__(fitted.unpack(self, state))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "params_")

    def _predict_logits(self, X: TableLike) -> tuple[np.ndarray, np.dtype]:
        """Return the logit of each row, in float64, and the dtype of predictions of such rows."""
        if not hasattr(self, "params_"):  # checking takes 10 us
            check_is_fitted(self)
        take, shape, warn_at_end = tables.open_table(self, X)
        logit = self._predictor.average(self.params_, take, shape, self.n_jobs)
        warn_at_end()
        is_short = getattr(X, "dtype", None) == np.float32
        return logit / self.temperature_, self.params_.dtype if is_short else np.dtype(np.float64)

    def _for_encoded_rows(self, params: np.ndarray, first_member: int = 0) -> DeepBinaryClassifier:
        """Return a copy with these weights for scorers, which see what enters the network."""
        return fitted.copy_for_encoded_rows(self, params, first_member)
