"""The filter of system calls, run here by an interpreter of its instructions, and its numbers against the kernel's."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from xclip_cli.video.confinement import (
    _ARCHITECTURES,
    _LIMITED,
    ALLOWED,
    DENIED,
    MISSING,
    REFUSED,
    system_calls,
)

HEADERS = ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h")


def verdict(machine: str, number: int, first: int = 0, architecture: int | None = None) -> int:
    """What the filter says of a call."""
    data = {0: number, 4: _ARCHITECTURES[machine] if architecture is None else architecture, 16: first}
    program, at, value = system_calls(machine), 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if code == 0x20:
            value = data[operand]
        elif code == 0x06:
            return operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize("machine", _ARCHITECTURES)
def test_the_filter(machine: str) -> None:
    column = list(_ARCHITECTURES).index(machine)
    for name, numbers in DENIED.items():
        if numbers[column] is not None:
            assert verdict(machine, numbers[column]) == REFUSED, name
    clone, clone3, tgkill, prlimit = (numbers[column] for numbers in _LIMITED.values())
    denied = {numbers[column] for numbers in DENIED.values()} | {clone, clone3, tgkill, prlimit}
    for number in set(range(500)) - denied:
        assert verdict(machine, number) == ALLOWED
    assert verdict(machine, clone3) == MISSING
    assert [verdict(machine, clone, flags) for flags in (17, 0x3D0F00)] == [REFUSED, ALLOWED]
    assert [verdict(machine, tgkill, pid) for pid in (os.getppid(), os.getpid())] == [REFUSED, ALLOWED]
    assert [verdict(machine, prlimit, pid) for pid in (os.getppid(), 0)] == [REFUSED, ALLOWED]
    assert verdict(machine, 1, architecture=0x40000003) == REFUSED  # i386
    assert verdict(machine, 0x40000001) == REFUSED  # x32
    assert len(system_calls(machine)) < 4096


@pytest.mark.parametrize("column", [0, 1])
def test_the_numbers_are_the_kernels(column: int) -> None:
    path = Path(HEADERS[column])
    if not path.exists():
        pytest.skip("the kernel's headers are not installed")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text()))
    compared = 0
    for name, numbers in {**DENIED, **_LIMITED}.items():
        if name in found or numbers[column] is None:
            assert found.get(name) == (None if numbers[column] is None else str(numbers[column])), name
            compared += 1
    assert compared > 60
