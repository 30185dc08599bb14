"""``limosa doctor``."""

from __future__ import annotations

import typer

from limosa.cli.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Try everything that limosa needs of this machine, and say how to mend what is amiss."""
    from limosa.capabilities import examine
    from limosa.cli.terminal import run, show_result

    findings = run(examine)
    ready = all(finding.ok for finding in findings if finding.required)
    if as_json:
        show_result({"ready": ready, "findings": findings})
    else:
        from limosa.cli.table import print_table

        rows = []
        for finding in findings:
            mark = "ok" if finding.ok else ("MISSING" if finding.required else "absent")
            rows.append((mark, finding.name, finding.detail, "" if finding.ok else finding.fix))
        print_table(("", "what", "found", "to mend it"), rows)
        print("this machine is ready" if ready else "this machine is not ready: see MISSING")
    if not ready:
        raise typer.Exit(3)
