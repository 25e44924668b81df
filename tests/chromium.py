"""A browser for the tests of pages: Debian's chromium without a screen. Where there is none, the test is skipped."""

import itertools
import json
import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1280,4000")


def browser() -> str:
    """Return the program."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    return found


def opened(url: str, profile, *flags: str) -> str:
    """Return the page's document once its scripts have come to rest."""
    command = [
        browser(),
        *FLAGS,
        "--dump-dom",
        "--virtual-time-budget=20000",
        *flags,
        f"--user-data-dir={profile}",
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Page:
    """A page in a browser that is spoken to through two pipes, in Chrome's DevTools protocol."""

    def __init__(self, to_browser, from_browser):
        self.write, self.read = to_browser, from_browser
        self.numbers, self.session, self.complaints, self.rest = itertools.count(1), None, [], b""

    def call(self, method: str, **parameters):
        """Return the browser's answer to a command."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        self.write.write(json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        self.write.flush()
        while True:
            said = self._next()
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]
            self._note(said)

    def open(self, url: str) -> None:
        """Load a page of ours and wait until it is drawn."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        self.ask("""for (let i = 0; i < 600 && document.body?.dataset.drawn !== 'yes'; i++) {
          await new Promise((done) => setTimeout(done, 100));
        } return document.body.dataset.drawn;""")

    def ask(self, words: str):
        """Return what the body of an asynchronous JavaScript function answers."""
        text = f"(async () => {{ {words} }})()"
        found = self.call("Runtime.evaluate", expression=text, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def _next(self):
        while b"\0" not in self.rest:
            part = self.read.read1(1 << 20)
            assert part, "the browser has ended"
            self.rest += part
        first, _, self.rest = self.rest.partition(b"\0")
        return json.loads(first)

    def _note(self, said) -> None:
        """Keep errors and warnings of the page, and whatever it asks the network for."""
        method, what = said.get("method"), said.get("params", {})
        if method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert")
        ):
            self.complaints.append(what)
        elif method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.complaints.append(what["entry"])
        elif method == "Network.requestWillBeSent" and not what["request"]["url"].startswith(
            ("file:", "data:", "blob:")
        ):
            self.complaints.append(what["request"]["url"])


@contextmanager
def visited(html, profile):
    """Give a page of ours, drawn, and hold afterwards that it has complained of nothing and asked for nothing."""
    program, (from_us, to_browser), (from_browser, to_us) = browser(), os.pipe(), os.pipe()
    flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    command = ["bash", "-c", f'exec "$@" 3<&{from_us} 4>&{to_us}', "bash", program, *flags]
    process = subprocess.Popen(command, pass_fds=(from_us, to_us), stderr=subprocess.DEVNULL)
    os.close(from_us)
    os.close(to_us)
    with os.fdopen(to_browser, "wb") as write, os.fdopen(from_browser, "rb") as read:
        try:
            page = Page(write, read)
            page.open(html.resolve().as_uri())
            yield page
            assert page.complaints == []
        finally:
            process.kill()
            process.wait()
