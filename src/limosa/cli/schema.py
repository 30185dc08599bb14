"""``limosa schema``."""

from __future__ import annotations

from limosa.cli.options import JsonOption


def schema(as_json: JsonOption = False) -> None:
    """Print the JSON schema of a lab file, for editors."""
    from limosa import spec
    from limosa.cli.face import show_result

    show_result(spec.schema())
