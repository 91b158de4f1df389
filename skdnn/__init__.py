"""A deep binary classifier for scikit-learn, written from scratch in NumPy."""

from .classifier import DeepBinaryClassifier
from .classifier_cv import DeepBinaryClassifierCV
from .estimator.explanations import Explanation
from .preprocessing import TabularEncoder
from .testing import GradientReport, check_gradients, show_versions

__version__ = "0.1.0"

__all__ = [
    "DeepBinaryClassifier",
    "DeepBinaryClassifierCV",
    "Explanation",
    "GradientReport",
    "TabularEncoder",
    "__version__",
    "check_gradients",
    "show_versions",
]
