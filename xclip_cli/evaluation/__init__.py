"""How right results are: records and a dataset's right labels → accuracy, confusion, calibration.

Start with ``evaluate(records, truth)``; ``read_truth`` reads a dataset's labels.
"""

from .forms import read_truth
from .outcomes import Evaluation, evaluate
from .truth import Truth

__all__ = ["Evaluation", "Truth", "evaluate", "read_truth"]
