"""The colours, once: CSS variables for the page, so that a plot follows light and dark; fixed for PNG.

Blue, vermilion, green and purple are told apart by colour-blind readers (after Okabe and Ito,
2008); no meaning hangs on colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass

LIGHT = {
    "paper": "#ffffff",
    "ink": "#16212b",
    "soft": "#5b6875",
    "grid": "#e4e8ec",
    "line": "#c9d0d7",
    "blue": "#0068a8",
    "orange": "#c85400",
    "green": "#00805d",
    "purple": "#9a4f86",
    "span": "#dfe9f2",
    "blackout": "#f3b08a",
}
DARK = {
    "paper": "#161d24",
    "ink": "#e8edf1",
    "soft": "#9dabb8",
    "grid": "#27323c",
    "line": "#3d4a56",
    "blue": "#5cb8ee",
    "orange": "#f2935a",
    "green": "#3ecfa3",
    "purple": "#dd9cc9",
    "span": "#22303d",
    "blackout": "#8f4a22",
}
FONT = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif'


@dataclass(frozen=True, slots=True)
class Theme:
    """Turns a colour's name into what a plot needs."""

    fixed: dict[str, str] | None = None
    """None: CSS variables, resolved by the browser."""

    def __getitem__(self, name: str) -> str:
        """The colour called *name*."""
        return self.fixed[name] if self.fixed is not None else f"var(--{name})"


PAGE = Theme()
PRINT = Theme(LIGHT)


def css() -> str:
    """The variables for the style sheet: light first, dark when the reader prefers it, never on paper."""
    light = "".join(f"--{name}:{value};" for name, value in LIGHT.items())
    dark = "".join(f"--{name}:{value};" for name, value in DARK.items())
    return (
        f":root{{color-scheme:light dark;{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )
