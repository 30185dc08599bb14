"""The parts of the page, each from data to markup."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from limosa.report import clock_plots, timeline, vega
from limosa.report.data import RunData
from limosa.report.markup import Child, Html, json_block, raw, tag
from limosa.report.series import spans
from limosa.report.theme import PAGE
from limosa.report.vega import Spec
from limosa.report.verdict import progress_sentence
from limosa.results import figures
from limosa.results.account import Finding, Verdict
from limosa.results.format import Migration, MigrationSummary
from limosa.results.metrics import BY_KEY, CLOCKS, METRICS, REFERENCE, Metric
from limosa.results.remarks import looks_faster
from limosa.results.summary_tables import Table, rates_table, rest_table
from limosa.units import format_bytes_per_s

_MARK = raw(
    '<svg class="bird" viewBox="0 0 64 32" aria-hidden="true"><path d="M2 20c9-1 15-4 21-10 3 4 3 8 0 12 '
    '8-2 14-6 19-13 1 7-1 12-5 16 8-3 15-3 25-2-9 1-15 3-21 6-6 2-13 2-19-1-6-4-12-7-20-8z" '
    'fill="currentColor"/></svg>'
)


def part(title: str, *content: Html | None, identity: str, note: Child = "") -> Html:
    """A section with its heading and a line of explanation."""
    explanation = tag("p", note, class_="note") if note else None
    return tag("section", tag("h2", title), explanation, content, id=identity)


def header(data: RunData, verdict: Verdict) -> Html:
    """Verdict and key figures."""
    run = data.run
    accel = data.environment.accel.upper() if data.environment else None
    chips = [run.lab, run.guest, figures.moment(run.started_ns), run.kind, accel]
    facts = [tag("div", tag("dd", figure), tag("dt", label), class_="fact") for figure, label in verdict.facts]
    return tag(
        "header",
        tag("p", _MARK, tag("b", "Limosa"), [tag("span", chip) for chip in chips if chip], class_="where-when"),
        tag("p", verdict.mark, class_=f"mark {verdict.tone}"),
        tag("h1", verdict.sentence),
        [tag("p", sentence, class_="detail") for sentence in verdict.details],
        tag("dl", facts, class_="facts") if facts else None,
    )


def _table(head: Iterable[Child], rows: Iterable[list[Html]], caption: str) -> Html:
    cells = [name if isinstance(name, Html) else tag("th", name, scope="col") for name in head]
    body = [tag("tr", row) for row in rows]
    table = tag("table", tag("caption", caption, class_="unseen"), tag("thead", tag("tr", cells)), tag("tbody", body))
    return tag("div", table, class_="scroll", tabindex="0")


LONGEST_FIGURE = 24
"""Characters: a cell beyond is a sentence, and may be broken."""


def plain_table(shown: Table) -> Html:
    """A table of text as markup: names first, figures unbroken."""
    rows = [[tag("td", row[0], class_="name"), *map(_cell, row[1:])] for row in shown.rows]
    return _table(shown.columns, rows, shown.title)


def _cell(text: str) -> Html:
    """A figure keeps its unit on its line; what is said of it in brackets may stand below."""
    figure, bracket, said = text.partition(" (")
    if len(figure) > LONGEST_FIGURE:
        return tag("td", text)
    if not bracket:
        return tag("td", text, class_="number")
    return tag("td", tag("span", figure, class_="number"), " ", tag("span", f"({said}", class_="bracket"))


def bullets(sentences: Iterable[Child | list[Child]]) -> Html:
    """Sentences one under another."""
    return tag("ul", [tag("li", each) for each in sentences], class_="remarks")


def findings(found: Iterable[Finding]) -> Html:
    """What makes a bench unsound, or needs saying."""
    tones = {"unsound": "bad", "caution": "warn", "note": "good"}
    return bullets([tag("span", f.severity, class_=f"pill {tones[f.severity]}"), f" {f.text}"] for f in found)


def _number(shown: str, value: float | int | None, name: str) -> Html:
    """A figure; ``data-value`` keeps it as it is in summary.json."""
    return tag("td", shown, class_="number", data_value=value, data_name=name)


def migrations(data: RunData) -> Html | None:
    """The table of migrations; failed and cancelled ones keep their row and say how far they got."""
    if not data.summary.migrations:
        return None
    head = ["", "Move", "Outcome", *(_heading(metric) for metric in METRICS if metric.column)]
    return part(
        "Migrations",
        _table(head, [_migration_row(row) for row in data.summary.migrations], "Migrations of this run"),
        *[
            tag("p", progress_sentence(data, migration), class_="outcome")
            for migration in data.migrations
            if migration.outcome != "completed"
        ],
        identity="migrations",
    )


def decisions(data: RunData) -> Html | None:
    """What policies decided under way, when, and why."""
    rows = [
        [
            tag("td", str(migration.index), class_="soft"),
            tag("td", f"{(each.time_ns - migration.started_ns) / 1e9:.2f} s", class_="number"),
            tag("td", each.words),
            tag("td", each.why),
        ]
        for migration in data.migrations
        for each in migration.decisions
    ]
    if not rows:
        return None
    named = dict.fromkeys(str(m.plan.get("policy", "")) for m in data.migrations if m.decisions)
    head = ["", "After", "Done", "Why"]
    title = "What the policy decided"
    return part(title, _table(head, rows, title), identity="decisions", note=f"Steered by {', '.join(named)}.")


def _heading(metric: Metric) -> Html:
    """A metric's name, and its meaning for whoever rests on it."""
    return tag("th", metric.title, scope="col", title=metric.meaning)


def _migration_row(row: MigrationSummary) -> list[Html]:
    tone = {"completed": "good", "cancelled": "warn"}.get(row.outcome, "bad")
    return [
        tag("td", str(row.index), class_="soft"),
        tag("td", f"{row.source} → {row.target}", class_="name"),
        tag("td", tag("span", row.outcome, class_=f"pill {tone}")),
        *[_number(_told(metric, row), metric.of(row), metric.key) for metric in METRICS if metric.column],
    ]


def _told(metric: Metric, row: MigrationSummary) -> str:
    """A reading, or the share that it is of another one."""
    reading = metric.of(row)
    if not metric.share_of:
        return figures.spelt(metric.quantity, reading)
    if looks_faster(row):
        # A move speeds nothing up: such a share is of something else.
        return "no slower"
    beside = BY_KEY[metric.share_of].of(row)
    return figures.NONE if reading is None or not beside else f"{reading / beside * 100:.0f} %"


def rest(data: RunData) -> Html | None:
    """What users and guest do when nothing moves: the floor under every figure of a move."""
    waits, rates = rest_table(data.summary), rates_table(data.summary)
    shown = [plain_table(table) for table in (waits, rates) if table.rows]
    note = "The same clocks and rates while the guest did not move: what a move shows beyond them is the move's."
    return part("At rest, and what was asked for", *shown, identity="rest", note=note) if shown else None


def in_force(migrations: Iterable[tuple[str, Migration]]) -> Html | None:
    """How QEMU was set, by each migration's name: a comparison is of moves that were set alike."""
    same: dict[str, tuple[Migration, list[str]]] = {}
    for name, migration in migrations:
        key = repr((migration.capabilities_in_force, migration.parameters_in_force))
        same.setdefault(key, (migration, []))[1].append(name)
    if not same:
        return None
    listed = [
        tag("div", tag("dt", "; ".join(names)), tag("dd", _in_force(migration))) for migration, names in same.values()
    ]
    note = "As the source's QEMU said just before it began."
    return part("Settings in force", tag("dl", listed, class_="pairs"), identity="in-force", note=note)


def _in_force(migration: Migration) -> list[Html]:
    if migration.capabilities_in_force is None or migration.parameters_in_force is None:
        return [tag("span", "QEMU was not asked, or did not say.")]
    on = ", ".join(migration.capabilities_in_force) or "none"
    return [tag("span", f"capabilities: {on}"), *described({"parameters": migration.parameters_in_force})[1:]]


def figure(identity: str, spec: Spec, label: str, *tools: Html | None) -> Html:
    """A plot: its specification as data, and a place that the page's script fills."""
    return tag(
        "figure",
        tools,
        tag("div", class_="plot", data_plot=identity, role="img", aria_label=label),
        json_block(f"{identity}-spec", vega.compiled(spec)),
        class_="chart",
    )


def clocks_part(data: RunData) -> Html | None:
    """The clocks side by side with what each measures; for calibration, their errors."""
    listed = tag(
        "dl",
        [
            tag("div", tag("dt", clock_plots.LABELS[metric.key]), tag("dd", f"{metric.meaning}."))
            for metric, _ in CLOCKS
        ],
        class_="meanings",
    )
    if data.summary.pauses:
        spec = clock_plots.calibration_spec(data, PAGE)
        note = "Every point is one pause of known length; the bar is the median. A perfect clock stands at zero."
        plot = figure("clocks", spec, "Error of each clock") if spec else _empty("No clock read any pause.")
        return part("Clock errors", plot, _error_table(data), listed, identity="clocks", note=note)
    if not data.summary.migrations:
        return None
    spec = clock_plots.spec(data, PAGE)
    note = "One pause, seen from the hypervisor (blue) and from the network and its users (orange). "
    note += "The dashed line is the reference: time lost by the guest's own clock."
    if spec is None:
        plot = _empty("No clock has a reading: no migration of this run reached its pause.")
        return part("Clocks", plot, identity="clocks")
    return part("Clocks", figure("clocks", spec, "Clocks side by side"), listed, identity="clocks", note=note)


def _error_table(data: RunData) -> Html:
    rows = clock_plots.errors(data)
    requested = sorted({row["requested"] for row in rows})
    body = []
    for name, label in clock_plots.LABELS.items():
        if not any(row["field"] == name for row in rows):
            continue
        cells = [tag("td", label, class_="name")]
        for length in requested:
            found = [r["error"] for r in rows if r["field"] == name and r["requested"] == length]
            middle = statistics.median(found) if found else None
            cells.append(
                _number(
                    figures.NONE if middle is None else f"{middle:+.2f} {REFERENCE.unit}", middle, f"{name}-{length:g}"
                )
            )
        body.append(cells)
    return _table(["Median error", *[f"pause of {length:g} ms" for length in requested]], body, "Median errors")


def _empty(sentence: str) -> Html:
    return tag("p", sentence, class_="empty")


def timeline_part(data: RunData) -> Html:
    """The timeline with buttons that go to each migration, and what it cannot show."""
    spec, missing = timeline.spec(data, PAGE)
    gaps = tag("ul", [tag("li", sentence) for sentence in missing], class_="missing") if missing else None
    if spec is None:
        return part("Timeline", _empty("There is no sample to draw."), gaps, identity="timeline")
    low, high = timeline.extent(data)
    buttons = [_go("Whole run", low, high)]
    seen = set()
    for span in spans(data)[:24]:
        wide = span.end - span.start
        if span.kind == "migration":
            buttons.append(_go(span.label, span.start - 0.15 * wide, span.end + 0.15 * wide))
        elif span.kind == "blackout" or span.label not in seen:
            seen.add(span.label)
            name = "its blackout" if span.kind == "blackout" else f"a pause of {span.label}"
            buttons.append(_go(name, span.start - 1.2 * wide, span.end + 1.8 * wide))
    tools = tag("div", buttons, tag("span", class_="reading", aria_live="polite"), class_="tools")
    shaded = {span.kind for span in spans(data)}
    note = [
        [tag("span", class_="swatch span"), "migration  "] if "migration" in shaded else None,
        [tag("span", class_="swatch blackout"), "blackout: no instruction of the guest runs. "]
        if shaded & {"blackout", "pause"}
        else None,
        tag(
            "span",
            "Drag to pan, Ctrl or Shift with the wheel to zoom, double-click for the whole run;"
            " all panes move together.",
            class_="hand",
        ),
    ]
    honest = "Drawn from all samples: where there are more than can be seen, each bin (fine around migrations "
    honest += "and pauses) keeps its lowest, middle and highest value, so no gap and no spike is lost. "
    honest += "The raw samples are in samples/."
    plot = figure("timeline", spec, "Timeline of the run", tools)
    return part("Timeline", plot, gaps, tag("p", honest, class_="small"), identity="timeline", note=note)


def _go(label: str, start: float, end: float) -> Html:
    return tag("button", label, type="button", data_from=f"{start:.6f}", data_to=f"{end:.6f}")


def checks(data: RunData) -> Html | None:
    """What had to survive."""
    if not data.summary.checks:
        if not data.summary.migrations:
            return None
        return part(
            "Checks",
            _empty("No check was recorded: whether the guest is unharmed is not known."),
            identity="checks",
        )
    items = [
        tag(
            "li",
            tag("span", "✓" if check.passed else "✗", class_="sign", aria_hidden="true"),
            tag(
                "div",
                tag("b", check.name.replace("-", " ")),
                tag("span", "" if check.passed else " failed"),
                tag("p", check.detail),
            ),
            class_="good" if check.passed else "bad",
        )
        for check in sorted(data.summary.checks, key=lambda check: check.passed)
    ]
    return part("Checks", tag("ul", items, class_="checks"), identity="checks")


def remarks(data: RunData) -> Html | None:
    """What a careful reader should know, and which files of the run could not be read."""
    said = [*data.summary.remarks, *data.complaints]
    if not said:
        return None
    return part("Remarks", tag("ul", [tag("li", sentence) for sentence in said], class_="remarks"), identity="remarks")


def environment(data: RunData) -> Html:
    """Where this was measured, host by host, and what was active."""
    found = data.environment
    if found is None:
        empty = _empty("Not recorded, so these figures cannot be compared with any others.")
        return part("Environment", empty, identity="environment")
    pairs: list[tuple[str, Child]] = [
        ("Accelerator", f"{found.accel.upper()}: {found.accel_reason}"),
        ("Machine", f"{found.machine}, CPU model {found.cpu}"),
        ("Image", described(found.image)),
        ("Load average", f"{_maybe(found.load_average_before)} before, {_maybe(found.load_average_after)} after"),
        ("CPU time stolen", figures.percent(found.steal_share)),
        ("Probes, as asked for", described(found.probes)),
        ("Workload, as asked for", described(found.workload)),
    ]
    hosts = [
        [
            tag("td", name, class_="name"),
            tag("td", host.kind),
            tag("td", f"{host.cpus} × {host.cpu_model}"),
            tag("td", figures.size(host.memory_bytes), class_="number"),
            tag("td", host.kernel),
            tag("td", tag("span", host.qemu_version, title=host.qemu_path)),
        ]
        for name, host in found.hosts.items()
    ]
    table = _table(["Host", "Kind", "CPU", "Memory", "Kernel", "QEMU"], hosts, "Hosts")
    listed = tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs], class_="pairs")
    return part("Environment", table, listed, identity="environment")


def _maybe(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def described(values: Mapping[str, object]) -> list[Html]:
    """Single values in a line; what is itself a list or a table is folded away, so that the page stays readable."""
    nested = {name: value for name, value in values.items() if isinstance(value, (Mapping, list, tuple))}
    line = ", ".join(_named(name, value) for name, value in values.items() if name not in nested)
    folded = []
    for name, value in nested.items():
        entries = [_named(*item) for item in value.items()] if isinstance(value, Mapping) else [str(v) for v in value]
        title = f"{name.replace('_', ' ')}: {len(entries)}"
        folded.append(tag("details", tag("summary", title), tag("p", ", ".join(entries))))
    return [tag("span", line or "none"), *folded]


def _named(name: str, value: object) -> str:
    """``region: 32 MiB`` for ``region_bytes`` 33554432."""
    if isinstance(value, (int, float)) and name.endswith("_bytes"):
        return f"{name.removesuffix('_bytes').replace('_', ' ')}: {figures.size(value)}"
    if isinstance(value, (int, float)) and name.endswith("_bytes_per_s"):
        return f"{name.removesuffix('_bytes_per_s').replace('_', ' ')}: {format_bytes_per_s(value)}"
    return f"{name.replace('_', ' ')}: {value}"
