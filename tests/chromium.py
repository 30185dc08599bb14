"""A real browser without a window, told what to do over a pipe: a page at a size of one's own, measured from inside."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

PATIENCE_S = 90.0

OUTSIDE = """(() => {
  const said = [];
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > wide) said.push(`the page is ${document.documentElement.scrollWidth} px`);
  const seen = (element) => element.checkVisibility() && !element.closest('.unseen');
  const inside = (element, box, left, right) => {
    if (box.width && (box.left < left - 1 || box.right > right + 1))
      said.push(`${element.tagName} ${element.textContent.trim().slice(0, 40)}: ${box.left} to ${box.right}`);
  };
  for (const each of document.querySelectorAll('header, section, h1, h2, h3, p, dl, li, pre, figure, .fact'))
    if (seen(each)) inside(each, each.getBoundingClientRect(), 0, wide);
  for (const each of document.querySelectorAll('figure text'))
    if (seen(each) && each.textContent.trim() && getComputedStyle(each).opacity !== '0')
      inside(each, each.getBoundingClientRect(), 0, wide);
  for (const each of document.querySelectorAll('.scroll'))
    if (WHOLE && each.scrollWidth > each.clientWidth + 1)
      said.push(`a table: ${each.innerText.slice(0, 40)}: ${each.scrollWidth} px in ${each.clientWidth}`);
  return said;
})()"""
"""What reaches beyond the page's sides. WHOLE: no table may have to be scrolled either."""

OVERLAPS = """(() => {
  const said = [];
  for (const figure of document.querySelectorAll('figure')) {
    const texts = [...figure.querySelectorAll('svg text')].filter((each) =>
      each.textContent.trim() && each.checkVisibility() && getComputedStyle(each).opacity !== '0');
    const boxes = texts.map((each) => each.getBoundingClientRect());
    for (let a = 0; a < boxes.length; a += 1) for (let b = 0; b < a; b += 1) {
      if (texts[a].textContent === texts[b].textContent && Math.abs(boxes[a].left - boxes[b].left) < 1) continue;
      const across = Math.min(boxes[a].right, boxes[b].right) - Math.max(boxes[a].left, boxes[b].left);
      const down = Math.min(boxes[a].bottom, boxes[b].bottom) - Math.max(boxes[a].top, boxes[b].top);
      if (across > 1 && down > 3) said.push(`${texts[a].textContent} and ${texts[b].textContent}`);
    }
  }
  return said;
})()"""
"""Texts of a plot that lie upon each other. A box has room above and below its letters; a halo is the text again."""


_MOVE = """import os, sys
kept = [os.dup(int(number)) for number in sys.argv[1:3]]
for wanted, descriptor in enumerate(kept, start=3):
    os.dup2(descriptor, wanted)
    os.set_inheritable(wanted, True)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""The protocol's pipe is descriptors 3 and 4 of the browser."""


class Browser:
    """One page of a browser. Made by ``opened``."""

    def __init__(self, write: int, read: BufferedReader) -> None:
        self._write, self._read = write, read
        self._number, self._left, self._session = 0, b"", ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the DevTools protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                found: dict[str, Any] = answer["result"]
                return found

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            more = self._read.read1(1 << 20)
            assert more, "the browser is gone"
            self._left += more
        line, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def evaluate(self, script: str) -> Any:
        """What *script* comes to in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def show(self, page: Path, *, width: int, dark: bool = False) -> None:
        """Open *page* in a window of this width, until its plots are drawn and fitted."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        for address in ("about:blank", page.as_uri()):
            self.ask("Page.navigate", url=address)
            self._wait(f"location.href === {json.dumps(address)} && document.readyState === 'complete'")
        self._wait("document.documentElement.dataset.status === 'drawn'")
        shape = "document.documentElement.outerHTML.replace(/<script.*?<.script>/gs, '')"
        self._wait(f"new Promise((done) => {{ const was = {shape}; setTimeout(() => done(was === {shape}), 150); }})")

    def _wait(self, condition: str) -> None:
        """Until the script's *condition* holds in the page; a page that is just being left has no answer."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if self.evaluate(condition):
                    return
            except RuntimeError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"it did not come to pass: {condition}")

    def outside(self, *, whole: bool) -> list[str]:
        """What reaches beyond the page; *whole*: or beyond a table's own place."""
        found: list[str] = self.evaluate(OUTSIDE.replace("WHOLE", json.dumps(whole)))
        return found

    def overlaps(self) -> list[str]:
        """Labels of plots that lie upon each other."""
        found: list[str] = self.evaluate(OVERLAPS)
        return found

    def picture(self, file: Path) -> None:
        """The whole page as PNG."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(shot))

    def texts(self, selector: str) -> list[str]:
        """The texts of what *selector* finds."""
        found: list[str] = self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.textContent)"
        )
        return found


@contextmanager
def opened() -> Iterator[Browser]:
    """A browser of one's own; skips where there is none."""
    program = next((name for name in BROWSERS if shutil.which(name)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on PATH")
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(prefix="limosa-browser-", ignore_cleanup_errors=True) as profile:
        mover = [sys.executable, "-c", _MOVE, str(theirs_in), str(theirs_out)]
        argv = [*mover, program, *QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        said = subprocess.DEVNULL
        child = subprocess.Popen(argv, pass_fds=(theirs_in, theirs_out), stdin=said, stdout=said, stderr=said)
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            with os.fdopen(ours_in, "rb") as answers:
                yield Browser(ours_out, answers)
        finally:
            child.terminate()
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            os.close(ours_out)
