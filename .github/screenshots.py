"""The README's picture: a report of its first result, with the lines that the README gives. Run by `make screenshots`.

Needs a network, for the video, and Chromium.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
README = (FOLDER.parent / "README.md").read_text("utf-8")
SIZE = "900,1040"  # pixels


def main() -> None:
    """Write the picture."""
    fetch = next(block for block in re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S) if "pip download" in block)
    commands = re.findall(r"^\$ (xclip .*trailer\.(?:jsonl|html))$", README, re.M)
    folder = tempfile.mkdtemp()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", fetch + "\n".join(commands)], cwd=folder, env=environment, check=True)
    picture = [f"--window-size={SIZE}", f"--screenshot={FOLDER / 'report.png'}", "trailer.html"]
    browser = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars"]
    subprocess.run([*browser, *picture], cwd=folder, check=True, stderr=subprocess.DEVNULL)


main()
