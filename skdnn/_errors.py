"""NumPy's usual answer to overflow and underflow, whatever `numpy.seterr` says in the process."""

import numpy as np

with_usual_errors = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
"""A decorator. Numbers too small for a float are zeros here as everywhere, and no mistake."""
