"""The pages tell the truth: excerpts stand in the files they name, and examples run."""

import re
import textwrap
from pathlib import Path

import pytest
import sklearn
from sklearn.utils.fixes import parse_version

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python(?: (?P<file>\S+))?\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)(?P<target>[^)#]+)")


def normalize(code: str) -> str:
    """Make an excerpt and its file comparable: indentation from zero, no blank lines."""
    return "\n".join(line for line in textwrap.dedent(code).splitlines() if line.strip())


EXCERPTS = [
    pytest.param(match["file"], normalize(match["code"]), id=f"{page.name}-{match['file']}-{i}")
    for page in PAGES
    for i, match in enumerate(BLOCK.finditer(page.read_text()))
    if match["file"]
]


def test_pages_have_excerpts():
    assert len(EXCERPTS) > 10


@pytest.mark.parametrize(("file", "code"), EXCERPTS)
def test_excerpt_stands_in_its_file(file, code):
    lines = [line for line in (ROOT / file).read_text().splitlines() if line.strip()]
    n_lines = len(code.splitlines())
    windows = ("\n".join(lines[i : i + n_lines]) for i in range(len(lines)))
    assert any(normalize(window) == code for window in windows)


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="the user guide uses scikit-learn's callbacks",
)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_a_page_run_one_after_the_other(page, capsys):
    namespace: dict = {}
    for match in BLOCK.finditer(page.read_text()):
        if not match["file"]:
            exec(compile(match["code"], page.name, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    missing = [
        match["target"]
        for match in LINK.finditer(page.read_text())
        if not (page.parent / match["target"]).exists()
    ]
    assert not missing
