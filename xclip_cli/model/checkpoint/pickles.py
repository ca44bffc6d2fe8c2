"""What a file of torch.save would do, before anything of it is unpickled: the names it asks for, and what it costs.

A pickle is a program for a small machine. One that runs no code can still take any amount of memory in a few bytes: by
a high number in the machine's memory, by a call of ``bytearray``, by a compressed archive. So its opcodes are read
first.
"""

from __future__ import annotations

import io
import mmap
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...errors import ModelError
from ...text import one_line

ZIP_START = b"PK\x03\x04"
LEGACY_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # torch's format of before 1.6
LEGACY_PICKLES = 5

MAX_OPCODES = 2_000_000  # of one pickle: a whole training run of the largest X-CLIP has 0.1 million
MAX_NAMES = 1_000  # of classes and functions that one pickle asks for
MAX_PICKLE = 1 << 26  # bytes of one pickle

TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
PARAMETER = "torch._utils._rebuild_parameter"
STORAGES = tuple(
    f"torch.{kind}Storage"
    for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
)
STATE_DICT_NAMES = {*TENSORS, PARAMETER, *STORAGES, "collections.OrderedDict"}  # all that plain weights need


def scan(file: BinaryIO | mmap.mmap) -> set[str]:
    """The names that the pickle at the file's position asks for; the position is behind it afterwards.

    Raises ValueError where loading it would cost out of proportion.
    """
    names: set[str] = set()
    start = file.tell()
    data = io.BytesIO(file.read(MAX_PICKLE))
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count > MAX_OPCODES or len(names) > MAX_NAMES:
            raise ValueError("its pickle is larger than any checkpoint's")
        # A pickle numbers what it remembers from 0 on: a higher number would only make room for nothing.
        if opcode.name.endswith("PUT") and int(argument or 0) > count:
            raise ValueError(f"its pickle asks for room for {argument} objects")
        if opcode.name in ("GLOBAL", "INST"):
            names.add(str(argument).replace(" ", "."))
        elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            names.add(opcode.name)  # what it is is not known before it runs
    file.seek(start + data.tell())
    return names


def check_state_dict(path: Path) -> None:
    """Make sure that a ``.bin`` asks for nothing but what plain weights are made of. Raises ModelError."""
    with translated_errors(path), path.open("rb") as file, mapped(file) as data:
        names: set[str] = set()
        if data[: len(ZIP_START)] == ZIP_START:
            with zipfile.ZipFile(file) as archive:
                members = [zip_span(info, data) for info in archive.infolist()]
                pickles = [span for span in members if re.fullmatch(r"[^/]+/data\.pkl", span[0])]
            if len(pickles) != 1:
                raise ValueError("a zip archive without the data.pkl that torch writes")
            data.seek(pickles[0][1])
            names |= scan(data)
        elif data[: len(LEGACY_START)] == LEGACY_START:
            for _ in range(LEGACY_PICKLES):
                names |= scan(data)
        else:
            raise ValueError("it does not start as one")
        if strange := sorted(names - STATE_DICT_NAMES):
            raise ValueError(f"it asks for {strange[0]}, which weights do not need")


@contextmanager
def mapped(file: BinaryIO) -> Iterator[mmap.mmap]:
    """A file as memory; private: what is written to it never reaches the file."""
    memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    try:
        yield memory
    finally:
        memory.close()


def zip_span(info: zipfile.ZipInfo, data: mmap.mmap) -> tuple[str, int, int]:
    """An archive's member: its name, and where its bytes start and end in the file. Raises ValueError."""
    header = info.header_offset
    name_length, extra_length = struct.unpack_from("<HH", data, header + 26)
    start = header + 30 + name_length + extra_length
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename!a} is compressed, which torch does not do")
    if data[header : header + 4] != ZIP_START or start + info.file_size > len(data):
        raise ValueError(f"the archive's table of contents does not match it at {info.filename!a}")
    return info.filename, start, start + info.file_size


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file, as a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # what damaged pickles and archives raise is documented as open
        raise ModelError(f"{path} is not a file that torch saved, or it is damaged: {one_line(error)}") from error
