"""Find out whether the strings of a column read as numbers or times."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

WHOLE, DECIMAL, FORMATTED, TIME = "whole", "decimal", "formatted", "time"
"""What strings read as: numbers that are whole, have decimals, or signs (1,234.5, 12%); times."""

MARKERS = frozenset(
    {"", "?", "-", "--", ".", "*", "#", "na", "n/a", "#n/a", "n.a.", "<na>", "nan", "nd"}
    | {"nil", "none", "null", "missing", "unknown", "not available"}
)
"""What tables have in place of a missing number, in lower case."""

_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:1[5-9]|2[01])\d\d"
_HOUR = r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?"
_DATE = (
    rf"{_YEAR}-{_MONTH}(?:-{_DAY})?|{_YEAR}([/.]){_MONTH}\1{_DAY}"
    rf"|{_DAY}([/.-]){_MONTH}\2{_YEAR}|{_MONTH}([/-]){_DAY}\3{_YEAR}"
)
_TIME = re.compile(rf"(?:{_DATE})(?:[T ]{_HOUR} ?(?:Z|UTC|[+-]\d\d:?\d\d)?)?|{_HOUR}")
_CODE = re.compile(r"[+-]?0\d")
_WHOLE = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_FORMATTED = re.compile(
    r"[-+\u2212]? ?[$€£¥]? ?[-+\u2212]?"
    r"(?:\d{1,3}(?:([,.' \u00a0\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d+)?|\d+[.,]?\d*|[.,]\d+)"
    r" ?[%‰$€£¥]?"
)


def read_as(levels: Iterable[Any]) -> str | None:
    """Say what the levels of a column read as, or None if one of them is a code or other text.

    Numbers among the levels count too; markers of missing values do not. A number with a leading
    zero is a code.
    """
    forms = set()
    for level in levels:
        form = _read_level(level)
        if form is None:
            return None
        forms.add(form)
    forms.discard("")
    if TIME in forms:
        return TIME if len(forms) == 1 else None
    return next((form for form in (FORMATTED, DECIMAL, WHOLE) if form in forms), None)


def _read_level(level: Any) -> str | None:
    """Say what one level reads as, "" for a marker and None for a code or other text."""
    if isinstance(level, int | float) and not isinstance(level, bool):
        return WHOLE if isinstance(level, int) or level.is_integer() else DECIMAL
    text = level.decode("latin-1") if isinstance(level, bytes) else level
    if not isinstance(text, str):
        return None
    text = text.strip()
    if text.lower() in MARKERS:
        return ""
    if _TIME.fullmatch(text):
        return TIME
    if _CODE.match(text):
        return None
    patterns = {WHOLE: _WHOLE, DECIMAL: _DECIMAL, FORMATTED: _FORMATTED}
    return next((form for form, pattern in patterns.items() if pattern.fullmatch(text)), None)


def has_twins(levels: Collection[Any]) -> bool:
    """Say whether strings stand beside other levels that read as they do, as "1" beside 1."""
    others = {str(level) for level in levels if not isinstance(level, str)}
    if not others:
        return False
    texts = {level.strip() for level in levels if isinstance(level, str)}
    numbers = [float(text) for text in texts if _DECIMAL.fullmatch(text)]
    wholes = {str(int(number)) for number in numbers if number.is_integer()}
    return not others.isdisjoint(texts | wholes | {str(number) for number in numbers})
