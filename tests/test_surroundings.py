"""Surroundings that a program does not expect: no home, no locks, mounted files, folders that nobody may enter, no
terminal, users who share a cache. What needs root makes them with the system's own means."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clips import write_clip
from conftest import Run, program

PROGRAM = Path(sys.executable).with_name("xclip")
NOBODY = "12345"  # a user and group that no system knows
LABELS = ["-m", "bundled", "-l", "picture-state", "-k", "1"]

# LD_PRELOAD: makes calls of the C library fail with the errors that XCLIP_SHIM names, such as flock:37,memfd_create:1
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
static int refused(const char *name) {
    const char *given = getenv("XCLIP_SHIM"), *at = given ? strstr(given, name) : 0;
    if (at) errno = atoi(at + strlen(name) + 1);
    return at != 0;
}
#define NEXT(type, name, ...) ((type)dlsym(RTLD_NEXT, name))(__VA_ARGS__)
int flock(int fd, int how) { return refused("flock") ? -1 : NEXT(int (*)(int, int), "flock", fd, how); }
int memfd_create(const char *name, unsigned flags) {
    return refused("memfd_create") ? -1 : NEXT(int (*)(const char *, unsigned), "memfd_create", name, flags);
}
int rename(const char *from, const char *to) {
    return refused("rename") ? -1 : NEXT(int (*)(const char *, const char *), "rename", from, to);
}
int link(const char *from, const char *to) {
    return refused("link") ? -1 : NEXT(int (*)(const char *, const char *), "link", from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    return refused("link") ? -1
        : NEXT(int (*)(int, const char *, int, const char *, int), "linkat", a, from, b, to, flags);
}
"""

# In a mount namespace: folders that only root may enter are shown as they are to everybody, where Python needs them.
OPENED = """
set -eu
open_up() {  # a private folder, and what is needed of it
    private=$1; shift; number=0
    for path in "$@"; do
        number=$((number + 1)); mkdir -p "$KEPT/$number"; mount --bind "$path" "$KEPT/$number"
    done
    mount -t tmpfs -o mode=755 tmpfs "$private"; number=0
    for path in "$@"; do
        number=$((number + 1)); mkdir -p "$path"; mount --bind "$KEPT/$number" "$path"
    done
}
"""


def private_parent(path: Path) -> Path | None:
    """The first folder on the way to a path that others may not enter."""
    return next((p for p in reversed(path.parents) if not p.stat().st_mode & stat.S_IXOTH), None)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may write to, with a video in it; pytest's are for one user alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    write_clip(folder / "a.mp4", 10)
    (folder / "a.mp4").chmod(0o644)
    yield folder
    shutil.rmtree(folder)


Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(place: Path) -> Shell:
    """Run lines of bash as root in a mount namespace of their own; ``$X`` is the program and ``$A`` what it classifies,
    ``nobody COMMAND`` runs it as a user without home and entry."""
    if os.geteuid() != 0:
        (pytest.fail if "CI" in os.environ else pytest.skip)("only root may mount")
    needed: dict[Path, list[Path]] = {}
    for path in {Path(p).resolve() for p in (sys.base_prefix, sys.prefix, *sys.path) if p and Path(p).exists()}:
        if private := private_parent(path):
            needed.setdefault(private, []).append(path)
    opened = "\n".join(f"open_up {private} {' '.join(map(str, paths))}" for private, paths in needed.items())
    start = f"""{OPENED}
        {opened}
        set +e
        cd {place}
        nobody() {{ setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env -u HOME -u XDG_CACHE_HOME "$@"; }}
    """
    kept = tempfile.mkdtemp()

    def run(lines: str, **env: str) -> subprocess.CompletedProcess[str]:
        surroundings = {name: value for name, value in os.environ.items() if name != "XCLIP_CACHE"}
        given = {"X": str(PROGRAM), "A": f"{place}/a.mp4 {' '.join(LABELS)}", "KEPT": kept, "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [program("unshare"), "--mount", "bash", "-c", start + lines],
            env=surroundings | given | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture
def shim(place: Path) -> str:
    """A library that makes calls fail."""
    (place / "shim.c").write_text(SHIM)
    subprocess.run(
        [program("gcc"), "-shared", "-fPIC", "-o", place / "shim.so", place / "shim.c", "-ldl"], check=True, timeout=60
    )
    return str(place / "shim.so")


@pytest.mark.slow
def test_a_user_without_home_and_entry(shell: Shell) -> None:
    done = shell("nobody $X classify $A")
    assert (done.returncode, '"status": "ok"' in done.stdout) == (0, True), done.stderr
    assert "cannot cache the text features: there is no home folder" in done.stderr
    done = shell("nobody env HF_HUB_OFFLINE=0 $X models pull base-patch32; echo $?; ls -a")
    assert done.stderr.startswith(
        "error: there is no home folder to store microsoft/xclip-base-patch32 in: set HF_HOME"
    )
    assert done.stdout.split() == ["4", ".", "..", "a.mp4"]
    done = shell("nobody $X doctor && nobody $X cache info && nobody $X cache clear")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    classifies it on cpu" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("error", [37, 38, 95])
def test_a_file_system_without_locks(shell: Shell, shim: str, place: Path, error: int) -> None:
    for name in ("r.jsonl", "r.csv"):
        done = shell(f"LD_PRELOAD={shim} XCLIP_SHIM=flock:{error} $X classify $A -o {name}")
        assert done.returncode == 0, done.stderr
        assert f"cannot lock {name} ({os.strerror(error)}): make sure that no other run writes it" in done.stderr
        assert "a.mp4" in (place / name).read_text()


@pytest.mark.slow
def test_no_memory_files(shell: Shell, shim: str) -> None:
    done = shell(f"LD_PRELOAD={shim} XCLIP_SHIM=memfd_create:1 $X classify $A")
    assert (done.returncode, '"status": "ok"' in done.stdout) == (0, True), done.stderr


@pytest.mark.slow
def test_neither_memory_files_nor_a_folder_for_temporary_ones(shell: Shell, shim: str) -> None:
    done = shell(f"{NO_TEMPORARY} LD_PRELOAD={shim} XCLIP_SHIM=memfd_create:1 $X classify $A")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot start a decode worker (No usable temporary directory")
    assert len(done.stderr.splitlines()) == 1


# Only root of the namespace writes, and that to read-only mounts: there is no folder for temporary files any more.
NO_TEMPORARY = """
    cp a.mp4 /dev/shm/xclip-a.mp4
    mount -o remount,ro,bind / 2>/dev/null || { mount --bind / / && mount -o remount,ro,bind /; }
    for t in /tmp /var/tmp /usr/tmp; do [ -d $t ] && mount --bind $t $t && mount -o remount,ro,bind $t; done
    cd /
"""


@pytest.mark.slow
def test_doctor_reports_a_missing_folder_for_temporary_files(shell: Shell) -> None:
    done = shell(f"{NO_TEMPORARY} $X doctor; echo $?; $X classify $A")
    assert "FAIL  inspects temporary_files: FileNotFoundError: [Errno 2] No usable temporary directory" in done.stdout
    assert "packages:" in done.stdout
    assert re.search(r'^1\n\{.*"status": "ok"', done.stdout, re.MULTILINE), done.stderr  # classify needs none


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r.json", "r.csv", "r.jsonl", "r.html"])
def test_an_output_that_is_a_mounted_file(shell: Shell, place: Path, name: str) -> None:
    """As docker's --volume of a single file."""
    for path in (place / "host", place / name):
        path.touch()
    run = f"$X classify $A -o {name} --force"
    if name == "r.html":
        run = f"$X classify $A -o in.jsonl && $X report in.jsonl -o {name} --force"
    done = shell(f"mount --bind host {name}; {run}")
    assert done.returncode == 0, done.stderr
    assert "a.mp4" in (place / "host").read_text()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_mounted_results_file_is_resumed(shell: Shell, place: Path) -> None:
    for name in ("host", "r.jsonl"):
        (place / name).touch()
    (place / "b.mp4").write_bytes(b"broken")
    lines = "mount --bind host r.jsonl; $X classify b.mp4 $A -o r.jsonl --force; cp a.mp4 b.mp4;"
    done = shell(f"{lines} $X classify b.mp4 $A -o r.jsonl --resume --retry-failed")
    assert done.returncode == 0, done.stderr
    assert (place / "host").read_text().count('"status": "ok"') == 2


@pytest.mark.slow
@pytest.mark.parametrize("error", [1, 13, 16, 18, 38])
def test_where_nothing_can_be_renamed_results_arrive(shell: Shell, shim: str, place: Path, error: int) -> None:
    for force in ("", "--force"):
        done = shell(f"LD_PRELOAD={shim} XCLIP_SHIM=rename:{error},link:{error} $X classify $A -o r.json {force}")
        assert done.returncode == 0, done.stderr
        assert '"status": "ok"' in (place / "r.json").read_text()


@pytest.mark.slow
def test_a_file_that_may_be_written_in_a_folder_that_may_not(shell: Shell, place: Path) -> None:
    (place / "kept").mkdir(mode=0o755)
    for name in ("r.json", "r.jsonl"):
        (place / "kept" / name).touch()
        (place / "kept" / name).chmod(0o666)
        done = shell(f"cd kept; nobody $X classify $A -o {name} --force")
        assert done.returncode == 0, done.stderr
        assert '"status": "ok"' in (place / "kept" / name).read_text()


@pytest.mark.slow
def test_a_working_folder_that_may_not_be_entered(shell: Shell) -> None:
    done = shell("mkdir -m 700 private; cd private; nobody $X labels show picture-state && nobody $X classify $A")
    assert (done.returncode, '"status": "ok"' in done.stdout) == (0, True), done.stderr
    done = shell("cd private; nobody env HOME=/tmp $X models info base-patch32; nobody $X classify $A -l mine.txt")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert errors[-1] == "error: cannot read mine.txt: Permission denied"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_cache_that_users_share(shell: Shell, place: Path) -> None:
    """Its files are readable by whom the umask lets, and a user who may not read or replace some does without."""
    run = "XCLIP_CACHE=$PWD/cache $X classify $A"
    assert shell(f"umask 022; {run}").returncode == 0
    (entry,) = (place / "cache" / "text-features").iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o644
    for mode in (0o644, 0o600):
        entry.chmod(mode)
        done = shell(f"nobody env {run}")
        assert (done.returncode, '"status": "ok"' in done.stdout) == (0, True), done.stderr
        assert ("cannot cache the text features" in done.stderr) == (mode == 0o600)
    assert shell("nobody env XCLIP_CACHE=$PWD/cache $X cache clear").stdout == "deleted 0 files\n"


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["-n 40", "-n 16", "-f 1000", "-v 700000", "-v 1500000"])
def test_limits_of_the_process_are_one_line_or_no_obstacle(shell: Shell, limit: str) -> None:
    done = shell(f"ulimit {limit}; $X classify $A")
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_was_deleted_is_said(tmp_path: Path) -> None:
    command = f'mkdir gone; cd gone; rmdir ../gone; "{PROGRAM}" labels list'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: the current folder was deleted: change to another\n")


@pytest.mark.parametrize("size", ["0", "00", "-1", "²", "x", "", "1" * 400, "99999999"])
def test_sizes_that_no_terminal_has_are_not_believed(xclip: Run, clip: Path, size: str) -> None:
    env = {"COLUMNS": size, "LINES": size, "TERMINAL_WIDTH": size}
    done = xclip("classify", clip, *LABELS, "-f", "table", env=env)
    assert done.returncode == 0, done.stderr
    assert re.search(r"1 .* 0\.\d{3}", done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= max(80, len(str(clip)))
    assert "Usage" in xclip("--help", env=env).stdout


@pytest.mark.parametrize("width", ["1", "10", "20", "39"])
@pytest.mark.parametrize("command", ["classify", "timeline"])
def test_narrow_terminals_keep_the_score(xclip: Run, clip: Path, command: str, width: str) -> None:
    done = xclip(command, clip, *LABELS, "-f", "table", env={"COLUMNS": width})
    assert re.search(r"\b[01]\.\d{3}\b", done.stdout)


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE", "PY_COLORS", "GITHUB_ACTIONS"])
def test_no_escapes_in_files(clip: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.txt"
    env = {**os.environ, name: "1"}
    with open(tmp_path / "stdout", "wb") as stdout, open(tmp_path / "stderr", "wb") as stderr:
        for command in (["classify", clip, *LABELS, "-f", "table"], ["classify", clip, *LABELS, "-o", out], ["--help"]):
            subprocess.run([PROGRAM, *command], env=env, stdout=stdout, stderr=stderr, check=True)
        subprocess.run([PROGRAM, "classify", "--no"], env=env, stdout=stdout, stderr=stderr, check=False)
    for path in (out, tmp_path / "stdout", tmp_path / "stderr"):
        assert path.stat().st_size
        assert b"\x1b" not in path.read_bytes()
    out.unlink()
    subprocess.run([PROGRAM, "classify", clip, *LABELS, "-o", out], env=env, capture_output=True, check=True)
    assert b"\x1b" not in out.read_bytes()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "500 None"),
        ({"GOMP_SPINCOUNT": "5"}, "5 None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),
    ],
)
def test_openmps_threads_spin_as_the_user_says_and_else_little(given: dict[str, str], found: str) -> None:
    """Before torch is there: it reads this when it is imported."""
    code = (
        "import os, sys; from xclip_cli.cli.app import _prepare_process; _prepare_process();"
        "print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    )
    env = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**env, **given}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{found} False\n"
