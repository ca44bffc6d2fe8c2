"""A decode worker gives up its rights before it sees a stranger's file: FFmpeg has bugs, and whoever uses one gets no
further than this process.

What stays is computing, and the descriptors that the parent passes. On Linux: no capabilities, no new privileges;
Landlock without a rule, which is no file opened, changed or executed, no TCP, no signal and no tracing beyond the
process; and a seccomp filter of what Landlock does not know: other sockets, other processes, files' modes and owners,
programs in memory, and the parts of the kernel where most of its holes are. Each holds where the kernel has it, and is
silent where it does not: ``confine`` returns what holds, and ``xclip doctor`` shows it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import resource
import struct
import sys
from contextlib import suppress

MOST_FILES = 64  # open at a time
MOST_WRITTEN = 1 << 16  # bytes of a file: of FFmpeg's messages, the only one that is written

# Of linux/prctl.h, linux/seccomp.h and linux/landlock.h
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_CAPABILITIES = 0x20080522
_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # system calls, of one number on all machines but Alpha
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # from which version on there are so many
_TCP, _SIGNALS_AND_ABSTRACT_SOCKETS = 3, 3

# System calls that are refused: their numbers on x86-64 and on aarch64, of linux/arch/*/…/unistd; None: not there.
DENIED: dict[str, tuple[int | None, int | None]] = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440),
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "truncate": (76, 45), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463), "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "personality": (135, 92),
    "init_module": (175, 105), "finit_module": (313, 273), "kexec_load": (246, 104), "quotactl": (179, 60),
    "fanotify_init": (300, 262), "inotify_init1": (294, 26), "inotify_init": (253, None),
}  # fmt: skip
_LIMITED = {"clone": (56, 220), "clone3": (435, 435), "tgkill": (234, 131), "prlimit64": (302, 261)}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_I386, _X32 = 0x40000003, 0x40000000  # other ways into the kernel of x86-64, by other numbers
_CLONE_THREAD = 0x10000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # where seccomp_data has them
ALLOWED, REFUSED, MISSING = 0x7FFF0000, 0x00050001, 0x00050026  # EPERM; ENOSYS

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def confine(written: int = MOST_WRITTEN) -> dict[str, str]:
    """Give up what decoding does not need, for good → what of it holds, for people to read. ``written``: bytes that an
    open file may grow to.

    For a process of one thread: those that follow inherit it. Call it when all modules are imported: nothing can be
    opened afterwards.
    """
    lower_limit(resource.RLIMIT_CORE, 0)
    lower_limit(resource.RLIMIT_NOFILE, MOST_FILES)
    lower_limit(resource.RLIMIT_FSIZE, written)
    if sys.platform != "linux":
        return {"landlock": "not on this system", "seccomp": "not on this system"}
    libc = ctypes.CDLL(None, use_errno=True)
    with suppress(AttributeError):  # a libc without it
        libc.capset(struct.pack("Ii", _CAPABILITIES, 0), bytes(24))
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        return {"landlock": "refused by the system", "seccomp": "refused by the system"}
    return {"landlock": _restrict(libc), "seccomp": _filter_calls(libc)}


def lower_limit(which: int, most: int) -> None:
    """Limit a resource of this process for good, to ``most`` or what it is limited to already."""
    hard = resource.getrlimit(which)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, most))


def end_with(lifeline: int) -> None:
    """Have the kernel kill this process, whatever it is doing, when the other end of a pipe is closed, as it is at its
    holder's end.

    On Linux; elsewhere a worker hears of it when it next listens. A parent-death signal would come too early: when the
    thread that started this process ends.
    """
    if sys.platform != "linux":
        return
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, 9)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _restrict(libc: ctypes.CDLL) -> str:
    """Landlock without rules: whatever this version of it can forbid is forbidden."""
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return "not in this kernel"
    files = (1 << max(count for since, count in _FILE_RIGHTS.items() if since <= version)) - 1
    attributes = struct.pack("QQQ", files, _TCP, _SIGNALS_AND_ABSTRACT_SOCKETS)
    known = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(known), 0)
    if rules < 0:
        return "refused by the system"
    refused = libc.syscall(_RESTRICT_SELF, rules, 0)
    os.close(rules)
    return "refused by the system" if refused else f"version {version}"


def _filter_calls(libc: ctypes.CDLL) -> str:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return f"not for {machine}"
    code = b"".join(struct.pack("HBBI", *step) for step in system_calls(machine))
    memory = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(memory))
    return "refused by the system" if libc.prctl(_SECCOMP, _FILTER, program, 0, 0) else "on"


def system_calls(machine: str) -> list[Instruction]:
    """The filter, as instructions of classic BPF. An unknown architecture is an emulator's, whose calls are others."""
    column = list(_ARCHITECTURES).index(machine)
    refused = [numbers[column] for numbers in DENIED.values()]
    clone, clone3, tgkill, prlimit = (numbers[column] for numbers in _LIMITED.values())
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 3, 0, _ARCHITECTURES[machine]),
        (_EQUAL, 0, 1, _I386),
        (_RETURN, 0, 0, REFUSED),
        (_RETURN, 0, 0, ALLOWED),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, REFUSED),
    ]
    for number in refused:
        if number is not None:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, REFUSED)]
    code += [(_EQUAL, 0, 1, clone3), (_RETURN, 0, 0, MISSING)]  # its flags cannot be seen: libc falls back to clone
    for number, test, operand in (
        (clone, _ANY_BIT, _CLONE_THREAD),  # threads, no processes
        (tgkill, _EQUAL, os.getpid()),  # as abort() does
        (prlimit, _EQUAL, 0),  # of itself
    ):
        code += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (test, 0, 1, operand),
            (_RETURN, 0, 0, ALLOWED),
            (_RETURN, 0, 0, REFUSED),
        ]
    return [*code, (_RETURN, 0, 0, ALLOWED)]
