"""The SSH keys of a lab: whom its guests let in, and by which host key they are known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limosa import process


@dataclass(frozen=True, slots=True)
class LabKeys:
    """The keys of one lab: OpenSSH files, private ones with mode 0600."""

    user_key: Path
    """The private key that root of every guest lets in; ``.pub`` beside it."""
    host_key: Path
    """The guests' private host key; ``.pub`` beside it."""

    @property
    def authorized_keys(self) -> str:
        """The line for root's authorized_keys."""
        return self.user_key.with_suffix(".pub").read_text().strip()

    def known_hosts(self, *addresses: str, port: int = 22) -> str:
        """The text of a known_hosts file, by which ssh checks strictly that this is the lab's guest."""
        key = " ".join(self.host_key.with_suffix(".pub").read_text().split()[:2])
        names = [address if port == 22 else f"[{address}]:{port}" for address in addresses]
        return f"{','.join(names)} {key}\n"


Run = Callable[[Sequence[str]], Awaitable[process.Completed]]


async def make(directory: Path, run: Run = process.run) -> LabKeys:
    """Make the user's and the guests' Ed25519 keys in *directory* (mode 0700), unless they are there.

    *run* is where ssh-keygen runs: it wants an entry in passwd for its user, whom a fabric always has (root).
    Raises MachineError when ssh-keygen is missing.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = LabKeys(directory / "user_key", directory / "host_key")
    for key, comment in ((keys.user_key, "limosa-user"), (keys.host_key, "limosa-guest")):
        if key.exists() and key.with_suffix(".pub").exists():
            continue
        # A name of its own first: a killed command must not leave a private key without its public one.
        new = key.with_suffix(".new")
        new.unlink(missing_ok=True)
        await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new)])
        Path(f"{new}.pub").replace(key.with_suffix(".pub"))
        new.replace(key)
    return keys
