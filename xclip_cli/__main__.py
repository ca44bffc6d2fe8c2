"""``xclip``, and ``python -m xclip_cli``."""

from __future__ import annotations

import os
import signal

from .cli.exits import INTERRUPTED


def main() -> None:
    """Run the program. While it is being imported Ctrl-C ends it without a word: there is nothing to lose yet."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from .cli.app import main as run

    run()


if __name__ == "__main__":
    main()
