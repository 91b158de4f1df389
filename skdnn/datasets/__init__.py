"""Real data to try the classifier on, shipped inside the package."""

from ._rain import load_rain

__all__ = ["load_rain"]
