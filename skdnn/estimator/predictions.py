"""Predictions of two classes by a logit: what classifiers share that have one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from ..typing import TableLike
from ..utils import with_usual_errors


class PredictionsMixin:
    """Probabilities and labels by `_predict_logits`."""

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
