"""Virtual environments with older versions of transformers, made once in a cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import pytest

# Alone these packages need to be of their time; all else (torch, safetensors, NumPy, ...) is this environment's.
PACKAGES = {
    "4.34.1": [
        "transformers==4.34.1",
        "tokenizers==0.14.1",
        "huggingface_hub==0.17.3",
        "numpy==1.26.4",
        "fsspec==2023.9.2",
    ],
    "4.57.1": ["transformers==4.57.1", "tokenizers==0.22.1", "huggingface_hub==0.36.0"],
}
COMMON = ["requests", "urllib3", "certifi", "charset-normalizer", "idna"]
CACHE = Path(os.environ.get("XCLIP_TEST_ENVIRONMENTS", Path(__file__).parents[3] / ".ci" / "environments"))


@cache
def interpreter(version: str) -> Path:
    """A Python that imports this version of transformers. Skips, or fails on CI, where it cannot be installed."""
    folder = CACHE / version
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists():
        return python
    if sys.version_info[:2] != (3, 11):
        pytest.skip(
            f"transformers {version} is installed with Python 3.11 alone: its NumPy has no wheels for later ones"
        )
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES[version], *COMMON],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"no environment with transformers {version}: {done.stderr[-500:]}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
    shared = Path(sysconfig.get_path("purelib"))
    paths = [
        str(shared),
        *(Path(p).read_text("utf-8").strip() for p in sorted(shared.glob("*.pth")) if p.stat().st_size < 500),
    ]
    own = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (own / "shared.pth").write_text("\n".join(paths) + "\n", "utf-8")  # after its own packages
    ready.touch()
    return python


def run(version: str, *arguments: str | Path) -> None:
    """Run Python of such an environment; its words are in the failure."""
    done = subprocess.run(
        [interpreter(version), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
