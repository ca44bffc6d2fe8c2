"""The limits of a decode worker: kept by the process on itself, and told from damage where they are met.

A decoder that is refused a picture or memory says much the same as one that meets damage: the picture's size only
FFmpeg's messages name, and near the end of memory anything may fail in any way.
"""

from __future__ import annotations

import os
import re
import resource
import sys

import av

from ..errors import VideoError
from .confinement import MOST_WRITTEN, lower_limit
from .limits import MEGABYTE, Limits

# Of libavutil, which calls sizes invalid that not even addresses have room for, and of dav1d.
_TOO_LARGE = re.compile(rb"(?:Picture|Frame) size (\d+)x(\d+) (?:exceeds|is invalid)")
_STATUS = "/proc/self/status"


class Guard:
    """Of a whole process, which must be the decoder's own: its address space is limited, and its stderr is taken.

    It has opened what it needs when it is made.
    """

    def __init__(self, messages: int) -> None:
        """``messages``: an open file that takes what FFmpeg says, and what Python would, from now on."""
        self._messages = messages
        os.dup2(self._messages, 2)
        try:
            self._status: int | None = os.open(_STATUS, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no Linux
            self._status = None
        av.logging.set_libav_level(av.logging.ERROR)
        av.logging.restore_default_callback()  # Python's could deadlock with the decoders' threads
        self._limits = Limits()

    def begin(self, limits: Limits) -> None:
        """Keep these limits from now on."""
        self._limits = limits
        self._take_messages()
        if sys.platform == "linux":  # others have the constant, and do not keep to it
            lower_limit(resource.RLIMIT_AS, limits.memory)

    def trim(self) -> None:
        """Forget messages, if they are many: a full file takes no more."""
        if os.fstat(self._messages).st_size > MOST_WRITTEN // 2:
            self._take_messages()

    @property
    def peak_memory(self) -> int:
        """The most bytes of address space that the process ever had; 0 where the system does not say."""
        if self._status is None:
            return 0
        found = re.search(rb"^VmPeak:\s*(\d+) kB", os.pread(self._status, 1 << 12, 0), re.MULTILINE)
        return int(found[1]) << 10 if found else 0

    @property
    def is_spent(self) -> bool:
        """Whether the process came near the limit of its memory: what fails in it from now on means nothing."""
        return self._limits.nearly_reached(self.peak_memory)

    def cause(self, error: BaseException) -> VideoError | None:
        """The limit that is the reason of an error, if one is."""
        for found in _TOO_LARGE.finditer(self._take_messages()):
            width, height = int(found[1]), int(found[2])
            if width * height > self._limits.pixels:
                return self._limits.too_many_pixels(width, height)
        if isinstance(error, MemoryError) or self.is_spent:
            return VideoError(
                f"decoding needs more memory than the limit of {self._limits.memory // MEGABYTE} MB (--max-memory)",
                "limit",
            )
        return None

    def _take_messages(self) -> bytes:
        """What was said since the last time; of very much the start."""
        messages = os.pread(self._messages, MOST_WRITTEN, 0)
        os.ftruncate(self._messages, 0)
        os.lseek(self._messages, 0, os.SEEK_SET)  # the position is stderr's, too
        return messages
