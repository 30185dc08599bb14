"""The command lines and QMP commands of a run, stage by stage, each to open and to copy."""

from __future__ import annotations

import shlex
from itertools import groupby

import msgspec

from limosa import events
from limosa.report.data import RunData
from limosa.report.markup import Html, tag
from limosa.results import figures

LONGEST_TEXT = 6000
"""Characters of one answer: the raw answer stays in events.jsonl."""


class Stage:
    """What ran between a stage's start and its end."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.steps: list[events.CommandRan | events.QmpExchanged] = []
        self.duration_s: float | None = None
        self.ok = True


def stages(found: list[events.Event]) -> list[Stage]:
    """*found* in order, cut at each start and end of a stage; what ran outside any is ``Other``."""
    result: list[Stage] = []
    open_stages: list[Stage] = []
    outside: Stage | None = None
    for event in found:
        if isinstance(event, events.StageStarted):
            open_stages.append(Stage(event.stage))
            result.append(open_stages[-1])
            outside = None
        elif isinstance(event, events.StageFinished):
            for stage in reversed(open_stages):
                if stage.title == event.stage:
                    stage.duration_s, stage.ok = event.duration_s, event.ok
                    open_stages.remove(stage)
                    break
        elif isinstance(event, events.CommandRan | events.QmpExchanged):
            if not open_stages and outside is None:
                outside = Stage("Other")
                result.append(outside)
            target = open_stages[-1] if open_stages else outside
            if target is not None:
                target.steps.append(event)
    return [stage for stage in result if stage.steps]


def section(data: RunData) -> Html:
    """All stages as lists that open."""
    found = stages(data.events)
    if not found:
        return tag("p", "No command was recorded in this run.", class_="empty")
    return tag("div", [_stage(data, stage) for stage in found], class_="stages")


def _stage(data: RunData, stage: Stage) -> Html:
    items = []
    for _, same in groupby(stage.steps, key=_sameness):
        group = list(same)
        items.append(_step(data, group[-1], len(group)))
    took = "" if stage.duration_s is None else f" · {stage.duration_s:.2f} s"
    broken = "" if stage.ok else " · failed"
    script = "\n".join(_line(step) for step in stage.steps if isinstance(step, events.CommandRan))
    return tag(
        "details",
        tag(
            "summary",
            tag("b", stage.title),
            tag("span", f"{figures.count(len(stage.steps), 'step')}{took}{broken}", class_="soft"),
        ),
        _copy(script, "Copy all command lines") if script.count("\n") else None,
        tag("ol", items),
        class_="stage",
    )


def _sameness(step: events.CommandRan | events.QmpExchanged) -> object:
    """Equal neighbours are shown once with their number: query-migrate is asked every 20 ms."""
    if isinstance(step, events.QmpExchanged) and step.command.startswith("query-") and not step.error:
        return (step.guest, step.host, step.command, msgspec.json.encode(step.arguments))
    return id(step)


def _line(step: events.CommandRan) -> str:
    comment = f"  # on {step.host}" if step.host else ""
    return shlex.join(step.argv) + comment


def _step(data: RunData, step: events.CommandRan | events.QmpExchanged, times: int) -> Html:
    when = tag("span", f"{data.seconds(step.time_ns):.2f} s", class_="when")
    where = tag("span", step.host or "this machine", class_="where")
    if isinstance(step, events.CommandRan):
        line = shlex.join(step.argv)
        status = None if step.returncode == 0 else tag("span", f"exit {step.returncode}", class_="bad")
        head = tag("summary", when, where, tag("code", line), status)
        return tag("li", tag("details", head, _block(line)))
    if step.qmp_event:
        name, body = f"event {step.qmp_event}", _json(step.data) if step.data else ""
    else:
        asked = {"execute": step.command, "arguments": step.arguments}
        name, body = step.command, _json(asked if step.arguments else {"execute": step.command})
    error = tag("span", step.error, class_="bad") if step.error else None
    often = tag("span", f"× {times}", class_="soft") if times > 1 else None
    head = tag("summary", when, where, tag("code", name), often, error)
    answer = None
    if not step.qmp_event and not step.error:
        label = "last answer" if times > 1 else f"answer, after {step.duration_ms:.1f} ms"
        answer = [tag("p", label, class_="soft"), _block(_json(step.answer))]
    if not body and answer is None:
        return tag("li", tag("div", when, where, tag("code", name), class_="flat"))
    return tag("li", tag("details", head, _block(body) if body else None, answer))


def _json(value: object) -> str:
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    if len(text) > LONGEST_TEXT:
        return text[:LONGEST_TEXT] + f"\n… {len(text) - LONGEST_TEXT} more characters in events.jsonl"
    return text


def _block(text: str) -> Html:
    return tag("div", tag("pre", text), _copy(text, "Copy"), class_="block")


def _copy(text: str, label: str) -> Html:
    """A button that copies: the text of the block beside it, or *text* itself where nothing shows it."""
    own = None if label == "Copy" else text
    return tag("button", label, type="button", class_="copy", data_copy=own)
