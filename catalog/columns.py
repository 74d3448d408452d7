"""Many samples given as columns: checked all at once, and written as they are.

Whether something is wrong is found out for all samples together. *What* is wrong is told by looking at each sample, as
:func:`.check_sample` does: then, and where samples cannot be judged together, there are no checked columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sensorium.catalog.declaration import Declaration
from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.catalog.validation import LONGEST_ID, array_problem, check_between, discover, is_held, value_problem
from sensorium.platform.errors import InvalidSample

__all__ = ["CheckedColumns", "check_columns", "samples_of"]


@dataclass(frozen=True)
class CheckedColumns:
    """Samples that keep all rules, by column.

    Attributes:
        ids: of the n samples, all different.
        arrays: by field, [n, ...], native byte order, C order.
        scalars: by field, n values.
        found: declarations of fields that nobody had declared.
    """

    ids: list[str]
    arrays: dict[str, np.ndarray]
    scalars: dict[str, list[Any]]
    found: dict[str, Field]

    @property
    def id(self) -> str:
        """Of the first."""
        return self.ids[0]

    def part(self, chosen: Sequence[int] | slice) -> CheckedColumns:
        """Some of the samples."""
        places = range(len(self.ids))[chosen] if isinstance(chosen, slice) else chosen
        arrays = {name: stack[chosen] for name, stack in self.arrays.items()}
        scalars = {name: [values[place] for place in places] for name, values in self.scalars.items()}
        return CheckedColumns([self.ids[place] for place in places], arrays, scalars, self.found)


def samples_of(name: str, columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Columns as samples.

    Raises:
        InvalidSample: there are no ids, or a column is longer or shorter than they are.
    """
    count = _count(name, columns)
    for index in range(count):
        yield {field: values[index] for field, values in columns.items()}


def _count(name: str, columns: Mapping[str, Any]) -> int:
    if "id" not in columns:
        raise InvalidSample(
            f"data set {name!r}: columns of samples need a column 'id'; got {', '.join(map(str, columns))}."
        )
    count = len(columns["id"])
    for field, values in columns.items():
        if not hasattr(values, "__len__") or isinstance(values, str) or len(values) != count:
            length = len(values) if hasattr(values, "__len__") else "no"
            raise InvalidSample(
                f"data set {name!r}, field {field!r}: the column has {length} values, and 'id' has {count}. "
                "Give each sample a value; None where it has none."
            )
    return count


def check_columns(declaration: Declaration, columns: Mapping[str, Any], *, open_to_new: bool) -> CheckedColumns | None:
    """Check samples all at once against their data set's declaration.

    Args:
        declaration: of the data set.
        columns: ``id`` and fields; array fields stacked [n, ...], other fields n values in a list or an array [n].
        open_to_new: whether fields that nobody declared are taken in.

    Returns:
        None where the samples have to be looked at one after another: something is wrong, or cannot be told.

    Raises:
        InvalidSample: columns differ in length, or there are no ids.
        UnknownField: a field is not declared.
    """
    count = _count(declaration.name, columns)
    ids = columns["id"].tolist() if isinstance(columns["id"], np.ndarray) else list(columns["id"])
    if not count or not all(type(one) is str and 0 < len(one) <= LONGEST_ID for one in ids) or len(set(ids)) < count:
        return None
    checked = CheckedColumns(ids, {}, {}, {})
    for name, values in columns.items():
        if name == "id":
            continue
        field = declaration.known(name)
        if field is None:
            if values[0] is None:
                return None
            field = discover(declaration, ids[0], name, values[0], open_to_new=open_to_new)
            checked.found[name] = field
        if isinstance(field, ArrayField):
            stack = _stack(field, values)
            if stack is None:
                return None
            checked.arrays[name] = stack
        else:
            listed = _scalars(field, values)
            if listed is None:
                return None
            checked.scalars[name] = listed
    return checked if _agree(declaration, checked) else None


def _stack(field: ArrayField, values: Any) -> np.ndarray | None:
    """The arrays of a field, stacked, if each of them is as declared."""
    if not isinstance(values, np.ndarray) or values.ndim < 2:
        return None
    if array_problem(field, values[0]) is not None or value_problem(field, values) is not None:
        return None
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def _scalars(field: ScalarField, values: Any) -> list[Any] | None:
    """The values of a field, if each of them is, without a doubt, as declared."""
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return listed if all(value is None or is_held(field, value) for value in listed) else None


def _agree(declaration: Declaration, checked: CheckedColumns) -> bool:
    """Whether the fields of each sample go together."""
    first = {name: stack[0] for name, stack in checked.arrays.items()}
    required = {field.name for field in (*declaration.modality.fields, *declaration.fields.values()) if field.required}
    if any(None in values for name, values in checked.scalars.items() if name in required):
        return False
    if declaration.modality.check is None:  # what is left depends on shapes, and on which fields there are
        return not any(
            check_between(declaration, first, {name: v[0] for name, v in checked.scalars.items()}, partial=False)
        )
    for index in range(len(checked.ids)):
        arrays = {name: stack[index] for name, stack in checked.arrays.items()}
        scalars = {name: values[index] for name, values in checked.scalars.items() if values[index] is not None}
        if any(check_between(declaration, arrays, scalars, partial=False)):
            return False
    return True
