"""Time training steps against MLPClassifier and PyTorch.

Each network is trained for one pass over the same float32 rows by each library's public way
(`partial_fit`; for PyTorch a plain loop with fused Adam), and the time is divided by the number of
batches. The share of the matrix products is what they alone would take, timed by `np.dot` on the
same shapes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from measure import Call, Row, alternate, compare_times, make_rows, warm_up
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from skdnn import DeepBinaryClassifier


@dataclass(frozen=True)
class Case:
    """A network, its batches, and how many times longer the others' steps should be, in order.

    `n_batches` in a pass are enough for the checks that each library makes at the beginning of a
    pass to vanish among the steps. `targets` are those of `LIBRARIES` and a share.
    """

    hidden: tuple[int, ...]
    batch_size: int
    n_features: int
    n_batches: int
    targets: tuple[float | None, ...]


CASES = [
    Case((100,), 200, 10, 2000, (6.0, 5.0, None)),
    Case((64, 64), 200, 30, 1000, (4.0, 3.5, None)),
    Case((256, 256, 256), 256, 30, 400, (1.7, 1.2, 0.85)),
    Case((512, 512), 1024, 100, 100, (1.4, 1.1, 0.9)),
]


def skdnn_epoch(hidden, batch_size, X, y) -> Call:
    """Return a function that trains our network for one pass."""
    model = DeepBinaryClassifier(
        hidden,
        "relu",
        encoder=None,
        n_members=1,
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


def torch_epoch(hidden, batch_size, X, y) -> Call:
    """Return a function that trains PyTorch's network for one pass of a plain loop."""
    import torch

    layers: list = []
    for n_in, n_out in pairwise([X.shape[1], *hidden]):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(hidden[-1], 1), torch.nn.Flatten(0))
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


def make_products(sizes, n_rows, *, has_backward=True, is_input_trained=False) -> Call:
    """Return a function that computes the products of one network's layers for some rows.

    Of the first layer's input there is a gradient only where that is trained, as embeddings are.
    """
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n_rows, n)).astype(np.float32) for n in sizes]
    W = [rng.normal(size=s).astype(np.float32) for s in pairwise(sizes)]
    grad_x, grad_W = [np.empty_like(a) for a in x], [np.empty_like(a) for a in W]

    def products() -> None:
        for layer, weights in enumerate(W):
            np.dot(x[layer], weights, out=grad_x[layer + 1])
        for layer in range(len(W) - 1, -1, -1) if has_backward else ():
            np.dot(x[layer].T, x[layer + 1], out=grad_W[layer])
            if layer > 0 or is_input_trained:
                np.dot(x[layer + 1], W[layer].T, out=grad_x[layer])

    return products


OURS, PRODUCTS = "skdnn", "its matrix products"
LIBRARIES = {"MLPClassifier": mlp_epoch, "torch": torch_epoch}


def step_rows(threads: list[int], repeats: int) -> Iterator[Row]:
    """Compare a step of every network with each library's, and with its own matrix products."""
    for n_threads in threads:
        for case in CASES:
            seconds = time_case(case, n_threads, repeats)
            path = (
                f"step, hidden {case.hidden}, batch {case.batch_size}, {case.n_features} features, "
                f"{n_threads} thread{'' if n_threads == 1 else 's'}"
            )
            for name, bound in zip([*LIBRARIES, PRODUCTS], case.targets, strict=True):
                if name in seconds:
                    unit = "%" if name == PRODUCTS else "x"
                    yield compare_times(path, name, seconds, name, OURS, unit=unit, least=bound)
                else:
                    yield Row(path, name, least=bound, missing=f"{name} is not installed")


def time_case(case: Case, n_threads: int, repeats: int) -> dict[str, list[float]]:
    """Return the seconds per step of each library that is installed, run by run."""
    X, y = make_rows(case.n_batches * case.batch_size, case.n_features)
    epochs = {}
    for name, make in {OURS: skdnn_epoch, **LIBRARIES}.items():
        with suppress(ImportError):
            epochs[name] = make(case.hidden, case.batch_size, X, y)
    step = make_products([case.n_features, *case.hidden, 1], case.batch_size)
    epochs[PRODUCTS] = lambda: [step() for _ in range(case.n_batches)]
    if "torch" in epochs:
        sys.modules["torch"].set_num_threads(n_threads)  # which threadpoolctl may not see
    with threadpool_limits(n_threads):
        warm_up(epochs[OURS])
        seconds = alternate(epochs, repeats)
    return {name: [s / case.n_batches for s in runs] for name, runs in seconds.items()}
