"""Small pieces of HTML; whatever comes from data is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

from sensorium.platform.tables import human_bytes

__all__ = [
    "Html",
    "address",
    "counted",
    "facts",
    "link",
    "navigation",
    "notice",
    "page",
    "table",
    "tags",
    "text_of",
    "tiles",
    "title_of",
]

_LONG = 40
#: how people write words that a name has in small letters
_WRITTEN = {
    word.lower(): word for word in ("CNN", "CT", "ECG", "EEG", "EMG", "LiDAR", "MRI", "NIR", "PET", "RGB", "SAR")
}
_WRITTEN |= {"fewshot": "few-shot", "3d": "3-D"}


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def page(*parts: str) -> str:
    """The parts as one block in the page's own style."""
    return f'<div class="page">{"".join(parts)}</div>'


def address(path: str, **query: Any) -> str:
    """An address within the front end, such as ``dataset?name=photographs``; what is None or empty is left out."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{quote(path)}?{urlencode(given)}" if given else quote(path)


def link(text: str, path: str, **query: Any) -> Html:
    """A link within the front end."""
    return Html(f'<a href="{escape(address(path, **query))}">{escape(text)}</a>')


def title_of(name: str) -> str:
    """A name of small letters as a title: ``EEG obesity`` for ``eeg_obesity``."""
    text = " ".join(_WRITTEN.get(word, word) for word in name.split("_"))
    return text[:1].upper() + text[1:]


def navigation(pages: Mapping[str, str], folded: Mapping[str, str], current: str) -> str:
    """Links to pages, title by name; those of ``folded`` under one word that opens. ``current`` is where one is.

    It needs no script: a keyboard opens it, and a screen reader says whether it is open.
    """
    row = "".join(f"<li>{_place(name, title, current)}</li>" for name, title in pages.items())
    if folded:
        items = "".join(f"<li>{_place(name, title, current)}</li>" for name, title in folded.items())
        here = f": {escape(folded[current])}" if current in folded else ""
        mark = ' class="here"' if here else ""
        row += f"<li><details><summary{mark}>Systems{here}</summary><ul>{items}</ul></details></li>"
    return f'<nav class="places" aria-label="Pages"><ul>{row}</ul></nav>'


def _place(name: str, title: str, current: str) -> str:
    mark = ' aria-current="page"' if name == current else ""
    return f'<a href="{escape(quote(name)) or "./"}"{mark}>{escape(title)}</a>'


def notice(text: str, commands: Sequence[str] = ()) -> str:
    """A remark that must be seen, with command lines to type."""
    typed = f"<pre>{escape(chr(10).join(commands))}</pre>" if commands else ""
    return f'<div class="notice" role="status">{escape(text)}</div>{typed}'


def tags(names: Iterable[str]) -> Html:
    """Names as small labels."""
    return Html("".join(f'<span class="tag">{escape(name)}</span>' for name in names))


def counted(count: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{text_of(count)} {noun}{'' if count == 1 else 's'}"


def tiles(values: Mapping[str, str]) -> str:
    """Figures under which stands what they are."""
    return (
        '<ul class="tiles">'
        + "".join(f"<li><b>{escape(value)}</b><span>{escape(name)}</span></li>" for name, value in values.items())
        + "</ul>"
    )


def facts(values: Mapping[str, Any]) -> str:
    """Names and values; those that are None are left out."""
    return (
        '<dl class="facts">'
        + "".join(
            f"<dt>{escape(name)}</dt><dd>{_escaped(value)}</dd>" for name, value in values.items() if value is not None
        )
        + "</dl>"
    )


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    caption: str,
    shown: bool = False,
    best: Sequence[bool] = (),
) -> str:
    """A table that scrolls sideways by itself where it is too wide; numbers to the right, ``best`` rows marked.

    The caption is for those who hear the page, and ``shown`` where no heading says the same.
    """
    lines = [list(row) for row in rows]
    numeric = [_numeric([line[index] for line in lines]) for index in range(len(columns))]
    head = "".join(
        f'<th scope="col"{_kind("n" if number else "")}>{escape(name)}</th>'
        for name, number in zip(columns, numeric, strict=True)
    )
    body = ""
    for index, line in enumerate(lines):
        marked = ' class="best"' if index < len(best) and best[index] else ""
        cells = "".join(_cell(value, number) for value, number in zip(line, numeric, strict=True))
        body += f"<tr{marked}>{cells}</tr>"
    kind = "shown" if shown else "visually-hidden"
    # what scrolls has to be reached by keyboard
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f'<table><caption class="{kind}">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def text_of(value: Any, name: str = "") -> str:
    """A value as people read it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "bytes" and isinstance(value, (int, float)):
        return human_bytes(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")  # a thin space, which no country reads as a decimal point
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, (list, tuple)):
        shown = ", ".join(text_of(part) for part in value[:8])
        return shown + (f", … ({len(value)})" if len(value) > 8 else "")
    if isinstance(value, Mapping) and {"shape", "dtype"} <= set(value):
        return f"{value['dtype']} {' × '.join(map(str, value['shape']))}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text_of(part)}" for key, part in value.items())
    return str(value)


def _numeric(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) for value in known)


def _escaped(value: Any) -> str:
    return value if isinstance(value, Html) else escape(text_of(value))


def _cell(value: Any, numeric: bool) -> str:
    text = _escaped(value)
    kind = "n" if numeric else "long" if len(text) > _LONG and not isinstance(value, Html) else ""
    return f"<td{_kind(kind)}>{text}</td>"


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ""
