"""HTML that is escaped by construction: text is text unless it is ``Html``.

Only ``tag``, ``raw`` and ``json_block`` make Html.
Guest names, error texts and QMP answers reach the page through here alone.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

import msgspec


class Html(str):
    """Markup that may go into a page as it is."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"
_VOID = {"br", "col", "hr", "img", "link", "meta"}


def text(child: Child) -> Html:
    """*child* as markup: Html stays, other text is escaped, iterables are joined, None is nothing."""
    if child is None:
        return Html("")
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return Html(html.escape(child))
    return Html("".join(text(one) for one in child))


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """An element. ``class_`` means class, ``data_value`` means data-value; None and False leave one out."""
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        words.append(attribute if value is True else f'{attribute}="{html.escape(str(value))}"')
    opening = f"<{' '.join(words)}>"
    return Html(opening if name in _VOID else f"{opening}{text(children)}</{name}>")


def raw(markup: str) -> Html:
    """Markup written by this package, never by a guest or a host."""
    return Html(markup)


def json_block(identity: str, value: object) -> Html:
    """*value* as a JSON data block that scripts find by *identity*; no text in it can end the element."""
    encoded = msgspec.json.encode(value).decode().replace("<", "\\u003c")
    return Html(f'<script type="application/json" id="{html.escape(identity)}">{encoded}</script>')
