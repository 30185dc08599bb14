"""The command line assembled: one file a verb, imported when it is called so that ``limosa --help`` starts fast."""

from __future__ import annotations

import typer

from limosa.cli import (
    bench,
    bench_during,
    calibrate,
    console,
    demo,
    doctor,
    down,
    explain,
    homework,
    host,
    inside,
    logs,
    migrate,
    report,
    schema,
    start,
    status,
    stop,
    up,
)

app = typer.Typer(
    name="limosa",
    help="Builds a live-migration laboratory, moves running virtual machines, says exactly what the move cost.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done, 1 failed, 2 wrong lab file or argument, 3 the machine lacks something, "
        "4 not possible as things stand, 5 another command is at work, 6 the migration did not complete and the "
        "guest is safe, 7 a person must decide, 130 Ctrl-C, 143 SIGTERM."
    ),
)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True)) -> None:
    """Builds a live-migration laboratory, moves running virtual machines, says exactly what the move cost."""
    if version:
        from limosa import __version__

        print(f"limosa {__version__}")
        raise typer.Exit


for _verb in (
    demo.demo,
    up.up,
    down.down,
    status.status,
    start.start,
    stop.stop,
    migrate.migrate,
    console.console,
    inside.ssh,
    logs.logs,
    doctor.doctor,
    report.report,
    explain.explain,
    calibrate.calibrate,
    homework.homework,
    schema.schema,
):
    app.command()(_verb)
app.command("exec")(inside.execute)
bench.app.command("during-migration")(bench_during.during_migration)
app.add_typer(host.app, name="host")
app.add_typer(bench.app, name="bench")
