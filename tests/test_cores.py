"""How many cores a process is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from xclip_cli import cores as module


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, [1.5]),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, [0.5]),
        ("4:cpu,cpuacct:/d\n3:memory:/x\n", {"cpu/d/cpu.cfs_quota_us": "3", "cpu/d/cpu.cfs_period_us": "2"}, [1.5]),
        ("4:cpu:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, []),
        ("nonsense\n", {}, []),
    ],
)
def test_quotas_of_processor_time(tmp_path: Path, membership: str, files: dict[str, str], cores: list[float]) -> None:
    for name, content in {"membership": membership, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert list(module._quotas(tmp_path / "membership", tmp_path)) == cores
    assert list(module._quotas(tmp_path / "none", tmp_path)) == []


@pytest.mark.parametrize(
    ("share", "most"), [("1", 1), ("0", 1), ("1000000", 999_999), ("many", 999_999), ("", 999_999)]
)
def test_a_share_of_the_cores(monkeypatch: pytest.MonkeyPatch, share: str, most: int) -> None:
    monkeypatch.setenv(module.CORES_VARIABLE, share)
    assert 1 <= module.usable_cores() <= most
