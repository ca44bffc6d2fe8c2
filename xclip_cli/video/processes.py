"""Processes of our own that see strangers' files: started with little, and tied to their parent; and its clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

# Of the parent's environment they get what finds Python and its libraries: no tokens, no addresses.
_ENVIRONMENT = (
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"),
    *("PYTHONPYCACHEPREFIX", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR"),
)
# Nothing is computed in them but decoding: threads of NumPy's and heaps of many threads would be idle.
_LITTLE_ADDRESS_SPACE = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


def boot(call: str, numbers: int) -> str:
    """The code of a process that makes ``call``, of a function with a dotted name, with so many descriptors.

    It gets the parent's import path, and not the current folder, which may hold anybody's modules. Before anything
    takes time it is tied to its parent.
    """
    module, _, function = call.rpartition(".")
    return (
        f"import sys; sys.path[:] = sys.argv[{numbers + 2}:]; *files, lifeline = map(int, sys.argv[1:{numbers + 2}]); "
        "from xclip_cli.video.confinement import end_with; end_with(lifeline); "
        f"from {module} import {function}; {function}(*files)"
    )


def start(code: str, descriptors: Sequence[int]) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process with pipes for its stdin and stdout and these open files → it, and its lifeline: a descriptor
    with whose end it ends, so that it does where its parent does. Raises OSError.
    """
    theirs, lifeline = os.pipe()  # nothing is ever written
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which it inherits: Ctrl-C is ours to handle
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *map(str, descriptors), str(theirs), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[*descriptors, theirs],
            env={**{name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}, **_LITTLE_ADDRESS_SPACE},
            start_new_session=True,  # no terminal of the parent's
        )
    except BaseException:
        os.close(lifeline)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(theirs)
    return process, lifeline


class RunningClock:
    """Seconds in which this process ran: while it stands still (Ctrl-Z, a paused container), so does its clock.

    It is to be looked at every ``step`` seconds; of any longer time no more than twice that counts.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self._seconds = 0.0
        self._seen = time.monotonic()

    def now(self) -> float:
        """Seconds since it was made."""
        seen, self._seen = self._seen, time.monotonic()
        self._seconds += min(self._seen - seen, 2 * self.step)
        return self._seconds
