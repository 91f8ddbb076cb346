r"""A headless Chromium, driven over two pipes with its DevTools protocol: the standard library is all that it needs.

With `--remote-debugging-pipe` Chromium reads commands from file descriptor 3 and writes answers and events to 4:
JSON objects, each followed by a zero byte. Source: the protocol's documentation, chromedevtools.github.io.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    r"""One browser with one page. `errors` and `requests` are what the page complained of and asked for."""

    def __init__(self, folder: Path):
        assert PROGRAM
        ours, theirs = os.pipe(), os.pipe()  # (read, write) of its commands, and of its answers
        command = (
            f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}',
            PROGRAM,
            "--headless=new",
            "--no-sandbox",  # a sandbox cannot be made as root or in many containers
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--force-color-profile=srgb",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
            "--remote-debugging-pipe",
            "about:blank",
        )
        # A shell, because only it can say that the pipes must be number 3 and 4.
        self.process = subprocess.Popen(
            ["bash", "-c", *command],
            pass_fds=(ours[0], theirs[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self.commands, self.answers, self.buffer, self.count = ours[1], theirs[0], b"", 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.loaded = 0
        self.session = None
        [page] = [t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self.session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params):
        r"""Do `method` and wait for its result; events that come meanwhile are noted."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.note(answer)

    def receive(self, seconds: float = 60):
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0, end - time.monotonic()))
            assert ready, f"Chromium said nothing for {seconds} s"
            piece = os.read(self.answers, 1 << 20)
            assert piece, "Chromium went away"
            self.buffer += piece
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def note(self, event):
        match event.get("method"), event.get("params"):
            case "Page.loadEventFired", _:
                self.loaded += 1
            case "Network.requestWillBeSent", params:
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown", params:
                self.errors.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled", params:
                self.errors.append(json.dumps(params["args"]))
            case "Log.entryAdded", params:
                self.errors.append(params["entry"]["text"])
            case "Target.attachedToTarget", {"targetInfo": {"type": "worker"}, "sessionId": worker}:
                for method in ("Network.enable", "Runtime.enable", "Runtime.runIfWaitingForDebugger"):
                    message = {
                        "id": 0,
                        "method": method,
                        "sessionId": worker,
                    }  # whose answers nobody waits for
                    os.write(self.commands, json.dumps(message).encode() + b"\0")

    def watch_workers(self):
        r"""From now on, note what workers complain of and ask for, too."""
        self.send("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)

    def open(
        self,
        path: Path | str,
        width: int,
        height: int,
        scheme: str = "light",
        scale: float = 1,
        touch: bool = False,
    ):
        r"""Open a file, or an address, in a window of this size and colour scheme, and wait until it has loaded."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=touch,
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.errors, self.requests, self.loaded = [], [], 0
        self.send("Page.navigate", url=path if isinstance(path, str) else path.resolve().as_uri())
        while not self.loaded:
            self.note(self.receive())

    def run(self, script: str):
        r"""The value of a JavaScript expression (a promise is waited for)."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, script: str, seconds: float = 30):
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"waited {seconds} s for {script}"
            time.sleep(0.05)

    def press(self, key: str):
        text = {"text": key} if len(key) == 1 else {}
        self.send(
            "Input.dispatchKeyEvent", type="keyDown", key=key, code="Space" if key == " " else key, **text
        )
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code="Space" if key == " " else key)

    def place(self, selector: str, across: float = 0.5) -> tuple[float, float]:
        r"""A point of an element, scrolled into view: `across` of its width, half of its height."""
        return tuple(
            self.run(
                f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
                "e.scrollIntoView({block: 'center', behavior: 'instant'});"
                f"const b = e.getBoundingClientRect(); return [b.x + {across} * b.width, b.y + b.height / 2]; }})()"
            )
        )

    def click(self, selector: str, across: float = 0.5):
        x, y = self.place(selector, across)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def swipe(self, selector: str, start: float, end: float):
        r"""Drag a finger sideways over an element, from one part of its width to another."""
        (x0, y), (x1, _) = self.place(selector, start), self.place(selector, end)
        self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x0, "y": y}])
        for i in range(1, 5):
            points = [{"x": x0 + (x1 - x0) * i / 4, "y": y}]
            self.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=points)
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self, path: Path, whole: bool = False):
        picture = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self):
        self.session = None
        try:
            self.send("Browser.close")
        finally:
            self.process.wait(timeout=30)
            os.close(self.commands)
            os.close(self.answers)
