"""A Hugging Face hub on loopback: lists of files, redirects to a file store with ranges, and the ways it can fail."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
LARGE = (".safetensors", ".bin", ".npy")  # kept apart by the hub, under their SHA-256


class Hub:
    """What the server holds, what it was asked, and what it shall do wrong."""

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}  # "owner/name", or "datasets/owner/name" → folder
        self.asked: list[str] = []  # "METHOD path"
        self.bytes_sent = 0  # of the file store
        self.cut_at: dict[str, int] = {}  # file → the connection breaks once after so many bytes
        self.refuse: dict[str, list[int]] = {}  # repository → statuses of its next answers
        self.corrupt: set[str] = set()  # files whose bytes are wrong, at the right length
        self.headers: dict[str, str] = {}  # of its answers on files, instead of the right ones
        self.info: dict[str, Any] = {}  # of its answers on repositories, instead of what is right
        self.portal: bytes | None = None  # what is answered to anything, with 200
        self.address = ""
        self.store_address = ""  # by another host name: the hub keeps large files elsewhere

    def find(self, repository: str, name: str) -> Path | None:
        folder = self.repositories.get(repository)
        path = folder / name if folder else None
        return path if path is not None and path.is_file() else None

    def entries(self, repository: str) -> list[dict[str, Any]]:
        """The repository's files, as the hub lists them."""
        listed = []
        for path in sorted(self.repositories[repository].iterdir()):
            data = path.read_bytes()
            entry = {
                "name": path.name,
                "size": len(data),
                "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
            }
            if path.suffix in LARGE:
                entry["sha256"] = hashlib.sha256(data).hexdigest()
            listed.append(entry)
        return listed


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Not to stderr."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.portal is not None:
            self.answer(200, self.hub.portal)
            return
        api = re.fullmatch(r"/api/(models/|datasets/)([^/]+/[^/]+)(?:/(revision|tree|refs)(?:/([^/]+))?)?", path)
        if store := re.fullmatch(r"/store/(.+)/([^/]+)", path):
            self.store(*store.groups())
        elif api:
            kind, name, action, revision = api.groups()
            repository = ("datasets/" if kind == "datasets/" else "") + name
            self.api(repository, action or "revision", revision or "main")
        elif resolve := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(*resolve.groups())
        else:
            self.answer(404, b"no such page")

    def refused(self, repository: str, revision: str) -> bool:
        """Answer with the next status that the repository shall fail with, or for what is not there."""
        errors = {401: "RepoNotFound", 403: "GatedRepo"}
        if statuses := self.hub.refuse.get(repository):
            status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            if status != 200:
                headers = {"X-Error-Code": errors[status]} if status in errors else {}
                self.answer(status, b"refused", headers | ({"Retry-After": "0"} if status == 429 else {}))
                return True
        if repository not in self.hub.repositories:
            self.answer(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return True
        if revision not in ("main", "v1", COMMIT, OLDER_COMMIT):
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return True
        return False

    def api(self, repository: str, action: str, revision: str) -> None:
        if self.refused(repository, revision):
            return
        entries = self.hub.entries(repository)
        if action == "refs":
            branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
            self.answer(200, {"branches": [branch], "tags": [], "converts": []})
        elif action == "tree":
            rows = [{"type": "file", "path": e["name"], "size": e["size"], "oid": e["oid"]} for e in entries]
            for row, entry in zip(rows, entries, strict=True):
                if "sha256" in entry:
                    row["lfs"] = {"oid": entry["sha256"], "size": entry["size"], "pointerSize": 130}
            self.answer(200, rows)
        else:
            siblings = [{"rfilename": e["name"], "size": e["size"], "blobId": e["oid"]} for e in entries]
            for sibling, entry in zip(siblings, entries, strict=True):
                if "sha256" in entry:
                    sibling["lfs"] = {"sha256": entry["sha256"], "size": entry["size"], "pointerSize": 130}
            self.answer(
                200,
                {"id": repository, "modelId": repository, "sha": commit_of(revision), "siblings": siblings}
                | self.hub.info,
            )

    def resolve(self, repository: str, revision: str, name: str) -> None:
        if self.refused(repository, revision):
            return
        path = self.hub.find(repository, name)
        if path is None:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit_of(revision)})
            return
        entry = next(e for e in self.hub.entries(repository) if e["name"] == name)
        headers = {"X-Repo-Commit": commit_of(revision)}
        if "sha256" not in entry:
            data = path.read_bytes()
            data = data[:-8] + bytes(8) if name in self.hub.corrupt else data
            self.answer(200, data, headers | {"ETag": f'"{entry["oid"]}"'} | self.hub.headers)
            return
        headers |= {"X-Linked-ETag": f'"{entry["sha256"]}"', "X-Linked-Size": str(entry["size"])}
        headers |= self.hub.headers
        self.answer(302, b"", headers | {"Location": f"{self.hub.store_address}/{repository}/{name}"})

    def store(self, repository: str, name: str) -> None:
        path = self.hub.find(repository, name)
        assert path is not None
        data = path.read_bytes()
        if name in self.hub.corrupt:
            data = data[:-64] + bytes(64)
        first = 0
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(match[1]), int(match[2] or len(data) - 1)
            headers = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
            data, status = data[first : last + 1], 206
        else:
            headers, status = {}, 200
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data)), "Accept-Ranges": "bytes"}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "GET":
            return
        cut = self.hub.cut_at.pop(name, None)
        self.wfile.write(data if cut is None else data[:cut])
        self.hub.bytes_sent += len(data) if cut is None else cut
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def commit_of(revision: str) -> str:
    """The commit that a branch, tag or commit stands for."""
    return OLDER_COMMIT if revision in ("v1", OLDER_COMMIT) else COMMIT


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve ``hub`` on a free port of loopback."""
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.address = f"http://127.0.0.1:{server.server_port}"
        hub.store_address = f"http://localhost:{server.server_port}/store"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
