"""``python -m xclip_cli``."""

from .cli import main

main()
