"""Zero-shot video classification with X-CLIP."""

from __future__ import annotations

__version__ = "0.1.0"
