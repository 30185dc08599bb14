"""The recipe: a lab with one guest that is moved there and back, then each bench by its own command.

A part that fails is in the handout with its reason, and the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from limosa import paths, process, report, requirements, spec, untrusted
from limosa.bench.benches import chapters
from limosa.bench.entry import Chapter, fitted
from limosa.errors import LimosaError, MachineError, StateError
from limosa.events import Events
from limosa.experiment.measurement import has_agent, measure, recorded_run
from limosa.experiment.route import Route, route
from limosa.homework import expected, handout, own_lab, pdf
from limosa.homework.chapters import HOMEWORK, Homework, PartResult
from limosa.hosts.host import CLIENT
from limosa.lab import Lab, sweep
from limosa.probes.pace import Probing
from limosa.results import archive, meant, store
from limosa.results.store import RunDirectory
from limosa.results.summary import summarise
from limosa.spec import resolved

LONGEST_S = 3600.0
"""No bench of the recipe takes nearly this long; one that hangs must not hang the rest."""

SETTLE_S = 3.0
"""Before, between and after the migrations, as in the demo."""

SHOW = (("ip", "-brief", "link"), ("ip", "-brief", "address"), ("ls", "-l", "/dev/kvm", "/dev/net/tun"))
"""What is looked at on each host, so that a reader sees the bridge, the TAP and the devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handout:
    """What is handed out."""

    run: Path
    files: list[Path]
    parts: list[PartResult]


async def do(
    *, quick: bool, events: Events, file: Path | None = None, folder: Path | None = None, no_install: bool = False
) -> Handout:
    """Run everything and write the pages. *file* is the student's own lab; without it the example of two hosts.

    Raises LimosaError's children when not even the lab can be made, at once where that can be known.
    """
    sweep()
    described = msgspec.structs.replace(spec.load(file or paths.example()), name=f"homework-{os.getpid()}")
    way = route(described, "the homework")
    span_s = expected.range_s(chapters().values(), way.guest, quick=quick)
    events.note(f"this takes {expected.told(span_s)}, and longer where something has to be fetched first")
    await requirements.install(await requirements.missing(), events, no_install=no_install)
    run, homework, lacking = await _lab(described, way, quick, events)
    with contextlib.ExitStack() as held:  # each part's run is over, and needed to the end
        held.enter_context(archive.held(run))
        homework = replace(homework, lab=str(file or ""))
        run.write(HOMEWORK, homework)
        for chapter in chapters().values():
            with events.stage(chapter.title) as step:
                more = _on_own_lab(chapter, file, way, lacking) if file is not None else ()
                part = await _bench(chapter, quick, no_install, more)
                if part.run:
                    held.enter_context(archive.held(RunDirectory(Path(part.run))))
                if part.reason:
                    step.fail()
            if part.reason:
                events.note(f"{chapter.title}: {part.reason}", level="warning")
            homework = replace(homework, parts=[*homework.parts, part])
            run.write(HOMEWORK, homework)
        return await _write(run, homework, events, folder)


def _on_own_lab(chapter: Chapter, file: Path, way: Route, lacking: Collection[str]) -> tuple[str, ...]:
    if chapter.own_lab is None:
        return ()
    return ("--lab", str(file.resolve()), *fitted(chapter.own_lab, way.guest.memory_bytes, lacking))


async def remake(wanted: str, *, events: Events, folder: Path | None = None) -> Handout:
    """The pages of an earlier run, from its data. Raises StateError when it is no homework."""
    run = meant.find(wanted, holding=meant.HOMEWORK)
    if not run.has(HOMEWORK):
        raise StateError(f"the run {run.id} is no homework", hint="limosa homework makes one")
    return await _write(run, run.read(HOMEWORK), events, folder)


async def _write(run: RunDirectory, homework: Homework, events: Events, folder: Path | None) -> Handout:
    target = folder or run.path
    html = target / "homework.html"
    with events.stage("write the handout"):
        report.write(html, (await asyncio.to_thread(handout.page, run, homework)).encode())
    files = [html]
    try:
        with events.stage("print it as PDF"):
            files.append(await pdf.printed(html, target / "homework.pdf"))
    except LimosaError as error:
        events.note(f"there is no PDF: {error.message}", level="warning")
    return Handout(run=run.path, files=files, parts=homework.parts)


async def _lab(
    described: resolved.Lab, way: Route, quick: bool, events: Events
) -> tuple[RunDirectory, Homework, list[str]]:
    """The lab's own part; and the programs that its guest lacks for the others."""
    guest, reason, homework, run, lacking = way.guest.name, "", Homework(quick=quick), None, list[str]()
    async with Lab.open(described, events=events, ephemeral=True) as lab:
        await own_lab.require_ready(lab)
        try:
            await lab.up()
            async with recorded_run(lab, guest, "homework") as run:
                homework = replace(homework, explained=await lab.guests.explain(guest), shown=await _shown(lab))
                asked = [chapter.own_lab.loads for chapter in chapters().values() if chapter.own_lab]
                programs = [program for loads in asked for _, program in loads if program]
                if lacking := await own_lab.missing(lab, guest, programs):
                    homework = replace(homework, notes=[own_lab.note(guest, lacking)])
                    events.note(homework.notes[0], level="warning")
                await _moved(lab, way, run)
            await lab.stop(guest, force=True)
        except MachineError:
            raise
        except LimosaError as error:
            reason = error.message
    if run is None:
        raise LimosaError(f"the lab of the recipe could not be built: {reason}", hint="limosa doctor")
    reason = reason or run.read(store.RUN).error
    part = PartResult(
        name="lab",
        title="Two hosts, a guest, and its live migration",
        status="failed" if reason else "done",
        reason=reason,
        run=str(run.path),
    )
    return run, replace(homework, parts=[part]), lacking


async def _moved(lab: Lab, way: Route, run: RunDirectory) -> None:
    guest = way.guest.name
    async with measure(lab, guest, run, Probing(), {}, agent=await has_agent(lab, guest)) as measurement:
        await asyncio.sleep(SETTLE_S)
        for target in (way.there, way.back):
            await measurement.migrate(target)
            await asyncio.sleep(SETTLE_S)
        await measurement.check_alive()
    run.write(store.SUMMARY, await asyncio.to_thread(summarise, run))


async def _shown(lab: Lab) -> list[tuple[str, str, str]]:
    shown = []
    for name in (*lab.spec.hosts, CLIENT):
        for argv in SHOW if name != CLIENT else SHOW[:1]:
            done = await lab.host(name).run(argv, check=False)
            said = (done.stdout + done.stderr).decode(errors="replace").rstrip()
            shown.append((name, " ".join(argv), said))
    return shown


async def _bench(chapter: Chapter, quick: bool, no_install: bool, more: tuple[str, ...] = ()) -> PartResult:
    """The bench as a command of its own: nothing that happens to it can harm the rest."""
    words = [*chapter.words, *(chapter.quick if quick else ()), *more]
    part = PartResult(name=chapter.name, title=chapter.title, command=words)
    silent = ["--no-install"] if no_install and chapter.installs else []
    argv = [sys.executable, "-m", "limosa", *words, *silent, "--json"]
    # It is to find what this one found: a daemon's socket, an SSH agent.
    theirs = {name: value for name, value in os.environ.items() if name != "PATH"}  # to that, process adds sbin
    environment = theirs | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        ended = await process.run(argv, env=environment, check=False, timeout_s=LONGEST_S)
        result: dict[str, Any] = untrusted.decode(ended.stdout or b"{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        return replace(part, status="failed", reason="what the bench printed is no JSON document")
    except LimosaError as error:
        return replace(part, status="failed", reason=error.message)
    run, reason = str(result.get("run", "")), str(result.get("error", ""))
    if not run and not reason:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"it ended with exit code {ended.returncode}"
    return replace(part, status="failed" if reason or not run else "done", reason=reason, run=run)
