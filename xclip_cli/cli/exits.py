"""The exit codes, as the help of classify lists them. 0 is success, and 128 + N an end by signal N.

``run.Tally`` chooses for a run over videos, ``app`` for errors; the other commands for themselves.
"""

from __future__ import annotations

FAILURE = 1  # no video was classified, or another error that is one line
USAGE = 2  # invalid usage, labels or templates
SOME_FAILED = 3  # some videos, and not all
NO_MODEL = 4  # it is unavailable
INTERRUPTED = 130  # by Ctrl-C
