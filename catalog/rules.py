"""Rules of a data set beyond what its fields declare, and what becomes of rows that break them.

A rule is stored with the data set, in a property of its table, so that it has the table's versions. It is checked wherever
rows become visible (:func:`.writing.append_rows`), against the version that they are added to, so that two writers cannot
add the same subject twice. An update asks the rules that speak of a field that it sets; quarantine means reject there, for
the old values are in the data set and stay. Rules look at rows: ids, scalars, and of arrays their shapes and sizes. What
single values of an array must be is declared by its field.

========== ================================================= ==========================================================
kind       what must hold                                    `check`
========== ================================================= ==========================================================
holds      a condition, for every row                        SQL, such as ``age BETWEEN 0 AND 120`` or ``unit = 'HU'``
unique     no two samples have the same value                a field
refers     the value is there in another data set            ``FIELD -> DATASET`` (its ids) or ``FIELD -> DATASET.FIELD``
balance    the shares of a field's values stay what they     ``FIELD @ VERSION < LIMIT``: total variation distance, 0 to 1
           were at a version or tag
========== ================================================= ==========================================================

A row whose condition is NULL, for want of a value, does not break a rule; ``label IS NOT NULL`` asks for the value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import polars as pl

from sensorium.catalog import tags
from sensorium.catalog.fields import check_name
from sensorium.platform.errors import InvalidQuery, InvalidSetting, SensoriumError, UnknownField

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from sensorium.catalog.table import Table

__all__ = ["PROPERTY", "Action", "Break", "Rule", "broken", "read", "written"]

#: key of the table property that holds the rules
PROPERTY = "sensorium.rules"

Kind = Literal["holds", "unique", "refers", "balance"]
#: what becomes of a row that breaks a rule: it stops the commit, it is put aside, or it is only told
Action = Literal["reject", "quarantine", "warn"]

_REFERS = re.compile(r"\s*(\w+)\s*->\s*(\w+)(?:\.(\w+))?\s*")
_BALANCE = re.compile(r"\s*(\w+)\s*@\s*([\w.-]+)\s*<\s*(0?\.\d+|1|1\.0)\s*")


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        name: for messages, unique within the data set.
        check: see the module's text.
        kind: likewise.
        action: what becomes of rows that break it.
    """

    name: str
    check: str
    kind: Kind = "holds"
    action: Action = "reject"

    def __post_init__(self) -> None:
        check_name(self.name, "rule")
        for value, known, what in ((self.kind, get_args(Kind), "kind"), (self.action, get_args(Action), "action")):
            if value not in known:
                raise InvalidSetting(f"rule {self.name!r}: {what} must be one of {', '.join(known)}; got {value!r}.")
        if self.kind == "holds":
            _condition(self)
        elif self.kind == "unique":
            check_name(self.check, f"field of rule {self.name!r}")
        elif self.kind == "refers":
            _match(self, _REFERS, "FIELD -> DATASET or FIELD -> DATASET.FIELD")
        else:
            _match(self, _BALANCE, "FIELD @ VERSION < LIMIT, such as label @ 3 < 0.1")

    @property
    def fields(self) -> frozenset[str]:
        """The fields of the data set that it speaks of."""
        if self.kind == "holds":
            return frozenset(_condition(self).meta.root_names())
        if self.kind == "unique":
            return frozenset((self.check,))
        return frozenset((_match(self, _REFERS if self.kind == "refers" else _BALANCE, "")[0],))


@dataclass(frozen=True)
class Break:
    """A row that breaks a rule.

    Attributes:
        id: of the sample.
        rule: that it breaks.
        reason: for people.
    """

    id: str
    rule: Rule
    reason: str


def read(snapshot: DeltaTable) -> tuple[Rule, ...]:
    """The rules of a data set at a version."""
    text = snapshot.metadata().configuration.get(PROPERTY)
    return tuple(Rule(**one) for one in json.loads(text)) if text else ()


def written(rules: Iterable[Rule]) -> dict[str, str]:
    """The table property that holds ``rules``.

    Raises:
        InvalidSetting: two have the same name.
    """
    names = [rule.name for rule in rules]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidSetting(
            f"there are two rules {twice!r}. Give each a name of its own, or remove the old one first."
        )
    return {PROPERTY: json.dumps([asdict(rule) for rule in rules])}


def broken(rules: Sequence[Rule], rows: pl.DataFrame, table: Table, snapshot: DeltaTable | None) -> list[Break]:
    """What rows break.

    Args:
        rules: to be checked.
        rows: with all columns of the table.
        table: the sample table; its neighbours are those of the lake's other data sets.
        snapshot: the version that they are to be added to, or to replace those of the same ids in; None for rows that are
            all there is.

    Raises:
        UnknownField, InvalidQuery, UnknownDataset, UnknownVersion: a rule cannot be checked.
    """
    found: list[Break] = []
    for rule in rules:
        try:
            found += _CHECKS[rule.kind](rule, rows, table, snapshot)
        except pl.exceptions.ColumnNotFoundError as error:
            raise UnknownField(
                f"data set {table.name!r}, rule {rule.name!r}: there is no field {str(error).splitlines()[0]!r:.80} in "
                f"{rule.check!r}. Mend the rule, or add the field."
            ) from error
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise InvalidQuery(
                f"data set {table.name!r}, rule {rule.name!r}: {rule.check!r} cannot be checked: {reason}. Mend the rule."
            ) from error
        except SensoriumError as error:
            raise type(error)(f"data set {table.name!r}, rule {rule.name!r}: {error}") from error
    return found


def _condition(rule: Rule) -> pl.Expr:
    try:
        return pl.sql_expr(rule.check)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InvalidSetting(
            f"rule {rule.name!r}: {rule.check!r} is not SQL: {reason}. Write it as in a WHERE clause: text in single quotes, "
            "names bare."
        ) from error


def _match(rule: Rule, pattern: re.Pattern[str], form: str) -> tuple[str, ...]:
    found = pattern.fullmatch(rule.check)
    if found is None:
        raise InvalidSetting(f"rule {rule.name!r}: write {form}; got {rule.check!r}.")
    return tuple(part or "" for part in found.groups())


def _holds(rule: Rule, rows: pl.DataFrame, table: Table, snapshot: DeltaTable | None) -> list[Break]:  # noqa: ARG001
    condition = _condition(rule)
    named = dict.fromkeys(name for name in condition.meta.root_names() if name != "id")
    wrong = rows.filter(~condition).select("id", *named)
    return [Break(row["id"], rule, f"{rule.check} does not hold{_values(row)}") for row in wrong.iter_rows(named=True)]


def _values(row: Mapping[str, Any]) -> str:
    shown = [f"{name} = {value!r:.60}" for name, value in row.items() if name != "id" and not isinstance(value, dict)]
    return f" ({', '.join(shown)})" if shown else ""


def _others(rows: pl.DataFrame, table: Table, snapshot: DeltaTable | None) -> pl.LazyFrame:
    """The samples of a version that ``rows`` do not replace."""
    if snapshot is None:
        return rows.clear().lazy()
    return table.scan(snapshot).filter(~pl.col("id").is_in(rows["id"].implode()))


def _unique(rule: Rule, rows: pl.DataFrame, table: Table, snapshot: DeltaTable | None) -> list[Break]:
    field = rule.check
    values = rows.select("id", field).drop_nulls()
    there = _others(rows, table, snapshot).select(pl.col("id").alias("other"), pl.col(field))
    held = there.filter(pl.col(field).is_in(values[field].implode())).collect().unique(field)
    taken = values.join(held, on=field).iter_rows(named=True)
    found = [Break(row["id"], rule, f"{field} = {row[field]!r} is that of {row['other']!r}, too") for row in taken]
    # of samples that come together, the first is right
    later = values.filter(~pl.col(field).is_first_distinct()).join(held, on=field, how="anti")
    return found + [Break(row[0], rule, f"{field} = {row[1]!r} comes twice") for row in later.iter_rows()]


def _refers(rule: Rule, rows: pl.DataFrame, table: Table, snapshot: DeltaTable | None) -> list[Break]:  # noqa: ARG001
    field, name, other = _match(rule, _REFERS, "")
    values = rows.select("id", field).drop_nulls()
    neighbour = table.neighbour(name)
    key = other or "id"
    there = neighbour.scan(neighbour.open()).select(key).filter(pl.col(key).is_in(values[field].implode()))
    missing = values.join(there.unique().collect(), left_on=field, right_on=key, how="anti")
    return [Break(row[0], rule, f"{field} = {row[1]!r} is not in {name}.{key}") for row in missing.iter_rows()]


def _balance(rule: Rule, rows: pl.DataFrame, table: Table, snapshot: DeltaTable | None) -> list[Break]:
    field, wanted, limit = _match(rule, _BALANCE, "")
    version = tags.resolve(table.storage.above(), table.name, int(wanted) if wanted.isdecimal() else wanted)
    before = _shares(table.scan(table.open(version)).select(field).collect()[field])
    held = _others(rows, table, snapshot).select(field).collect()[field]
    now = _shares(pl.concat([held, rows[field]]))
    if not before:
        return []
    distance = sum(abs(now.get(value, 0.0) - before.get(value, 0.0)) for value in {*now, *before}) / 2
    if distance < float(limit):
        return []
    worst = max({**now, **before}, key=lambda value: now.get(value, 0.0) - before.get(value, 0.0))
    reason = (
        f"shares of {field} are {distance:.3f} from those at {wanted}, {limit} are allowed; {worst!r} was "
        f"{before.get(worst, 0.0):.1%} and would be {now.get(worst, 0.0):.1%}"
    )
    return [Break(identifier, rule, reason) for identifier in rows["id"]]


def _shares(values: pl.Series) -> dict[Any, float]:
    counts = values.drop_nulls().value_counts()
    total = counts["count"].sum() or 1
    return {value: count / total for value, count in counts.iter_rows()}


_CHECKS = {"holds": _holds, "unique": _unique, "refers": _refers, "balance": _balance}
