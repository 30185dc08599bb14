"""HTML, pictures and tables from a run directory, nothing else; all can be made again at any time.

Heavy imports (numpy, Vega) wait until a report is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limosa import paths, temporary

if TYPE_CHECKING:
    from limosa.results.account import Account

__all__ = ["build", "csv", "png", "write"]


def build(run: Path, account: Account | None = None) -> Path:
    """Write ``report.html``, one self-contained file, into the run directory *run*; return its path.

    *account* is what there is to say of a bench, where it is known already. An older report is replaced in one step.
    Raises StateError when *run* is not a run directory.
    """
    from limosa.report import data, page

    return write(run / "report.html", page.page(data.load(run), account).encode())


def png(run: Path, directory: Path) -> list[Path]:
    """Draw ``timeline.png``, ``clocks.png`` and, of a bench, its own plot into *directory*.

    Without a browser; 2000 px wide. A plot that the run has no data for is not written; return the paths of the others.
    Raises StateError when *run* is not a run directory.
    """
    from limosa.bench import benches
    from limosa.report import clock_plots, data, plots, theme, timeline, vega
    from limosa.results.store import RunDirectory

    found, account = data.load(run), benches.account(RunDirectory(run))
    drawn = {
        "timeline.png": timeline.spec(found, theme.PRINT, interactive=False)[0],
        "clocks.png": clock_plots.calibration_spec(found, theme.PRINT) or clock_plots.spec(found, theme.PRINT),
    }
    if account is not None and account.plot is not None:
        drawn[f"{account.plot.name}.png"] = plots.spec(account.plot, theme.PRINT)
    return [write(directory / name, vega.png(spec, scale=2.0)) for name, spec in drawn.items() if spec is not None]


def csv(run: Path, directory: Path) -> list[Path]:
    """Write ``migrations.csv``, ``clocks.csv``, ``rates.csv``, ``checks.csv`` and ``samples.csv``; return their paths.

    The last tells where the raw samples are. Raises StateError when *run* is not a run directory.
    """
    from limosa.report import data, tables

    made = tables.tables(data.load(run))
    return [write(directory / name, text.encode()) for name, text in made.items()]


def write(path: Path, content: bytes) -> Path:
    """Put *content* there in one step, in a folder that is made where it is not; return *path*. Raises MachineError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.folder("report", path.parent) as folder:
            made = folder / path.name
            made.write_bytes(content)
            made.chmod(0o644)  # whatever the umask: a report is for showing
            made.replace(path)
    except OSError as error:
        raise paths.cannot_write(error, path.parent) from error
    return path
