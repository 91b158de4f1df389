"""Callbacks to use as they are, and a base class to write your own in a few lines.

They follow scikit-learn's callback protocol (1.9 and later): ``estimator.set_callbacks(...)``.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np

from .classifier import DeepBinaryClassifier

__all__ = [
    "CSVLogger",
    "Callback",
    "MLflowLogger",
    "OptunaPruning",
    "TqdmProgressBar",
    "WandbLogger",
]

METRICS = ("loss", "penalty", "validation_loss", "validation_score", "learning_rate", "seconds")
"""The keys of `metrics`, those of `history_`."""

DIRECTIONS = {"validation_loss": "MINIMIZE", "loss": "MINIMIZE", "validation_score": "MAXIMIZE"}
"""What a study of Optuna is to do with them."""


class Callback:
    """Follow the epochs of a fit, and stop it if you like.

    Subclass it, define the hooks that you need, and hand an instance to
    `DeepBinaryClassifier.set_callbacks`, on the estimator itself or on the one within a pipeline or
    a search. A hook is called by keyword, with the arguments that its signature names:

    ``on_fit_begin(estimator, fit, max_epochs)``
        Before the first epoch.
    ``on_epoch_end(estimator, fit, epoch, metrics, max_epochs)``
        After each epoch. Training stops after this epoch if it returns True; the weights to keep
        are chosen as ever.
    ``on_fit_end(estimator, fit)``
        When the estimator is fitted; not if the fit fails.

    See Also
    --------
    sklearn.callback.ScoringMonitor : Score each epoch on the training rows.

    Notes
    -----
    The arguments are:

    - estimator : the estimator at work. It predicts with the weights as they are then, and
      `history_` has all epochs so far.
    - fit : str, the same in all calls of one fit and different in any other, also of other
      processes: a search tells its fits apart by it.
    - epoch : int, counted from 1 in `history_`: a warm start and `partial_fit` count on.
    - metrics : dict of str to float, the last row of `history_`: "loss", "penalty",
      "validation_loss", "validation_score", "learning_rate" and "seconds". What is not known is not
      a number: there is no validation loss without early stopping.
    - max_epochs : int, the greatest epoch that this fit can reach.

    What a hook raises ends the fit, and leaves the estimator as it was before.

    `setup`, `teardown`, `on_fit_task_begin` and `on_fit_task_end` are the methods that scikit-learn
    calls. `teardown` comes in the end of each fit, also of one that fails.

    A clone of the estimator shares its callbacks. A pickle of it, and a search's worker processes,
    get copies of them: they can write files, but nothing in this process.

    With solver "lbfgs" several networks are trained one after the other, and so are their epochs.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skdnn import DeepBinaryClassifier
    >>> from skdnn.callbacks import Callback
    >>> class StopBelow(Callback):
    ...     def __init__(self, loss):
    ...         self.loss = loss
    ...
    ...     def on_epoch_end(self, *, metrics):
    ...         return metrics["loss"] < self.loss
    >>> X, y = make_classification(random_state=0)
    >>> model = DeepBinaryClassifier(max_iter=50, random_state=0)
    >>> model.set_callbacks(StopBelow(0.3)).fit(X, y).n_iter_ < 50
    True
    """

    # With these signatures, type checkers let an override name any arguments.

    def on_fit_begin(self, *args: Any, **kwargs: Any) -> None:
        """Do something before the first epoch."""

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> bool | None:
        """Do something after each epoch.

        Returns
        -------
        stops : bool or None
            Whether training is to stop.
        """
        return None

    def on_fit_end(self, *args: Any, **kwargs: Any) -> None:
        """Do something when the estimator is fitted."""

    def setup(self, estimator: Any, context: Any) -> None:
        """Check the estimator; called by scikit-learn.

        Parameters
        ----------
        estimator : DeepBinaryClassifier
            The estimator.
        context : sklearn.callback.CallbackContext
            Of the fit.

        Raises
        ------
        TypeError
            If it is another estimator.
        """
        if not isinstance(estimator, DeepBinaryClassifier):
            raise TypeError(
                f"{type(self).__name__} follows the epochs of a DeepBinaryClassifier, got a "
                f"{type(estimator).__name__}. Call set_callbacks of the DeepBinaryClassifier "
                "within it."
            )

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing; called by scikit-learn in the end of each fit.

        Parameters
        ----------
        estimator : DeepBinaryClassifier
            The estimator.
        context : sklearn.callback.CallbackContext
            Of the fit.
        """

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Call `on_fit_begin`; called by scikit-learn.

        Parameters
        ----------
        estimator : DeepBinaryClassifier
            The estimator.
        context : sklearn.callback.CallbackContext
            Of the fit, or of an epoch.
        """
        if context.task_name != "epoch":
            _call(self.on_fit_begin, estimator, context)

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        """Call `on_epoch_end` or `on_fit_end`; called by scikit-learn.

        Parameters
        ----------
        estimator : DeepBinaryClassifier
            The estimator.
        context : sklearn.callback.CallbackContext
            Of the fit, or of an epoch.

        Returns
        -------
        stops : bool
            Whether training is to stop.
        """
        if context.task_name != "epoch":
            _call(self.on_fit_end, estimator, context)
            return False
        history = estimator.history_
        metrics = {name: history.get(name, [np.nan])[-1] for name in METRICS}
        told = {"epoch": len(estimator.loss_curve_), "metrics": metrics}
        return bool(_call(self.on_epoch_end, estimator, context.parent, **told))


def _call(hook: Callable[..., Any], estimator: Any, context: Any, **told: Any) -> Any:
    """Call a hook with the arguments that it names; the context is that of the fit."""
    n_before = len(estimator.loss_curve_) - estimator.n_iter_
    told |= {
        "estimator": estimator,
        "fit": name_fit(context),
        "max_epochs": n_before + context.max_subtasks,
    }
    parameters = signature(hook).parameters.values()
    if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        told = {p.name: told[p.name] for p in parameters if p.name in told}
    return hook(**told)


def name_fit(context: Any) -> str:
    """Return a name of a fit: a random one of the outermost fit, and the path from there."""
    way = []
    while context.parent is not None:
        way.append(str(context.task_id))
        context = context.parent
    return "-".join(["fit", context.root_uuid.hex[:8], *reversed(way)])


def _known(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics that are known."""
    return {name: value for name, value in metrics.items() if not np.isnan(value)}


def _import(name: str) -> Any:
    """Import an optional package."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"This callback needs {name}: pip install {name}") from error


class CSVLogger(Callback):
    """Write a row for each epoch to a CSV file.

    Rows are added to those that the file has already, by as many fits and processes as write to it.
    The columns are always the same: "fit" (a name that tells the fits apart), "epoch", "loss",
    "penalty", "validation_loss", "validation_score", "learning_rate" and "seconds". What is not
    known is empty.

    Parameters
    ----------
    path : str or path-like
        The file, which is made if it is not there. Its folder must be there.

    Raises
    ------
    ValueError
        In `fit`, if the file has other columns.

    See Also
    --------
    DeepBinaryClassifier : Has the same numbers of its own fits in `history_`.

    Examples
    --------
    >>> from skdnn import DeepBinaryClassifier
    >>> from skdnn.callbacks import CSVLogger
    >>> model = DeepBinaryClassifier()
    >>> model = model.set_callbacks(CSVLogger("epochs.csv"))
    """

    columns = ("fit", "epoch", *METRICS)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def on_fit_begin(self) -> None:
        """Write the heading, or check it."""
        path, heading = Path(self.path), ",".join(self.columns)
        try:
            self._write(self.columns, "x")
            return
        except FileExistsError:
            if not path.stat().st_size:
                time.sleep(0.1)  # another process may have made it just now
        content = path.read_bytes()
        found = content.partition(b"\n")[0].decode(errors="replace").rstrip("\r")
        if not found:
            self._write(self.columns)
        elif found != heading:
            raise ValueError(
                f"CSVLogger adds rows to a file with the columns {heading!r}, but {path} begins "
                f"with {found[:200]!r}. Take another file."
            )
        elif not content.endswith(b"\n"):  # some editors leave it out
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def on_epoch_end(self, *, fit: str, epoch: int, metrics: dict[str, float]) -> None:
        """Write a row."""
        self._write((fit, epoch, *(_known(metrics).get(name, "") for name in metrics)))

    def _write(self, row: Any, mode: str = "a") -> None:
        """Write a row in one call, so that rows of several processes do not mix."""
        with Path(self.path).open(mode, encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)


class TqdmProgressBar(Callback):
    """Show a progress bar of epochs by tqdm, in a terminal or a notebook.

    It is one of characters on stderr, which needs no widgets in a notebook. It is closed in the end
    of the fit, also of one that fails. Leave `verbose` at False beside it: that prints lines.

    Parameters
    ----------
    **options : dict
        Further arguments of ``tqdm.tqdm``, such as ``desc`` or ``leave``.

    See Also
    --------
    sklearn.callback.ProgressBar : One of a whole search or pipeline, by rich.

    Examples
    --------
    >>> from skdnn import DeepBinaryClassifier
    >>> from skdnn.callbacks import TqdmProgressBar
    >>> model = DeepBinaryClassifier()
    >>> model = model.set_callbacks(TqdmProgressBar(desc="rain"))
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._bars: dict[str, Any] = {}

    def on_fit_begin(self, *, estimator: Any, fit: str, max_epochs: int) -> None:
        """Show a bar."""
        options = {"file": sys.stderr, "unit": "epoch", **self.options}
        n_before = len(estimator.loss_curve_)
        tqdm = _import("tqdm").tqdm
        self._bars[fit] = tqdm(total=max_epochs, initial=n_before, **options)

    def on_epoch_end(self, *, fit: str, metrics: dict[str, float]) -> None:
        """Advance the bar."""
        losses = {name: metrics[name] for name in ("loss", "validation_loss")}
        shown = {name: f"{value:.4f}" for name, value in _known(losses).items()}
        self._bars[fit].set_postfix(shown, refresh=False)
        self._bars[fit].update()

    def teardown(self, estimator: Any, context: Any) -> None:
        """Close it.

        Parameters
        ----------
        estimator : DeepBinaryClassifier
            The estimator.
        context : sklearn.callback.CallbackContext
            Of the fit.
        """
        bar = self._bars.pop(name_fit(context), None)
        if bar is not None:
            bar.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out bars that are shown: they belong to this process."""
        return vars(self) | {"_bars": {}}


class OptunaPruning(Callback):
    """Report each epoch to a trial of Optuna, and end the fit if the trial is to be pruned.

    The fit then raises ``optuna.TrialPruned``, which Optuna expects, and leaves the estimator as it
    was.

    Parameters
    ----------
    trial : optuna.Trial
        Of a study with one objective.
    metric : {"validation_loss", "validation_score", "loss"}, default="validation_loss"
        What to report. A loss is to be minimised by the study; "validation_score", which is that of
        `scoring`, is to be maximised.

    Raises
    ------
    ValueError
        If there is no such metric, or the study goes the other way. In `fit`, if there is no
        validation, or if the fit runs in another process than the one that made the callback.

    See Also
    --------
    skdnn.tuning.search_space : What to search.

    Notes
    -----
    Epoch k is step k - 1, as Optuna's pruners count from 0. Where one trial makes several fits, as
    in cross-validation, each new fit is reported after the steps that the earlier ones could have
    had, so that trials are compared fold by fold; leave `max_iter` the same in all trials then.
    ``cross_val_score`` needs ``error_score="raise"``, or it takes pruning for a failure.

    A trial lives in the process that made it: run the fits of a trial one after the other
    (``n_jobs=1``), and trials side by side by ``study.optimize(..., n_jobs=2)``.

    Examples
    --------
    >>> import optuna  # doctest: +SKIP
    >>> def objective(trial):
    ...     model = DeepBinaryClassifier(**search_space(trial))
    ...     model.set_callbacks(OptunaPruning(trial)).fit(X, y)
    ...     return min(model.history_["validation_loss"])
    >>> optuna.create_study().optimize(objective, n_trials=20)  # doctest: +SKIP
    """

    def __init__(self, trial: Any, metric: str = "validation_loss") -> None:
        if metric not in DIRECTIONS:
            raise ValueError(f"metric must be one of {list(DIRECTIONS)}, got {metric!r}.")
        self.trial, self.metric = trial, metric
        self._process = os.getpid()
        self._first_step = self._n_steps = 0
        study = getattr(trial, "study", None)  # a FixedTrial has none
        if study is not None and study.direction.name != DIRECTIONS[metric]:
            raise ValueError(
                f"The study has the direction {study.direction.name}, but {metric!r} is to be "
                f"{DIRECTIONS[metric].lower()}d. Take another metric, or "
                f"create_study(direction={DIRECTIONS[metric].lower()!r})."
            )

    def on_fit_begin(self, *, estimator: Any, max_epochs: int) -> None:
        """Check that the metric will be there; find the steps of this fit."""
        if os.getpid() != self._process:
            raise ValueError(
                "OptunaPruning works in the process that made its trial. Run the fits of a trial "
                "one after the other (n_jobs=1), and trials side by side by study.optimize(n_jobs)."
            )
        parameters = estimator.get_params(deep=False) | estimator.resolved_params_
        if self.metric != "loss" and not parameters["early_stopping"]:
            raise ValueError(
                f"There is no {self.metric} without early stopping. Set early_stopping=True, give "
                "X_val, or take metric='loss'."
            )
        if not len(estimator.loss_curve_):
            self._first_step = self._n_steps
        self._n_steps = self._first_step + max_epochs

    def on_epoch_end(self, *, epoch: int, metrics: dict[str, float]) -> None:
        """Report the epoch; raise ``TrialPruned`` if the trial is to be pruned."""
        self.trial.report(metrics[self.metric], self._first_step + epoch - 1)
        if self.trial.should_prune():
            raise _import("optuna").TrialPruned(f"Pruned after epoch {epoch}.")


class MLflowLogger(Callback):
    """Log the metrics of each epoch to a run of MLflow.

    What is not known, such as a validation loss without early stopping, is left out.

    Parameters
    ----------
    run_id : str or None, default=None
        The run; None is the one that is active when the fit begins.

    Raises
    ------
    ValueError
        In `fit`, if there is no active run and no `run_id`.

    See Also
    --------
    CSVLogger : Tells the fits of a search apart.

    Notes
    -----
    The step is the epoch. Several fits log to the same curves of a run: give each of them a run, or
    take `CSVLogger`. A search's worker processes have no active run: give them `run_id`.

    Examples
    --------
    >>> import mlflow  # doctest: +SKIP
    >>> with mlflow.start_run():  # doctest: +SKIP
    ...     DeepBinaryClassifier().set_callbacks(MLflowLogger()).fit(X, y)
    """

    def __init__(self, run_id: str | None = None) -> None:
        self.run_id = run_id

    def on_fit_begin(self) -> None:
        """Check that there is a run."""
        if _import("mlflow").active_run() is None and self.run_id is None:
            raise ValueError(
                "MLflowLogger needs a run: fit within mlflow.start_run(), or give it run_id."
            )

    def on_epoch_end(self, *, epoch: int, metrics: dict[str, float]) -> None:
        """Log the metrics that are known."""
        _import("mlflow").log_metrics(_known(metrics), step=epoch, run_id=self.run_id)


class WandbLogger(Callback):
    """Log the metrics of each epoch to the current run of Weights & Biases.

    What is not known, such as a validation loss without early stopping, is left out.

    Raises
    ------
    ValueError
        In `fit`, if ``wandb.init`` has not begun a run in this process.

    See Also
    --------
    CSVLogger : Tells the fits of a search apart.

    Notes
    -----
    Metrics are drawn against "epoch", which is logged with them. Several fits log to the same
    curves of a run: give each of them a run, or take `CSVLogger`.

    Examples
    --------
    >>> import wandb  # doctest: +SKIP
    >>> with wandb.init(project="rain"):  # doctest: +SKIP
    ...     DeepBinaryClassifier().set_callbacks(WandbLogger()).fit(X, y)
    """

    def on_fit_begin(self) -> None:
        """Check that there is a run, and name the axis."""
        run = _import("wandb").run
        if run is None:
            raise ValueError("WandbLogger needs a run: call wandb.init() before the fit.")
        run.define_metric("epoch")
        for name in METRICS:
            run.define_metric(name, step_metric="epoch")

    def on_epoch_end(self, *, epoch: int, metrics: dict[str, float]) -> None:
        """Log the metrics that are known."""
        _import("wandb").log({"epoch": epoch, **_known(metrics)})
