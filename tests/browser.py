"""Headless Chromium, driven through its debugging pipe: what a page does, says, asks for and looks like."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any, Self

from conftest import program

PATIENCE = 120  # seconds


class Browser:
    """One page of a browser with an empty profile. ``said`` and ``requested`` fill as messages come."""

    def __init__(self, profile: Path, script: bool = True) -> None:
        chromium = program("chromium", "chromium-browser", "google-chrome")
        self.script = script
        self.said: list[str] = []  # errors, warnings and console output
        self.requested: list[str] = []  # URLs, data: left out
        child_reads, self._to = os.pipe()
        self._from, child_writes = os.pipe()
        command = [
            *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}", "--hide-scrollbars", "about:blank"),
        ]
        # The browser expects its pipe as descriptors 3 and 4.
        shell = f'exec "$@" 3<&{child_reads} 4>&{child_writes}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command], pass_fds=(child_reads, child_writes), stderr=subprocess.DEVNULL
        )
        os.close(child_reads)
        os.close(child_writes)
        self._number = 0
        self._buffer = b""
        self._events: list[str] = []
        self._session = ""
        (target,) = (t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setScriptExecutionDisabled", value=not script)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._from)
        os.close(self._to)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._from], [], [], PATIENCE)[0], "the browser hangs"
            chunk = os.read(self._from, 1 << 20)
            assert chunk, "the browser ended"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, parameters: dict[str, Any]) -> None:
        if method is None:
            return
        self._events.append(method)
        if method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith("data:"):
            self.requested.append(parameters["request"]["url"])
        elif method == "Log.entryAdded":
            self.said.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(str(parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(parameters["exceptionDetails"]))

    def open(self, page: Path) -> None:
        """Load a file and wait until it is shown."""
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._next()

    def view(self, width: int, height: int = 900, dark: bool = False) -> None:
        """The size of the window, and whether the reader likes it dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """A value of the page. The page's own scripts need not be allowed."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """What is seen, as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
