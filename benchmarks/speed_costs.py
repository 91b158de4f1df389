"""How the time of an epoch grows with rows, features, width and members, and a picture of it.

Each panel changes one of these and leaves the others as they are, on one thread. Members of
MLPClassifier and PyTorch are networks that take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from speed_measure import Call, alternate, limited, make_rows, warm_up
from speed_steps import mlp_epoch, skdnn_epoch, torch_epoch

BATCH_SIZE = 200
PICTURE = "speed_costs.png"
LIBRARIES = {"skdnn": skdnn_epoch, "MLPClassifier": mlp_epoch, "torch": torch_epoch}


@dataclass(frozen=True)
class Size:
    """How large a training is: two hidden layers of one width on a table."""

    rows: int = 10_000
    features: int = 20
    width: int = 64
    members: int = 1


GRID = {
    "rows": [1_000, 3_000, 10_000, 30_000, 100_000, 300_000],
    "features": [5, 20, 80, 320, 1280],
    "width": [16, 32, 64, 128, 256, 512, 1024],
    "members": [1, 2, 4, 8, 16, 32],
}


def make_epoch(library: str, size: Size) -> Call:
    """Return a function that trains all members of a library for one pass.

    Raises
    ------
    ImportError
        If the library is not installed.
    """
    X, y = make_rows(size.rows, size.features)
    arguments = (size.width, size.width), BATCH_SIZE, X, y
    if library == "skdnn":
        return skdnn_epoch(*arguments, size.members)
    epochs = [LIBRARIES[library](*arguments) for _ in range(size.members)]

    def epoch() -> None:
        for train in epochs:
            train()

    return epoch


def time_size(size: Size, repeats: int) -> dict[str, float | None]:
    """Return the seconds of an epoch of each library; None for one that is not installed."""
    epochs: dict[str, Call] = {}
    for library in LIBRARIES:
        try:
            epochs[library] = make_epoch(library, size)
        except ImportError:
            continue
        epochs[library]()
    seconds = alternate(epochs, repeats)
    return {name: median(seconds[name]) if name in seconds else None for name in LIBRARIES}


def measure_costs(repeats: int) -> Iterator[dict[str, Any]]:
    """Time every size of the grid."""
    with limited(1):
        warm_up(make_epoch("skdnn", Size()))
        for axis, values in GRID.items():
            for value in values:
                size = replace(Size(), **{axis: value})
                yield {"axis": axis, "seconds": time_size(size, repeats), **asdict(size)}


def draw_costs(costs: list[dict[str, Any]], folder: Path) -> Path:
    """Draw a panel for each axis, both scales logarithmic; name who is not installed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for axes, axis in zip(panels.flat, GRID, strict=True):
        points = [cost for cost in costs if cost["axis"] == axis]
        for number, name in enumerate(LIBRARIES):
            seconds = [point["seconds"][name] for point in points]
            label = name if None not in seconds else f"{name} (not installed)"
            measured = [float("nan") if s is None else s for s in seconds]
            axes.plot([p[axis] for p in points], measured, f"C{number}o-", ms=4, label=label)
        axes.set(xscale="log", yscale="log", xlabel=axis)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("seconds of an epoch")
    panels[0, 0].legend(frameon=False)
    base = Size()
    figure.suptitle(
        f"One epoch on one thread: {base.rows:,} rows, {base.features} features, "
        f"two hidden layers of {base.width}, batch {BATCH_SIZE},\n"
        "one network, but for what the panel changes"
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PICTURE
    figure.savefig(path, dpi=120)
    return path
