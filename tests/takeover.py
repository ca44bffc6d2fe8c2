"""A decode worker that a file has taken over: what it may try against its parent, as scripts that stand in its place.

``boot(script)`` is what ``pool._BOOT`` is to be then. The script runs as confined as a worker does, behind the first
request, with ``say`` (a reply), ``clip`` (a fitting one), ``pic()`` and ``stay()``.
"""

from __future__ import annotations

START = """
import sys; sys.path[:] = sys.argv[4:]
import fcntl, json, mmap, os, resource, signal, socket, subprocess, time
from xclip_cli.video.confinement import confine, end_with
end_with(int(sys.argv[3])); os.dup2(os.open(os.devnull, os.O_WRONLY), 2); confine()
ring, files = int(sys.argv[1]), int(sys.argv[2])
def put(data):
    while data: data = data[os.write(1, data):]
def say(x): put((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\\n")
def pic(*place): say({"pictures": [place or [0, 64, 64]]})
def stay(): time.sleep(60)
clip = dict(start_seconds=0.0, end_seconds=2.0, times_seconds=[0.1 * i for i in range(8)], places=[0] * 8, errors=0,
            warnings=[], following=0, rate=None, lost=None, seconds=0.0)
sys.stdin.buffer.readline()
"""


def clip(**changes: str) -> str:
    """A picture, and a clip of which something is changed."""
    return f"pic(); say({{'clip': {{**clip, {', '.join(f'{k!r}: {v}' for k, v in changes.items())}}}}})"


def error(code: str, message: str) -> str:
    return f"say({{'error': {{'code': {code}, 'message': {message}}}}})"


ATTACKS = {
    # those that were found against earlier versions
    "huge_line": "while True: put(b'x' * 65536)",
    "alive": "while True: say({'alive': True}); time.sleep(0.2)",
    "picture_neg": "pic(-1, 64, 64)",
    "picture_big": "pic(0, 1 << 30, 1 << 30)",
    "picture_zero": "pic(0, 0, 64)",
    "picture_str": "say({'pictures': ['abc']})",
    "picture_negsize": "pic(0, -64, -64)",
    "picture_float": "pic(0.5, 64, 64)",
    "not_json": "say(b'\\xff\\xfe{')",
    "deep": "say(b'[' * 200000)",
    "list": "say([1, 2])",
    "nan": clip(start_seconds="float('nan')", times_seconds="[float('inf')] * 8"),
    "keys": clip(evil="1"),
    "places": clip(places="[99] * 8"),
    "places_neg": clip(places="[-1] * 8"),
    "places_none": clip(places="[]"),
    "places_few": clip(places="[0]", times_seconds="[0.0]"),
    "following_neg": clip(following="-1"),
    "following_many": clip(following="3"),
    "following_str": clip(following="'x'"),
    "twice_before": "say({'clip': clip}); say({'clip': clip})",
    "error_types": error("['a']", "{'b': 1}"),
    "error_long": error("'damaged'", "'A\\x1b]0;x\\x07' * 2000000"),
    "warnings": clip(warnings="[5, {'a': 1}]"),
    "rate_zero": clip(rate="'1/0'"),
    "rate_long": clip(rate="'9' * 5000"),
    "times_str": clip(times_seconds="['x'] * 8", start_seconds="'y'"),
    "retire_loop": "say({'retired': True})",
    "pictures_endless": "while True: pic()",
    "shrink": "os.ftruncate(ring, 0); pic(); say({'clip': clip})",
    "kill": "os.kill(os.getppid(), signal.SIGKILL)",
    "env": "open('stolen.txt', 'w').write(os.environ['HF_TOKEN'])",
    "parent_memory": "open(f'/proc/{os.getppid()}/mem', 'r+b')",
    # and others
    "empty_lines": "say(b'')",
    "carriage_return": "say(b'\\r')",
    "two_in_one": "say({'alive': True, 'restart': True})",
    "alive_false": "say({'alive': False})",
    "alive_one": "say({'alive': 1})",
    "unknown": "say({'hello': True})",
    "digits": "say(b'{\"pictures\": [[' + b'9' * 60000 + b', 1, 1]]}')",
    "exponent": "say(b'{\"clip\": 1e999999}')",
    "picture_bool": "pic(True, True, True)",
    "picture_behind_the_ring": "pic(os.fstat(ring).st_size - 8, 1, 1)",
    "picture_four": "pic(0, 64, 64, 3)",
    "half_a_line": "put(b'{\"pictures\": [[0, 64'); os._exit(0)",
    "restart_endless": "while True: say({'restart': True})",
    "restart_and_pictures": "while True: pic(); say({'restart': True})",
    "clip_without_pictures": "say({'clip': clip})",
    "places_bool": clip(places="[False] * 8"),
    "places_huge": clip(places="[10 ** 30] * 8"),
    "backwards": clip(start_seconds="5.0", end_seconds="1.0"),
    "lost_alone": clip(lost="'gone'"),
    "many_warnings": clip(warnings="['w'] * 1000"),
    "error_code_of_its_own": error("'x\\n\\x1b[2J'", "'y'"),
    "error_key": "say({'error': {'code': 'damaged', 'message': 'm', 'self': 1}})",
    "closes_stdout": "os.close(1); stay()",
    "reads_nothing": "os.close(0); pic()",
    "odd_signal": "signal.pthread_kill(__import__('threading').get_ident(), 40)",
    "note": "mmap.mmap(ring, 0)[-8:] = b'\\x00' * 8; os._exit(3)",
    "grow": "os.ftruncate(ring, 1 << 40)",
    "holes": "say({'pictures': [[0, 1, 1, 1, 1]]})",
    "descriptors": "say({'pictures': {'0': 1}})",
    "pictures_str": "say({'pictures': 'abc'})",
    "pictures_none": "say({'pictures': []}); say({'clip': clip})",
    "pictures_many": "say({'pictures': [[0, 1, 1]] * 257})",
    "pictures_too_many": "say({'pictures': [[0, 64, 64]] * 9})",
    "pictures_one_of_them": "say({'pictures': [[0, 64, 64], [-1, 64, 64]]}); say({'clip': clip})",
    "picture_alone": "say({'picture': [0, 64, 64]}); say({'clip': clip})",
}


def boot(script: str) -> str:
    """The code of a worker that does what a script says."""
    return f"{START}{script}\nstay()\n"
