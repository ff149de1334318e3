"""Bars beside names, for a web page's figure."""

from collections.abc import Sequence
from dataclasses import dataclass

from dominate import tags
from dominate.util import text

BARS_STYLE = """
.classes { flex: 1 0 100% }
.bars { columns: 24em; column-gap: 3em; padding: 0; margin: 0; list-style: none }
.bars li { display: grid; grid-template-columns: 9em 1fr auto; gap: .8em; align-items: center; break-inside: avoid }
.bars span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.bars u { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px }
.bars i { display: block; height: .75em; background: #3b7dd8; border-radius: 2px; min-width: 1px }
.bars i + i { background: #8888; height: .3em }
.bars b { font-weight: 400; text-align: right; min-width: 3em; font-variant-numeric: tabular-nums }
"""


@dataclass(frozen=True)
class Bar:
    """A name, a bar, perhaps a thin one under it, and a text."""

    name: str  # all of it is shown when pointed at; in the list what comes before a semicolon
    length: float  # 0 .. 1
    text: str
    thin: float | None = None  # 0 .. 1
    swatch: tuple[int, int, int] | None = None  # a colour in front of the name


def bars(title: str, entries: Sequence[Bar]) -> str:
    """HTML that BARS_STYLE goes with."""
    box = tags.div(cls="classes")
    with box:
        tags.h2(title)
        with tags.ul(cls="bars"):
            for entry in entries:
                with tags.li():
                    with tags.span(title=entry.name):
                        if entry.swatch is not None:
                            tags.u(style=f"background:rgb{entry.swatch}")
                        text(entry.name.split(";")[0])
                    with tags.div():
                        tags.i(style=f"width:{100 * entry.length:.1f}%")
                        if entry.thin is not None:
                            tags.i(style=f"width:{100 * entry.thin:.1f}%")
                    tags.b(entry.text)
    return box.render(pretty=False)
