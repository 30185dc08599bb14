"""What pyproject.toml cannot say: the manual page and the shells' completion are made as a wheel is built, from the
tables that help is made from, so that neither is kept and neither drifts."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup  # before distutils, which it brings

from distutils.command.install_data import install_data  # isort: skip

sys.path.insert(0, str(Path(__file__).parent / "src"))


class InstallShare(install_data):
    """Writes what belongs below ``share/``."""

    def run(self) -> None:
        """Write the page, and the script of each shell where it looks for it."""
        from limosa.cli.completion import PLACES, script
        from limosa.cli.man_page import man_page

        texts = {place: f"{script(shell)}\n" for shell, place in PLACES.items()}
        for place, text in (texts | {"share/man/man1/limosa.1": man_page()}).items():
            path = Path(self.install_dir, place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.outfiles.append(str(path))


setup(cmdclass={"install_data": InstallShare}, data_files=[("share", [])])
