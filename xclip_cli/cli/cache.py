"""xclip cache."""

from __future__ import annotations

import json

import typer

from .options import AsJson


def show_cache(as_json: AsJson = False) -> None:
    """Show where text features are kept, and how much of it there is.

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
    """Delete the text features that are kept. Downloaded models stay: they are the hub's.

    Examples:
      xclip cache clear
    """
    from ..engine.cache import FeatureCache

    typer.echo(f"deleted {FeatureCache().clear()} files")
