"""A decoder that a file has taken over costs that file, and nothing else: every attack ends in one ``crashed``."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
import time
from concurrent.futures import wait
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import pytest
import takeover
from clips import number_of, write_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from xclip_cli.errors import VideoError
from xclip_cli.text import printable
from xclip_cli.video import pool, processes
from xclip_cli.video.limits import Limits
from xclip_cli.video.pending import Pending
from xclip_cli.video.pool import Decoders
from xclip_cli.video.processes import RunningClock
from xclip_cli.video.protocol import line
from xclip_cli.video.sampling import ClipInfo, ClipRequest

ENDLESS = {"alive", "grow", "shrink", "empty_lines", "reads_nothing"}  # attacks that last until a limit of time
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers are confined on Linux")


@pytest.mark.parametrize("attack", takeover.ATTACKS)
def test_an_attack_costs_its_video(monkeypatch: pytest.MonkeyPatch, clip: Path, attack: str) -> None:
    monkeypatch.setattr(pool, "KILL_SECONDS", 1.0)
    monkeypatch.setattr(pool, "_BOOT", takeover.boot(takeover.ATTACKS[attack]))
    with Decoders(number_of, timeout=2 if attack in ENDLESS else 20, limits=Limits(seconds=2)) as decoders:
        decoders.submit(ClipRequest(str(clip), 8))
        with pytest.raises(VideoError) as caught:
            decoders.collect()
        assert caught.value.code == ("timeout" if attack == "reads_nothing" else "crashed")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
        monkeypatch.undo()
        decoders.submit(ClipRequest(str(clip), 8))
        collected = decoders.collect()
    assert collected


AFTER = {  # what is said behind a whole answer is said of the next video
    "twice": "pic(); say({'clip': clip}); say({'clip': clip}); pic()",
    "early_error": "for _ in range(5): say({'error': {'code': 'x', 'message': 'y'}})",
}


@pytest.mark.parametrize("attack", AFTER)
def test_what_is_said_without_being_asked(monkeypatch: pytest.MonkeyPatch, clip: Path, attack: str) -> None:
    monkeypatch.setattr(pool, "_BOOT", takeover.boot(AFTER[attack]))
    with Decoders(number_of, timeout=5) as decoders:
        outcomes = []
        for _ in range(3):
            decoders.submit(ClipRequest(str(clip), 8))
            try:
                outcomes.append(decoders.collect())
            except VideoError as error:
                outcomes.append(error.code)
        assert len(outcomes) == 3
        assert not decoders.pending


@LINUX
def test_a_worker_that_answers_and_never_reads(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    """It counts its requests by the bytes that wait for it, until no more fit."""
    script = """
import struct
waiting = lambda: struct.unpack('i', fcntl.ioctl(0, 0x541B, bytes(4)))[0]
seen = 0
while True:
    say({'error': {'code': 'x', 'message': 'y'}})
    while waiting() == seen: time.sleep(0.0005)
    seen = waiting()
"""
    monkeypatch.setattr(pool, "_BOOT", takeover.boot(script))
    codes = set()
    with Decoders(number_of, timeout=10) as decoders:
        for _ in range(600):
            decoders.submit(ClipRequest(str(clip), 8))
            with pytest.raises(VideoError) as caught:
                decoders.collect()
            codes.add(caught.value.code)
    assert codes == {"x", "crashed"}


@pytest.mark.parametrize(
    "attack",
    [name if name == "picture_big" else pytest.param(name, marks=pytest.mark.slow) for name in takeover.ATTACKS],
)
def test_a_run_ends_with_one_crashed_record(clip: Path, tmp_path: Path, attack: str) -> None:
    """Through the command line: the first worker is taken over, the next is not."""
    other = write_clip(tmp_path / "other.mp4", 20)
    code = f"""
        import sys, xclip_cli.video.pool as pool
        honest, boots = pool._BOOT, [{takeover.boot(takeover.ATTACKS[attack])!r}]
        made = pool._Worker.__init__
        def make(self, *args):
            pool._BOOT = boots.pop() if boots else honest
            made(self, *args)
        pool._Worker.__init__ = make
        from xclip_cli.cli.app import main
        main()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), "classify", str(clip), str(other)]
    command += ["--labels", "picture-state", "--model", "bundled", "--workers", "1", "--format", "jsonl"]
    command += ["--timeout", "2", "--max-seconds", "3"] if attack in ENDLESS else []
    environment = {**os.environ, "HF_TOKEN": "hf_SECRET"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    records = [json.loads(text) for text in done.stdout.splitlines()]
    assert (done.returncode, [record["status"] for record in records]) == (3, ["error", "ok"]), done.stderr
    assert records[0]["error"]["code"] == ("timeout" if attack == "reads_nothing" else "crashed")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["other.mp4"]
    assert "Traceback" not in done.stderr


# Any replies, in any order

NUMBERS = st.one_of(st.integers(-3, 70), st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=3))
FIT = {
    "start_seconds": 0.0,
    "end_seconds": 2.0,
    "times_seconds": [0.5, 1.5],
    "places": [0, 1],
    "errors": 0,
    "warnings": [],
    "following": 0,
    "rate": "25",
    "lost": None,
    "seconds": 0.1,
}
assert FIT.keys() == {field.name for field in fields(ClipInfo)}  # else each reply would be refused for want of one
CHANGES = st.dictionaries(
    st.sampled_from([*FIT, "other"]), st.one_of(NUMBERS, st.lists(NUMBERS, max_size=3)), max_size=2
)
REPLIES = st.one_of(
    st.integers(1, 4).map(lambda count: {"pictures": [[0, 2, 2]] * count}),
    st.lists(st.lists(NUMBERS, max_size=4), max_size=2).map(lambda places: {"pictures": places}),
    CHANGES.map(lambda changes: {"clip": {**FIT, **changes}}),
    st.integers(0, 4).map(lambda count: {"clip": {**FIT, "following": count}}),
    st.tuples(NUMBERS, NUMBERS).map(lambda both: {"error": {"code": both[0], "message": both[1]}}),
    st.just({"error": {"code": "damaged", "message": "no frames"}}),
    st.sampled_from([{name: True} for name in ("alive", "restart", "retired")]),
    st.recursive(NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=5),
)
LINES = st.one_of(REPLIES.map(line), st.binary(max_size=20), st.binary(max_size=20).map(lambda b: b + b"\n"))


class Spoken(pool._Worker[int]):
    """A worker without a process, whose replies a test writes."""

    def __init__(self, ring_bytes: int, clock: RunningClock) -> None:
        self._clock, self.retired, self.pending, self.heard, self._answered = clock, False, pool.deque(), clock.now(), 0
        self._ring_bytes, self._ring = 1000, bytearray(1000)
        self.listened_to = False
        self._unsent, self._unread, self._lines, self._receiving = b"", b"", pool.deque(), None
        reader, self.writer = os.pipe()
        self.replies = os.fdopen(reader, "rb")

    def take(self, pending: Pending[int], file: int) -> None:
        self.pending.append(pending)

    def flush(self, _: object = None) -> bool:
        return False

    def end(self, limits: Limits) -> VideoError:
        return VideoError("it ended", "crashed")

    def close(self) -> None:
        if self._receiving is not None:
            wait([self._receiving])
        self.replies.close()
        if self.writer is not None:
            os.close(self.writer)


def check_replies(path: Path, said: list[bytes], many: bool) -> None:
    """Whatever is said, each request ends, in clips or an error, and little is kept."""
    request = ClipRequest(str(path), 2, length=Fraction(1), stride=Fraction(1)) if many else ClipRequest(str(path), 2)
    first, pool_worker = True, pool._Worker

    def make(ring_bytes: int, clock: RunningClock) -> Spoken:
        nonlocal first
        worker = Spoken(ring_bytes, clock)
        if first:
            os.write(worker.writer, b"".join(said)[:60_000])
        os.close(worker.writer)
        worker.writer, first = None, False
        return worker

    pool._Worker = make  # type: ignore[assignment,misc]
    make.catch_up, make.read, make.flush = pool_worker.catch_up, pool_worker.read, Spoken.flush  # type: ignore[attr-defined]
    try:
        with Decoders(lambda picture: int(picture.sum()), timeout=5) as decoders:
            decoders.submit(request)
            decoders.submit(request)
            ends, steps = 0, 0
            while decoders.pending:
                steps += 1
                assert steps < 1000
                try:
                    collected = decoders.collect()
                    assert collected is not None
                    info, pictures = collected
                    assert isinstance(info, ClipInfo)
                    assert len(info.places) == 2
                    assert set(info.places) == set(range(len(pictures)))
                    ends += not info.following
                except VideoError as error:
                    assert str(error) == printable(str(error))
                    ends += 1
                for worker in decoders._workers:
                    assert all(len(p.pictures) <= request.most_pictures for p in worker.pending)
            assert ends == 2
    finally:
        pool._Worker = pool_worker  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(said=st.lists(LINES, max_size=12), many=st.booleans())
def test_any_replies(said: list[bytes], many: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_replies(Path(__file__), said, many)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(said=st.lists(LINES, max_size=12), many=st.booleans())
def test_any_replies_at_length(said: list[bytes], many: bool) -> None:
    check_replies(Path(__file__), said, many)


# What a worker may do

PROBES = {
    "read": "open('/etc/passwd')",
    "read_the_token": "open('TARGET')",
    "list": "os.listdir('/')",
    "write": "open(os.path.join(os.getcwd(), 'x'), 'w')",
    "truncate": "os.truncate('TARGET', 0)",
    "remove": "os.remove('TARGET')",
    "rename": "os.rename('TARGET', 'TARGET2')",
    "make_a_folder": "os.mkdir('TARGET2')",
    "link": "os.symlink('TARGET', 'TARGET2')",
    "change_a_mode": "os.chmod('TARGET', 0o777)",
    "change_times": "os.utime('TARGET')",
    "change_an_attribute": "os.setxattr('TARGET', 'user.x', b'x')",
    "execute": "os.execv('/bin/true', ['true'])",
    "execute_memory": "f = os.memfd_create('x'); os.write(f, b'#!/bin/sh'); os.execve(f, ['x'], {})",
    "start": "subprocess.run(['/bin/true'])",
    "fork": "os.fork()",
    "connect": "socket.create_connection(('127.0.0.1', 9))",
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "unix": "socket.socket(socket.AF_UNIX)",
    "listen": "socket.socketpair()",
    "signal_the_parent": "os.kill(os.getppid(), 0)",
    "stop_the_parent": "os.kill(os.getppid(), signal.SIGSTOP)",
    "trace": "libc.ptrace(16, os.getppid(), 0, 0) and die()",
    "read_memory": "libc.process_vm_readv(os.getppid(), bytes(16), 1, bytes(16), 1, 0) == -1 and die()",
    "parents_environment": "open(f'/proc/{os.getppid()}/environ')",
    "more_memory": "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))",
    "large_files": "os.ftruncate(os.memfd_create('x'), 1 << 20)",
    "many_files": "[os.dup(0) for _ in range(100)]",
    "the_ring": "os.ftruncate(ring, 0)",
    "become_root_elsewhere": "libc.unshare(0x10000000) and die()",
    "mount": "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) and die()",
}
PROBE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def die(): raise OSError(ctypes.get_errno(), 'refused')
try:
    ATTEMPT
    found = 'it could'
except OSError as error:
    found = os.strerror(error.errno)
except ValueError:
    found = 'not allowed'
say({'error': {'code': 'probe', 'message': found}})
"""


def probe(monkeypatch: pytest.MonkeyPatch, clip: Path, attempt: str) -> str:
    """What becomes of an attempt, made in a worker's place."""
    monkeypatch.setattr(pool, "_BOOT", takeover.boot(PROBE.replace("ATTEMPT", attempt)))
    with Decoders(number_of, timeout=20) as decoders:
        decoders.submit(ClipRequest(str(clip), 8))
        with pytest.raises(VideoError) as caught:
            decoders.collect()
    assert caught.value.code == "probe", caught.value
    return str(caught.value)


@LINUX
@pytest.mark.parametrize("attempt", PROBES)
def test_what_a_worker_cannot_do(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, attempt: str, holds: dict[str, str]
) -> None:
    if not (holds["landlock"].startswith("version") and holds["seccomp"] == "on"):
        pytest.skip(f"this kernel has not all of it: {holds}")
    target = tmp_path / "target"
    target.write_text("mine")
    found = probe(monkeypatch, clip, PROBES[attempt].replace("TARGET", str(target)))
    assert found in {
        "Operation not permitted",
        "Permission denied",
        "not allowed",
        "File too large",
        "Too many open files",
    }
    assert target.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.fixture(scope="module")
def holds() -> dict[str, str]:
    return pool.confinement()


def test_a_worker_has_no_token_and_no_terminal(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_SECRET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    found = probe(monkeypatch, clip, "if os.getsid(0) != os.getpid(): raise ValueError")
    assert found == "it could"
    names = probe(monkeypatch, clip, "say({'error': {'code': 'probe', 'message': ' '.join(os.environ)}})")
    assert set(names.split()) <= {*processes._ENVIRONMENT, *processes._LITTLE_ADDRESS_SPACE, "LC_CTYPE"}


@LINUX
def test_the_worker_ends_with_its_parent_whatever_it_is_doing(clip: Path) -> None:
    """It stands still when the parent is killed, and cannot hear of it."""
    code = f"""
        import os, signal
        from xclip_cli.video.pool import Decoders
        from xclip_cli.video.sampling import ClipRequest
        decoder = Decoders(lambda picture: None)
        decoder.submit(ClipRequest({str(clip)!r}, 8))
        decoder.collect()
        pid = decoder._workers[0]._process.pid
        os.kill(pid, signal.SIGSTOP)
        print(pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=60).stdout)
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < until, "the worker outlived its parent"
        time.sleep(0.05)


def test_the_worker_outlives_the_thread_that_started_it(clip: Path) -> None:
    import threading

    with Decoders(number_of) as decoders:
        found = []

        def one() -> None:
            decoders.submit(ClipRequest(str(clip), 8))
            found.append(decoders.collect())

        for _ in range(2):
            thread = threading.Thread(target=one)
            thread.start()
            thread.join()
        assert len(decoders._workers) == 1
    assert len(found) == 2


@LINUX
def test_the_messages_of_a_file_take_no_memory(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    """FFmpeg's messages go to memory that no limit of address space counts."""
    code = "sizes = [os.write(m, b'x' * 65536) for m in [os.memfd_create('x')] for _ in range(2)]"
    assert probe(monkeypatch, clip, code) == "File too large"


@LINUX
def test_all_limits_are_hard(tmp_path: Path, clip: Path) -> None:
    with Decoders(number_of) as decoders:
        decoders.submit(ClipRequest(str(clip), 8))
        decoders.collect()
        pid = decoders._workers[0]._process.pid
        for which, most in {"AS": 4096 << 20, "CORE": 0, "FSIZE": 1 << 16, "NOFILE": 64}.items():
            assert resource.prlimit(pid, getattr(resource, f"RLIMIT_{which}")) == (most, most), which
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
