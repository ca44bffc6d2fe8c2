"""``python -m xclip_cli``."""

from .cli.app import main

main()
