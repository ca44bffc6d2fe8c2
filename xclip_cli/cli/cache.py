"""xclip cache."""

from __future__ import annotations

import json

import typer

from .options import AsJson


def show_cache(as_json: AsJson = False) -> None:
    """Show where the labels' text features are cached, and how much space they take.

    The folder is XCLIP_CACHE, else one in your system's cache folder. It holds 1 GB at most.

    Examples:
      xclip cache info
    """
    from ..engine.cache import FeatureCache
    from ..output.tables import format_fields

    cache = FeatureCache()
    values = {
        "folder": None if cache.folder is None else str(cache.folder),
        "label sets": len(cache.entries()),
        "bytes": cache.size(),
        "limit in bytes": cache.limit,
    }
    typer.echo(json.dumps(values, indent=2) if as_json else format_fields(values))


def clear_cache() -> None:
    """Delete the cached text features. Downloaded models stay: they are in the Hugging Face cache.

    Examples:
      xclip cache clear
    """
    from ..engine.cache import FeatureCache

    typer.echo(f"deleted {FeatureCache().clear()} files")
