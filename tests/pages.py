"""The pages of the documentation, and the code in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python(?: (?P<file>\S+))?\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def read_examples(page: Path) -> list[str]:
    """Return the code of a page that runs, in order; excerpts name the file they stand in."""
    return [match["code"] for match in BLOCK.finditer(page.read_text()) if not match["file"]]
