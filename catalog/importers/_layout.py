"""Which column of a table of series is what: by option, or by the names that such columns usually have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sensorium.catalog.importers._files import unreadable
from sensorium.platform.errors import InvalidSetting, close_matches

__all__ = ["HOURS", "Layout", "layout"]

#: hours in each unit of time
HOURS = {"hours": 1.0, "minutes": 1 / 60, "seconds": 1 / 3600, "days": 24.0}

#: usual names of the columns, in lower case without marks, best first
_USUAL = {
    "id": (
        *("id", "sampleid", "seriesid", "recordid", "stayid", "icustayid", "hadmid", "patientid", "subjectid"),
        *("sample", "series", "record", "patient", "subject"),
    ),
    "time": ("time", "times", "t", *HOURS, "hour", "timehours", "timeminutes", "timeseconds", "timestamp", "offset"),
    "variable": ("variable", "variables", "parameter", "feature", "variablename", "item", "itemid", "sensor"),
    "value": ("value", "values", "valuenum", "reading"),
}


@dataclass(frozen=True)
class Layout:
    """The roles of the columns of one table.

    Attributes:
        long: one observation per row (irregular); else one column per channel (regular).
        id, time: the columns' names, empty where there is none.
        variable, value: likewise; of the long form only.
        channels: columns of the wide form that are channels.
        unit: of the time, a key of ``HOURS``.
    """

    long: bool
    id: str
    time: str
    variable: str
    value: str
    channels: tuple[str, ...]
    unit: str

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        named = [self.id, self.time, self.variable, self.value, *self.channels]
        return [name for name in dict.fromkeys(named) if name]


def layout(path: Path, columns: Sequence[str], options: Mapping[str, str]) -> Layout:
    """The layout of the table ``path`` that has ``columns``.

    It is long where a column of variables is there or the option ``form`` says so, else wide.

    Raises:
        InvalidSetting: ``form`` or ``time_unit`` is unknown.
        UnreadableFile: a column is missing that an option names or the form needs.
    """
    _check_header(path, columns)
    form = options.get("form", "auto")
    if form not in ("auto", "long", "wide"):
        raise InvalidSetting(f"form must be long or wide; got {form!r}.")
    roles = {role: _column(path, columns, role, options) for role in _USUAL}
    if form == "long" or (form == "auto" and roles["variable"]):
        for role in ("time", "variable", "value"):
            if not roles[role]:
                raise unreadable(
                    path,
                    f"no column is known to be the {role} (columns: {', '.join(columns)})",
                    f"Name it with {role}=COLUMN, or say form=wide if each column is a channel.",
                )
        return Layout(True, **roles, channels=(), unit=_unit(roles["time"], options, "hours"))
    return _wide(path, columns, roles, options)


def _check_header(path: Path, columns: Sequence[str]) -> None:
    """Refuse a table whose first row is one of numbers: it has no header, and the row would be lost.

    Numbers counted from 0 or 1 are names, though.
    """
    named = [name for name in columns if name]
    counted = [[str(number + start) for number in range(len(named))] for start in (0, 1)]
    if named and named not in counted and all(re.fullmatch(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?", name) for name in named):
        raise unreadable(path, f"has no header line (its first row is {', '.join(named[:4])})", "Put column names in.")


def _wide(path: Path, columns: Sequence[str], roles: Mapping[str, str], options: Mapping[str, str]) -> Layout:
    wanted = [name.strip() for name in options.get("channels", "").split(",") if name.strip()]
    if roles["id"] and not wanted and "id" not in options:  # a row number, an id or a channel: nothing but a guess
        raise unreadable(
            path,
            f"column {roles['id']!r} may be the sample's id or a channel",
            f"Say id={roles['id']}, or name the columns that are channels with channels=A,B.",
        )
    name_of_id = roles["id"] if "id" in options else ""
    # an unnamed column is a row index that some programs write
    channels = [_named(path, columns, name, "channels") for name in wanted] or [
        name for name in columns if name and name not in (name_of_id, roles["time"])
    ]
    if not channels:
        problem = f"no column is left for a channel (columns: {', '.join(columns)})"
        raise unreadable(path, problem, "Check the options time and id.")
    unit = _unit(roles["time"], options, "seconds")
    return Layout(False, name_of_id, roles["time"], "", "", tuple(channels), unit)


def _column(path: Path, columns: Sequence[str], role: str, options: Mapping[str, str]) -> str:
    """The column that an option names, or one of a usual name; empty where there is none."""
    if options.get(role):
        return _named(path, columns, options[role], role)
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(columns)}
    return next((plain[usual] for usual in _USUAL[role] if usual in plain), "")


def _named(path: Path, columns: Sequence[str], name: str, option: str) -> str:
    if name not in columns:
        hint = close_matches(name, columns)
        raise unreadable(path, f"has no column {name!r} ({option}=)", f"Mend the option or the table. {hint}".rstrip())
    return name


def _unit(column: str, options: Mapping[str, str], usual: str) -> str:
    """The unit of the time column: by option, by its name, or the usual one of the form."""
    unit = options.get("time_unit")
    if unit is None:
        return next((known for known in HOURS if known in column.lower()), usual)
    if unit not in HOURS:
        raise InvalidSetting(f"time_unit must be one of {', '.join(HOURS)}; got {unit!r}.")
    return unit
