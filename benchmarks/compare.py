"""Compare the speed of two versions of this package in one run, by turns, through public names.

    python benchmarks/compare.py OLD NEW [--only TEXT ...] [--repeats 5] [--threads 1 2]
                                 [--numba on off] [--output compare.json] [--quick]

OLD and NEW are folders that hold `skdnn` (a checkout, a git worktree) or whatever pip installs. For
each case every pair of version and setting (threads, with and without numba) has a process of its
own; when they are warm they take turns, in the other direction each time. Run k has seed k.

Prints a table and writes JSON: medians of seconds, of processor time ("cpu"), and of seconds an
epoch ("epoch"), as versions may stop after different numbers of epochs. A `ratio` is OLD over NEW,
above 1 where NEW is faster; `two_threads` is the seconds with two threads over those with one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from measure import IMPORT, QUICK, make_rows, make_table, markdown, run_code, show_time, warm_up
from speed_steps import CASES as STEPS
from speed_steps import Case, skdnn_epoch

import skdnn

Run = Callable[[int], object]
"""What is timed, for a seed. A dict that it returns has its epochs, or seconds it has measured."""

FIRST_FIT = """
from time import process_time
from measure import make_rows
from skdnn import DeepBinaryClassifier
X, y = make_rows(10_000, 20)
times = [process_time()]
for _ in range(2):
    DeepBinaryClassifier(random_state=0).fit(X, y)
    times.append(process_time())
print(2 * times[1] - times[0] - times[2])
"""
"""Prints how many seconds of the processor the first fit takes beyond those of the second."""


# ---- cases, in the processes of the versions: each function makes what is timed


def step(case: Case, n_threads: int) -> Run:
    """Train one network of `speed.py` for a pass."""
    rows = make_rows(case.n_batches * case.batch_size, case.n_features)
    epoch = skdnn_epoch(case.hidden, case.batch_size, *rows)
    warm_up(epoch)
    return lambda seed: epoch()


def fit(n_rows: int, n_threads: int, *, is_mixed: bool = False) -> Run:
    """Fit the default ensemble."""
    X, y = make_table(n_rows, is_mixed=True) if is_mixed else make_rows(n_rows, 20)
    model = skdnn.DeepBinaryClassifier(n_jobs=n_threads)
    return lambda seed: {"epochs": model.set_params(random_state=seed).fit(X, y).n_iter_}


def predict(n_rows: int, n_threads: int) -> Run:
    """Predict rows by the default ensemble, again and again where they are few."""
    X, y = make_rows(10_000, 20)
    model = skdnn.DeepBinaryClassifier(n_jobs=n_threads, random_state=0).fit(X, y)
    n_calls = max(1, 2_000 // n_rows)
    return lambda seed: [model.predict_proba(X[:n_rows]) for _ in range(n_calls)]


def fresh(code: str, n_threads: int) -> Run:
    """Run code in a new process, which prints seconds."""
    return lambda seed: dict.fromkeys(("seconds", "cpu"), run_code(code))


CASES: dict[str, Callable[[int], Run]] = {
    **{f"step, hidden {case.hidden}": partial(step, case) for case in STEPS},
    **{f"default fit, {n:,} x 20": partial(fit, n) for n in (2_000, 3_000, 6_000, 10_000, 50_000)},
    "default fit, 10,000 rows with categories": partial(fit, 10_000, is_mixed=True),
    **{f"predict_proba, {n:,} x 20": partial(predict, n) for n in (1, 70, 10_000)},
    "import": partial(fresh, IMPORT),
    "first fit of a process, 10,000 x 20": partial(fresh, FIRST_FIT),
}


def work(name: str, n_threads: int) -> None:
    """Prepare a case, then run it for each seed that is asked for, and write what it took."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever prints shall not answer
    run = CASES[name](n_threads)
    warm_up(lambda: run(0))
    for seed in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        found = run(int(seed))
        taken = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        taken |= found if isinstance(found, dict) else {}
        taken["epoch"] = taken["seconds"] / taken.get("epochs", 1)
        answers.write(json.dumps({**taken, "file": skdnn.__file__}) + "\n")


# ---- the process that asks them


@contextmanager
def worker(folder: Path, name: str, n_threads: int, numba: str) -> Iterator[Callable[[int], dict]]:
    """Start a process of a version, and give what asks it for a run."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(threads, str(n_threads))
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # imports are those of a package installed
    environment |= {"PYTHONPATH": path, "NUMBA_DISABLE_JIT": str(int(numba == "off"))}
    command = [sys.executable, __file__, "--worker", name, str(n_threads)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def ask(seed: int) -> dict[str, Any]:
        with suppress(BrokenPipeError):
            process.stdin.write(f"{seed}\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{name}: the process of {folder} ended; its error stands above")
        answer = json.loads(line)
        if not Path(answer.pop("file")).resolve().is_relative_to(folder):
            raise RuntimeError(f"expected skdnn of {folder}; another one is imported")
        return answer

    try:
        yield ask
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()


def measure_case(name: str, folders: dict[str, Path], settings: list, repeats: int) -> list[dict]:
    """Return the medians of a case and their ratios, by threads and numba."""
    keys = [(version, *setting) for setting in settings for version in folders]
    runs: dict[tuple, list[dict]] = {key: [] for key in keys}
    with ExitStack() as stack:
        asks = {}
        for key in keys:  # one after the other: each is warm before the next starts
            asks[key] = stack.enter_context(worker(folders[key[0]], name, *key[1:]))
            asks[key](0)
        for number in range(repeats):
            for key in keys if number % 2 else reversed(keys):
                runs[key].append(asks[key](number))
    rows: list[dict[str, Any]] = []
    for n_threads, numba in settings:
        all_runs = {version: runs[version, n_threads, numba] for version in folders}
        row = {"case": name, "threads": n_threads, "numba": numba, "runs": all_runs}
        for what in ("seconds", "cpu", "epoch"):
            figures = {v: median(run[what] for run in all_runs[v]) for v in folders}
            row[what] = figures | {"ratio": figures["old"] / figures["new"]}
        for one in rows:
            if (one["threads"], one["numba"]) == (1, numba):
                row["two_threads"] = {v: row["seconds"][v] / one["seconds"][v] for v in folders}
        rows.append(row)
    return rows


def find_version(spec: str, folder: Path) -> Path:
    """Return the folder that holds a version, installed there if need be."""
    if (Path(spec) / "skdnn").is_dir():
        return Path(spec).resolve()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*pip, str(folder), spec], check=True)
    return folder.resolve()


HEADER = ["case", "threads", "numba", "old", "new", "ratio", "CPU", "epoch", "two threads"]


def cells(row: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    times = [show_time(row["seconds"][version]) for version in ("old", "new")]
    ratios = [f"{row[what]['ratio']:.2f}x" for what in ("seconds", "cpu", "epoch")]
    shares = " to ".join(f"{share:.2f}" for share in row.get("two_threads", {}).values())
    return [row["case"], str(row["threads"]), row["numba"], *times, *ratios, shares]


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("versions", nargs=2, metavar=("OLD", "NEW"), help="folder, or for pip")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of cases")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each process")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--numba", nargs="+", choices=("on", "off"), default=["on", "off"])
    parser.add_argument("--output", type=Path, help="file to write the figures to, as JSON")
    parser.add_argument("--quick", action="store_true", help="run on tiny tables, as a test")
    return parser.parse_args()


def main() -> None:
    """Measure the cases, printing and writing each when it is done."""
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]))
        return
    options = parse()
    if options.quick:
        os.environ[QUICK] = "1"
    settings = list(product(sorted(options.threads), options.numba))
    figures: dict[str, Any] = dict(zip(("old", "new"), options.versions, strict=True))
    figures |= {"cases": [], "failed": {}}
    with TemporaryDirectory() as installed:
        folders = {v: find_version(figures[v], Path(installed, v)) for v in ("old", "new")}
        for name in CASES:
            if not any(part in name for part in options.only):
                continue
            try:
                rows = measure_case(name, folders, settings, options.repeats)
                figures["cases"] += rows
                print(markdown(HEADER, map(cells, rows)), flush=True)
            except RuntimeError as error:  # one case that fails leaves the others
                figures["failed"][name] = str(error)
                print(error, file=sys.stderr)
            if options.output is not None:
                options.output.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(bool(figures["failed"]))


if __name__ == "__main__":
    main()
