"""How this machine reaches packages, so that a root of another distribution reaches them the same way.

Nothing of it is known beforehand: apt's and pip's own settings are asked for and handed on, with the files and folders
that they name.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
"""In the order of pip's manual: a later one has the last word."""
_VARIABLES = re.compile(r"(PIP_\w+|\w+_CA_BUNDLE|SSL_CERT_FILE|(https?|no|all)_proxy)", re.IGNORECASE)
_APT = re.compile(r"Acquire::(https?|ftp|Check-|Retries|ForceIPv|Proxy)")


def variables() -> dict[str, str]:
    """The environment's part of it."""
    return {name: value for name, value in os.environ.items() if _VARIABLES.fullmatch(name)}


def apt_options() -> list[str]:
    """Lines for apt.conf: how things are fetched."""
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if _APT.match(line) and '"' in line]


def pip_settings() -> configparser.RawConfigParser:
    """What the files of pip's settings say together."""
    merged = configparser.RawConfigParser()
    merged.read([Path(name).expanduser() for name in PIP_FILES])
    return merged


def named_paths(settings: configparser.RawConfigParser, environment: Mapping[str, str]) -> list[Path]:
    """The files and folders of this machine that pip is told of: packages at hand, constraints, certificates."""
    texts = [value for section in settings.sections() for value in settings[section].values()]
    texts += [value for name, value in environment.items() if name.upper().startswith("PIP_")]
    words = {word.removeprefix("file://") for text in texts for word in text.split()}
    # The pages of an index on the disk are in simple/, and what they point to lies beside that.
    found = {Path(word.removesuffix("/simple")) for word in words if word.startswith("/") and Path(word).exists()}
    return sorted(path for path in found if not path.is_relative_to("/etc/ssl") and not found & {*path.parents})


def hand_on(root: Path) -> list[tuple[str, str]]:
    """Write the settings into *root*; return what has to be shown there of this machine: (path here, path there)."""
    settings = pip_settings()
    (root / "etc/apt/apt.conf.d").mkdir(parents=True, exist_ok=True)
    with (root / "etc/pip.conf").open("w") as file:
        settings.write(file)
    (root / "etc/apt/apt.conf.d/99machine").write_text("\n".join([*apt_options(), ""]))
    for path in (Path("/etc/resolv.conf"), CERTIFICATES):
        if path.exists():
            target = root / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(path, target)
    return [(str(path), str(path)) for path in named_paths(settings, variables())]
