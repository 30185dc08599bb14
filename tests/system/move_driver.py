"""``limosa migrate`` with a fault at a chosen step: ``python move_driver.py ACTION WHEN -- ARGUMENTS``.

It runs the command line as it is and only listens to its events: at the first one that WHEN names it does ACTION, then
lets the command go on. Several actions are joined by `` ; ``; ``3*`` before them: at each of the first three.

WHEN: a phase; ``connecting``: the source was told to migrate; ``sending``: the first megabyte went over the link;
``stopped``: the source has stopped the guest and sends the rest; ``begun``: the target runs it; ``told-to-wait``: it
was said that post-copy waits for its link; ``decided-KIND``: the policy's action of that kind is on record, and not
done yet; ``given-up``: both sides have given the connection up, and meet anew.

ACTION: ``signal:NAME`` to this very process, ``kill:PID`` for any process, ``qemu:PID`` for every QEMU in the pid
namespace of process PID, ``run:WORDS`` a command to its end, ``at:WHEN:ACTION`` a further one at another moment.
``at:WHEN:ACTION & ACTION`` are several. ``stop:SECONDS:WHO`` stands still for so long: ``self``, ``process:PID``,
``qemu:PID`` as above, or ``link:PID``, that of the host whose first process is PID. ``say:WORD:PID`` tells the guest of
such a host, on its serial line, to ``power-off`` or to ``start-anew``, and the command does not end before it has
obeyed; ``tell:WORD:PID`` likewise, and it has obeyed before the migration goes on; with ``PID+PID`` on
whichever host it runs.
With LIMOSA_TEST_STALL_S set, the time until a silent link is given up is that, as the API's ``Settings`` allow.
With LIMOSA_TEST_SPOILED_KEY=SIDE:SECONDS set, that side (``source`` or ``target``) has a key that is good for so long,
or none (0), once its move has become post-copy.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import cast

import msgspec

from limosa import __main__ as command
from limosa.deadline import Deadline
from limosa.events import (
    Event,
    Events,
    MigrationPhaseChanged,
    MigrationProgressed,
    MigrationSteered,
    Note,
    QmpExchanged,
)
from limosa.guest.bare import COMMAND_RESTART, COMMAND_SHUTDOWN, Ready, SerialReader, Stopped
from limosa.lab import lab
from limosa.migration import certificates
from limosa.migration.credentials import take_back
from limosa.migration.methods import post_copy
from limosa.migration.phases import Phase
from limosa.migration.settings import Settings
from limosa.migration.transfer import Transfer
from limosa.migration.transport import Side
from limosa.qemu.monitor import PAUSED


def act(action: str) -> None:
    for one in action.split(" ; "):
        _act(one)


def _act(action: str) -> None:
    kind, _, what = action.partition(":")
    if kind == "signal":
        os.kill(os.getpid(), getattr(signal, what))
    elif kind == "kill":
        os.kill(int(what), signal.SIGKILL)
    elif kind == "qemu":
        for pid in qemus(int(what)):
            os.kill(pid, signal.SIGKILL)
    elif kind == "stop":
        _stop(what)
    elif kind in {"say", "tell"}:
        word, _, keepers = what.partition(":")
        telling = threading.Thread(target=tell, args=(word, *map(int, keepers.split("+"))))
        telling.start()
        if kind == "tell":
            telling.join()
    elif kind == "at":
        when, _, later = what.partition(":")
        WAITING.setdefault(when, []).append(later.replace(" & ", " ; "))
    elif kind == "run":
        subprocess.run(what.split(), check=True, stdout=subprocess.DEVNULL)
    else:
        raise ValueError(action)


def _stop(what: str) -> None:
    seconds, kind, pid = f"{what}:".split(":")[:3]
    if kind == "link":
        down, up = (["nsenter", "-t", pid, "-n", "ip", "link", "set", "eth0", state] for state in ("down", "up"))
        _after(seconds, shlex.join(up))
        subprocess.run(down, check=True)
        return
    stopped = [os.getpid()] if kind == "self" else [int(pid)] if kind == "process" else qemus(int(pid))
    if not stopped:
        raise ValueError(f"there is nobody to stop: {what}")
    _after(seconds, "; ".join(f"kill -CONT {one} 2>&-" for one in stopped))
    for one in stopped:
        os.kill(one, signal.SIGSTOP)


def _after(seconds: str, command: str) -> None:
    """It keeps this command's standard error open: who waits for all that the command says waits for this too."""
    later = f"(sleep {seconds}; {command}) &"
    subprocess.run(["sh", "-c", later], check=True, start_new_session=True, stdout=subprocess.DEVNULL)


def tell(word: str, *keepers: int) -> None:
    """Have the guest obey *word* on whichever host it runs, by the first processes of those; it may end of it, or have
    left one. Raises OSError."""
    left, deadline = list(keepers), Deadline.after(30)
    while left:
        for keeper in tuple(left):
            heard = _heard(word, keeper)
            if heard:
                return
            if heard is None:
                left.remove(keeper)
        if deadline.passed:
            raise TimeoutError(f"the guest does not heed {word!r}")


def _heard(word: str, keeper: int) -> bool | None:
    """Whether it has obeyed; what is said to a target before it has the guest is not heard. None: its QEMU is gone."""
    command, kind = TOLD[word]
    reader, again = SerialReader(), Deadline.after(ASK_AGAIN_S)
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(TimeoutError):
        connection.settimeout(ASK_AGAIN_S)
        try:
            connection.connect(f"/proc/{keeper}/root{SERIAL}")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        connection.sendall(command)
        while not again.passed:
            if not (said := connection.recv(65536)):
                return None
            if any(isinstance(report, kind) for report in reader.feed(said)):
                return True
    return False


TOLD = {"power-off": (COMMAND_SHUTDOWN, Stopped), "start-anew": (COMMAND_RESTART, Ready)}
ASK_AGAIN_S = 2.0
SERIAL = "/run/limosa/guests/bare/serial.sock"
WAITING: dict[str, list[str]] = {}
"""What is to be done at which moment: the first the first time that it comes, and so on."""
NEVER = "move_driver: this moment did not come:"
"""What is said on the standard error where the move had no step WHEN."""
MARK = b"-pidfile\0/run/limosa/guests/bare/qemu.pid"


def qemus(keeper: int) -> list[int]:
    """The pids, as seen from here, of every QEMU of the guest on the host whose first process is *keeper*."""
    namespace, found = Path(f"/proc/{keeper}/ns/pid").readlink(), []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            here = entry.name.isdigit() and (entry / "ns/pid").readlink() == namespace
            if here and MARK in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def moments(event: Event) -> list[str]:
    """The moments that *event* stands for."""
    if isinstance(event, MigrationPhaseChanged):
        return [event.phase]
    if isinstance(event, MigrationProgressed):
        return ["sending"] if (event.transferred_bytes or 0) > 1 << 20 else []
    if isinstance(event, MigrationSteered):
        return [f"decided-{event.action}"]
    if isinstance(event, Note):
        return ["told-to-wait"] * ("waits for its link" in event.text)
    if isinstance(event, QmpExchanged):
        told = {"STOP": ["stopped"], "RESUME": ["begun"]}.get(event.qmp_event, [])
        return told + ["connecting"] * (event.command == "migrate")
    return []


def hear_given_up() -> None:
    """The moment ``given-up``: both sides have given the connection up, and meet anew once the link is back."""
    given_up = post_copy._given_up

    async def giving_up(transfer: Transfer) -> tuple[str, str | None]:
        found = await given_up(transfer)
        if found == (PAUSED, PAUSED) and WAITING.get("given-up"):
            act(WAITING["given-up"].pop(0))
        return found

    post_copy._given_up = giving_up


def spoil(side: Side, good_for: timedelta) -> None:
    """Have one side hold such a key, where it held a good one, once both are connected."""
    start, new_key = post_copy.STEPS[Phase.STARTING_POST_COPY], certificates.new_host_key

    async def starting(transfer: Transfer) -> Phase:
        after = await start(transfer)
        qemu, keys = transfer.source if side == "source" else transfer.receiver, transfer.credentials
        assert keys is not None
        certificates.new_host_key = partial(new_key, good_for=good_for)  # type: ignore[assignment]
        await (keys.give(qemu, side) if good_for else take_back(qemu))
        certificates.new_host_key = new_key  # type: ignore[assignment]
        return after

    post_copy.STEPS = {**post_copy.STEPS, Phase.STARTING_POST_COPY: starting}  # type: ignore[misc]


def main() -> None:
    action, when = sys.argv[1:3]
    sys.argv[1:] = sys.argv[4:]
    emit = Events.emit
    times, star, whole = action.partition("*")
    WAITING[when] = [whole] * int(times) if star else [action]

    def listening(self: Events, event: Event) -> None:
        emit(self, event)
        for moment in moments(event):
            if WAITING.get(moment):
                act(WAITING[moment].pop(0))

    Events.emit = listening  # type: ignore[method-assign]
    if stall := os.environ.get("LIMOSA_TEST_STALL_S"):
        attempt = lab.Lab.attempt

        async def impatient(self: lab.Lab, guest: str, host: str, settings: Settings | None = None) -> lab.Outcome:
            given = settings or Settings()
            return await attempt(self, guest, host, msgspec.structs.replace(given, stall_s=float(stall)))

        lab.Lab.attempt = impatient  # type: ignore[method-assign]
    hear_given_up()
    if spoiled := os.environ.get("LIMOSA_TEST_SPOILED_KEY"):
        side, _, seconds = spoiled.partition(":")
        spoil(cast(Side, side), timedelta(seconds=float(seconds)))
    try:
        command.main()
    finally:
        if WAITING.get(when):
            sys.stderr.write(f"{NEVER} {when}\n")


if __name__ == "__main__":
    main()
