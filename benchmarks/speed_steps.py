"""Time one training step against MLPClassifier, PyTorch and skorch.

Each network is trained for one pass over the same float32 rows by each library's public way
(`partial_fit`; for PyTorch a plain loop with fused Adam), and the time is divided by the number of
batches. The share of the matrix products is what they alone would take, timed by `np.dot` on the
same shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sklearn.neural_network import MLPClassifier
from speed_measure import Call, alternate, limited, make_rows, paired_ratios, warm_up
from speed_report import Row, Target, at_least, show_medians

from skdnn import DeepBinaryClassifier


@dataclass(frozen=True)
class Case:
    """A network, its batches, and how much faster than the others its step should be.

    `n_batches` in a pass are enough for the checks that each library makes at the beginning of a
    pass to vanish among the steps.
    """

    hidden: tuple[int, ...]
    batch_size: int
    n_features: int
    n_batches: int
    targets: dict[str, Target]


def _targets(mlp: float, torch: float, skorch: float, share: float | None = None):
    ratios = {"MLPClassifier": mlp, "torch": torch, "skorch": skorch}
    shares = {} if share is None else {"np.dot": share}
    return {name: at_least(bound) for name, bound in (ratios | shares).items()}


CASES = [
    Case((100,), 200, 10, 2000, _targets(6.0, 5.0, 10.0)),
    Case((64, 64), 200, 30, 1000, _targets(4.0, 3.5, 6.0)),
    Case((256, 256, 256), 256, 30, 400, _targets(1.7, 1.2, 1.3, 0.85)),
    Case((512, 512), 1024, 100, 100, _targets(1.4, 1.1, 1.15, 0.9)),
]


def skdnn_epoch(hidden, batch_size, X, y, n_members=1) -> Call:
    """Return a function that trains our network for one pass."""
    model = DeepBinaryClassifier(
        hidden,
        "relu",
        encoder=None,
        n_members=n_members,
        dropout=0.0,
        alpha=1e-4,
        solver="adam",
        ema_decay=None,
        batch_size=batch_size,
    )
    return lambda: model.partial_fit(X, y, classes=[0, 1])


def mlp_epoch(hidden, batch_size, X, y) -> Call:
    """Return a function that trains scikit-learn's network for one pass."""
    model = MLPClassifier(hidden, batch_size=batch_size)
    return lambda: model.partial_fit(X, y, classes=[0, 1])


def torch_module(hidden, n_features):
    """Return the same network in PyTorch."""
    import torch

    sizes = [n_features, *hidden]
    layers: list = []
    for n_in, n_out in pairwise(sizes):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1), torch.nn.Flatten(0))


def torch_epoch(hidden, batch_size, X, y) -> Call:
    """Return a function that trains PyTorch's network for one pass of a plain loop."""
    import torch

    model = torch_module(hidden, X.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    cost = torch.nn.BCEWithLogitsLoss()
    X, y = torch.from_numpy(X), torch.from_numpy(y.astype(np.float32))

    def epoch() -> None:
        order = torch.randperm(len(X))
        for start in range(0, len(X), batch_size):
            rows = order[start : start + batch_size]
            optimizer.zero_grad()
            cost(model(X[rows]), y[rows]).backward()
            optimizer.step()

    return epoch


def skorch_epoch(hidden, batch_size, X, y) -> Call:
    """Return a function that trains skorch's classifier for one pass."""
    import torch
    from skorch import NeuralNetBinaryClassifier

    model = NeuralNetBinaryClassifier(
        torch_module(hidden, X.shape[1]),
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        lr=1e-3,
        max_epochs=1,
        batch_size=batch_size,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )
    target = y.astype(np.float32)
    model.initialize()
    return lambda: model.partial_fit(X, target)


def dot_epoch(hidden, batch_size, X, y) -> Call:
    """Return a function that computes the matrix products of one pass and nothing else."""
    rng = np.random.default_rng(0)
    sizes = [X.shape[1], *hidden, 1]
    x = [rng.normal(size=(batch_size, n)).astype(np.float32) for n in sizes]
    W = [rng.normal(size=s).astype(np.float32) for s in pairwise(sizes)]
    grad_x, grad_W = [np.empty_like(a) for a in x], [np.empty_like(a) for a in W]

    def epoch() -> None:
        for _ in range(len(X) // batch_size):
            for layer, weights in enumerate(W):
                np.dot(x[layer], weights, out=grad_x[layer + 1])
            for layer in range(len(W) - 1, -1, -1):
                np.dot(x[layer].T, x[layer + 1], out=grad_W[layer])
                if layer > 0:
                    np.dot(x[layer + 1], W[layer].T, out=grad_x[layer])

    return epoch


LIBRARIES = {
    "skdnn": skdnn_epoch,
    "MLPClassifier": mlp_epoch,
    "torch": torch_epoch,
    "skorch": skorch_epoch,
    "np.dot": dot_epoch,
}


def time_case(case: Case, repeats: int) -> dict[str, list[float]]:
    """Return the seconds per step of each library that is installed, run by run."""
    X, y = make_rows(case.n_batches * case.batch_size, case.n_features)
    epochs = {}
    for name, make in LIBRARIES.items():
        try:
            epochs[name] = make(case.hidden, case.batch_size, X, y)
        except ImportError:
            continue
        warm_up(epochs[name])
    seconds = alternate(epochs, repeats)
    return {name: [s / case.n_batches for s in runs] for name, runs in seconds.items()}


def step_rows(threads: list[int], repeats: int) -> Iterator[Row]:
    """Compare a step of every network with every number of threads."""
    for n_threads in threads:
        for case in CASES:
            with limited(n_threads):
                seconds = time_case(case, repeats)
            yield from rows_of_case(case, n_threads, seconds)


def rows_of_case(case: Case, n_threads: int, seconds: dict[str, list[float]]) -> Iterator[Row]:
    """Compare our step with each library's, and with its own matrix products."""
    plural = "" if n_threads == 1 else "s"
    path = (
        f"step, hidden {case.hidden}, batch {case.batch_size}, {case.n_features} features, "
        f"{n_threads} thread{plural}"
    )
    ours = seconds["skdnn"]
    for name in LIBRARIES:
        if name == "skdnn":
            continue
        against = "its matrix products" if name == "np.dot" else name
        target = case.targets.get(name)
        if name not in seconds:
            yield Row(path, against, target=target, missing=f"{name} is not installed")
            continue
        details = show_medians(seconds, ["skdnn", name])
        if name == "np.dot":
            yield Row(path, against, paired_ratios(seconds[name], ours), "%", target, details)
        else:
            yield Row(path, against, paired_ratios(seconds[name], ours), "x", target, details)
