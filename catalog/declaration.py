"""What a data set declares: modality, fields, attributes, and where it comes from.

It is kept in the Delta table itself (properties, and the metadata of the columns), so that it has the table's versions and
its transactions: an old version is read under its own declaration.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import ArrayField, Field, ScalarField, from_column, storable_type
from sensorium.catalog.modality import Modality
from sensorium.platform.errors import CorruptData, InvalidName, InvalidSetting, UnknownField, close_matches

__all__ = ["Declaration", "Source"]

#: key of the table property that holds the declaration
PROPERTY = "sensorium.dataset"


@dataclass(frozen=True, order=True)
class Source:
    """A data set, at a version, that another was made from."""

    dataset: str
    version: int

    def __str__(self) -> str:
        return f"{self.dataset}@{self.version}"


@dataclass(frozen=True)
class Declaration:
    """A data set's declaration.

    Attributes:
        name: of the data set.
        modality_name: of its modality.
        fields: every field that has a column, by name.
        description, licence: for people.
        attributes: values that hold for all samples (wavelengths, names of variables), JSON types only.
        sources: the data sets that this one was declared to be made from.
    """

    name: str
    modality_name: str
    fields: Mapping[str, Field] = field(default_factory=dict)
    description: str = ""
    licence: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()

    @classmethod
    def new(
        cls,
        name: str,
        modality: str,
        fields: Sequence[Field] | Mapping[str, pa.DataType | str] | None = None,
        *,
        description: str = "",
        licence: str = "",
        attributes: Mapping[str, Any] | None = None,
        sources: Sequence[Source] = (),
    ) -> Declaration:
        """The declaration of a data set that is to be made: the fields that its modality requires, and ``fields``.

        Raises:
            UnknownPlugin: no such modality.
            InvalidName, InvalidSetting: a field that cannot be.
        """
        return cls(
            name=name,
            modality_name=modalities.get(modality).name,
            fields=_declared_fields(modality, fields, attributes or {}),
            description=description,
            licence=licence,
            attributes=dict(attributes or {}),
            sources=tuple(sources),
        )

    @cached_property
    def modality(self) -> Modality:
        return modalities.get(self.modality_name)

    @cached_property
    def arrays(self) -> dict[str, ArrayField]:
        return {name: field for name, field in self.fields.items() if isinstance(field, ArrayField)}

    @cached_property
    def scalars(self) -> dict[str, ScalarField]:
        return {name: field for name, field in self.fields.items() if isinstance(field, ScalarField)}

    def known(self, name: str) -> Field | None:
        """The declaration of ``name``: the data set's own, or the modality's for an optional field not yet used."""
        if name in self.fields:
            return self.fields[name]
        return next((field for field in self.modality.fields if field.name == name), None)

    def require(self, name: str) -> Field:
        """The declaration of a field that has a column.

        Raises:
            UnknownField: with close matches.
        """
        if name not in self.fields:
            raise UnknownField(
                f"data set {self.name!r} has no field {name!r}. {close_matches(name, ['id', *self.fields])}".rstrip()
            )
        return self.fields[name]

    def schema(self) -> pa.Schema:
        """The Arrow schema of the sample table."""
        return pa.schema([pa.field("id", pa.string(), nullable=False), *(f.column() for f in self.fields.values())])

    def properties(self) -> dict[str, str]:
        """The table properties that hold what the schema does not."""
        content = {
            "modality": self.modality_name,
            "description": self.description,
            "licence": self.licence,
            "attributes": dict(self.attributes),
            "sources": [[source.dataset, source.version] for source in self.sources],
        }
        return {PROPERTY: json.dumps(content, sort_keys=True)}

    @classmethod
    def read(cls, name: str, schema: pa.Schema, properties: Mapping[str, str | None]) -> Declaration:
        """What :meth:`schema` and :meth:`properties` wrote.

        Raises:
            CorruptData: the table was not made by this catalog.
        """
        text = properties.get(PROPERTY)
        if text is None:
            raise CorruptData(
                f"data set {name!r}: its table has no property {PROPERTY!r}, so this catalog did not make it. "
                "Move the table elsewhere, or ingest it."
            )
        content = json.loads(text)
        fields = [from_column(column) for column in schema if column.name != "id"]
        return cls(
            name=name,
            modality_name=content["modality"],
            fields={field.name: field for field in fields},
            description=content["description"],
            licence=content["licence"],
            attributes=content["attributes"],
            sources=tuple(Source(dataset, version) for dataset, version in content["sources"]),
        )


def _arrow_type(name: str, kind: pa.DataType | str) -> pa.DataType:
    if isinstance(kind, pa.DataType):
        return kind
    try:
        return pa.type_for_alias(kind)
    except ValueError as error:
        raise InvalidSetting(
            f"field {name!r}: {kind!r} is no Arrow type. Use one such as 'string', 'int64' or 'double'."
        ) from error


def _declared_fields(
    modality: str, extra: Sequence[Field] | Mapping[str, pa.DataType | str] | None, attributes: Mapping[str, Any]
) -> dict[str, Field]:
    """The columns that a new data set begins with: what its modality requires, and what was asked for."""
    standard = modalities.get(modality)
    begun: dict[str, Field] = {own.name: own for own in standard.fields if own.required and own.name not in attributes}
    declared: Iterable[Field]
    if isinstance(extra, Mapping):
        declared = [ScalarField(name, _arrow_type(name, kind)) for name, kind in extra.items()]
    else:
        declared = extra or ()
    for one in declared:
        if one.name == "id":
            raise InvalidName("every data set has the field 'id' by itself: leave it out of fields.")
        known = next((own for own in standard.fields if own.name == one.name), None)
        if known is not None and isinstance(known, ArrayField) != isinstance(one, ArrayField):
            kind = "an array" if isinstance(known, ArrayField) else "a scalar"
            raise InvalidSetting(
                f"field {one.name!r} is {kind} in modality {modality}: declare it so, or use another name."
            )
        if isinstance(one, ScalarField) and storable_type(one.type) is None:
            raise InvalidSetting(
                f"field {one.name!r}: type {one.type} cannot be stored. Use a number, text, list or time."
            )
        begun[one.name] = one
    return begun
