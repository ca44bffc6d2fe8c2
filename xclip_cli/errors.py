"""Every error that xclip raises on purpose. One line each, ready to be shown.

XClipError
├── VideoError      a video cannot be read; the run continues, the video becomes a failure record
├── LabelsError     labels or templates are unusable
├── ModelError      a checkpoint cannot be found or loaded
├── ResultsError    results cannot be written or read
└── ClusterError    there is no cluster, or its machines cannot do the run
"""

from __future__ import annotations


class XClipError(Exception):
    """The base of all errors that xclip defines. ``str(error)`` is one line for the user."""


class VideoError(XClipError):
    """A video cannot be classified.

    ``code`` is stable and goes into the failure record: missing, not_a_file, url, permission, empty_folder,
    empty, unsupported, no_video, no_frames, encrypted, damaged, limit, window, not_finite, timeout, crashed,
    interrupted, unfinished.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class LabelsError(XClipError):
    """A label file, a label set's name or a template is unusable."""


class ModelError(XClipError, OSError):
    """A checkpoint cannot be found, downloaded or loaded; an OSError, as code written for transformers expects."""


class ClusterError(XClipError):
    """There is no cluster to run on, or one of its machines lacks something."""


class ResultsError(XClipError):
    """Results cannot be written or read."""
