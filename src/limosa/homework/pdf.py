"""The handout on paper, by a browser without a window; where there is none there is no PDF, and that is said."""

from __future__ import annotations

import os
from pathlib import Path

from limosa import process, requirements, temporary
from limosa.errors import LimosaError, MachineError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LIMIT_S = 120.0
DRAWING_MS = 15_000
"""Of the page's own time: its plots are drawn by scripts."""


def arguments(browser: str, page: Path, pdf: Path, profile: str, *, root: bool) -> list[str]:
    """The browser's command line. Its sandbox does not work for root."""
    quiet = ("--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update")
    sandbox = ["--no-sandbox"] if root else []
    return [
        *(browser, "--headless", *sandbox, *quiet, f"--user-data-dir={profile}"),
        *(f"--virtual-time-budget={DRAWING_MS}", "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri()),
    ]


async def printed(page: Path, pdf: Path) -> Path:
    """Print *page*. Raises MachineError without a browser, LimosaError when it prints nothing."""
    browser = next((found for name in BROWSERS if (found := requirements.find(name))), None)
    if browser is None:
        raise MachineError("no Chromium is installed", hint="apt-get install chromium")
    pdf.unlink(missing_ok=True)
    with temporary.folder("browser") as profile:
        argv = arguments(browser, page.resolve(), pdf.resolve(), str(profile), root=os.geteuid() == 0)
        done = await process.run(argv, check=False, timeout_s=LIMIT_S)
    if not pdf.exists():
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise LimosaError(f"the browser printed nothing: {said[-1] if said else 'it did not say why'}")
    return pdf
