"""The table of migration options: what people write, what QMP takes, what both QEMUs are told, what the page says."""

from __future__ import annotations

from tests import option_docs


def test_the_page_of_options_is_as_the_table_has_it() -> None:
    text = option_docs.PAGE.read_text()
    assert text == option_docs.written(text), "python -m tests.option_docs writes it"
