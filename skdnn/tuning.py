"""What to search in a search of hyperparameters: one table of ranges, for Optuna and scikit-learn.

They lie around the defaults; their limits are those of published searches for such networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scipy import stats

__all__ = ["search_distributions", "search_space"]


@dataclass(frozen=True)
class Range:
    """Numbers between two limits, which are among them; evenly in the logarithm if `is_log`."""

    low: float
    high: float
    is_log: bool = False

    def suggest(self, trial: Any, name: str) -> float:
        """Let a trial of Optuna choose."""
        suggest = trial.suggest_int if isinstance(self.low, int) else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.is_log)

    def distribution(self) -> Any:
        """Return a distribution of SciPy."""
        if isinstance(self.low, int):
            return stats.randint(self.low, self.high + 1)
        if self.is_log:
            return stats.loguniform(self.low, self.high)
        return stats.uniform(self.low, self.high - self.low)


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """Let a trial of Optuna choose."""
        return trial.suggest_categorical(name, self.values)

    def distribution(self) -> list[Any]:
        """Return the values."""
        return list(self.values)


DEPTH, WIDTH = (1, 2, 3, 4), (32, 64, 128, 256)
"""Hidden layers, and units in each."""

RANGES: dict[str, Range | Choice] = {
    "learning_rate_init": Range(2e-3, 3e-2, is_log=True),
    "weight_decay": Range(1e-3, 0.3, is_log=True),
    "dropout": Range(0.0, 0.5),
    "batch_size": Choice((64, 128, 256, 512)),
    "numeric_embedding": Choice(("mixed", "periodic", "piecewise", None)),
    "n_members": Range(5, 16),
}

CANDIDATES: dict[str, Range | Choice] = {
    "hidden_layer_sizes": Choice(tuple((w,) * depth for depth in DEPTH[:3] for w in WIDTH[:3])),
    "residual": Choice((False, True)),
    "activation": Choice(("mish", "relu", "silu")),
    "numeric_embedding": Choice(("mixed", "periodic", "piecewise")),
    "dropout": Range(0.0, 0.3),
    "weight_decay": Range(5e-3, 0.3, is_log=True),
    "learning_rate_init": Range(4e-3, 2e-2, is_log=True),
}
"""What DeepBinaryClassifierCV draws. The ranges are narrower than those of a search, which tries
many and keeps the best: few candidates are drawn, and most are to be of use."""


def search_space(trial: Any, **fixed: Any) -> dict[str, Any]:
    """Let a trial of Optuna choose the parameters of a DeepBinaryClassifier.

    Searched are the number of hidden layers and their width, whether deeper networks are residual,
    the learning rate, the weight decay, the dropout, the batch size, the embedding of numbers and
    the number of networks.

    Parameters
    ----------
    trial : optuna.Trial or optuna.trial.FrozenTrial
        A trial at work chooses. Of one that is over, such as ``study.best_trial``, the parameters
        are those that it had; `fixed` must be the same.
    **fixed : dict
        Parameters that are not searched, with their values; also others than those above.

    Returns
    -------
    params : dict of str to object
        What to construct the estimator with.

    See Also
    --------
    search_distributions : The same ranges for RandomizedSearchCV.
    skdnn.callbacks.OptunaPruning : End trials early that do badly.

    Notes
    -----
    The names in Optuna are those of the parameters, but for ``n_hidden_layers`` and ``width``,
    which make `hidden_layer_sizes`. ``residual`` is chosen where there are two hidden layers or
    more. An embedding of numbers is chosen unless `encoder` is fixed to None, which leaves none.

    Examples
    --------
    >>> from skdnn.tuning import search_space
    >>> def objective(trial):
    ...     model = DeepBinaryClassifier(**search_space(trial, n_members=8, random_state=0))
    ...     return cross_val_score(model, X, y, scoring="neg_log_loss").mean()
    """
    params = dict(fixed)
    if "hidden_layer_sizes" not in fixed:
        depth = trial.suggest_int("n_hidden_layers", min(DEPTH), max(DEPTH))
        width = trial.suggest_categorical("width", WIDTH)
        params["hidden_layer_sizes"] = (width,) * depth
        if depth > 1 and "residual" not in fixed:
            params["residual"] = trial.suggest_categorical("residual", (False, True))
    for name, values in RANGES.items():
        is_void = name == "numeric_embedding" and fixed.get("encoder", "auto") is None
        if name not in fixed and not is_void:
            params[name] = values.suggest(trial, name)
    return params


def search_distributions() -> dict[str, Any]:
    """Return the ranges of `search_space` for scikit-learn's RandomizedSearchCV.

    Leave out what is not to be searched, or give it values of your own.

    Returns
    -------
    distributions : dict of str to list or distribution
        By the names of the parameters.

    See Also
    --------
    search_space : For Optuna, which learns from the trials before and can prune.

    Examples
    --------
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from skdnn import DeepBinaryClassifier
    >>> from skdnn.tuning import search_distributions
    >>> search = RandomizedSearchCV(DeepBinaryClassifier(), search_distributions(), n_iter=50)
    """
    layers = [(width,) * depth for depth in DEPTH for width in WIDTH]
    others = {name: values.distribution() for name, values in RANGES.items()}
    return {"hidden_layer_sizes": layers, "residual": [False, True], **others}
