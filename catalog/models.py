"""Fitted models: weights as a safetensors file, everything else as a row of a Delta table.

A model has a name and versions 1, 2, 3 …; a version never changes but for its stages (``production`` and the like), of
which each names one version of a model at a time. Files are written first, under a name that nobody else uses; the
row's commit makes the version visible.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import xxhash

from sensorium.catalog.dataset import Dataset
from sensorium.catalog.declaration import Declaration, Source
from sensorium.catalog.fields import Field, ScalarField, check_name
from sensorium.catalog.table import CommitNote, Table
from sensorium.platform.errors import (
    CorruptData,
    DuplicateSample,
    InvalidSample,
    StorageError,
    UnknownModel,
    UnknownVersion,
    close_matches,
)
from sensorium.platform.storage import Storage

__all__ = ["PREFIX", "Model", "ModelDraft", "Models"]

#: how a model is named among data sets, as in a lineage
PREFIX = "models/"

_FOLDER = "models"
_FILES = "files"
_WEIGHTS = "weights.safetensors"
_TRIES = 100
_HEADER_BYTES = 8
_SOURCES = pa.list_(pa.struct([("dataset", pa.string()), ("version", pa.int64())]))
_COLUMNS: dict[str, pa.DataType] = {
    "name": pa.string(),
    "version": pa.int64(),
    "system": pa.string(),
    "stages": pa.list_(pa.string()),
    "created": pa.timestamp("us", "UTC"),
    "run": pa.string(),
    "description": pa.string(),
    "parameters": pa.int64(),
    "nbytes": pa.int64(),
    "checksum": pa.string(),
    "folder": pa.string(),
    "files": pa.list_(pa.string()),
    "configuration": pa.string(),
    "preprocessing": pa.string(),
    "metrics": pa.string(),
    "environment": pa.string(),
    "sources": _SOURCES,
}
_JSON = ("configuration", "preprocessing", "metrics", "environment")
_LISTING = ("name", "version", "stages", "system", "created", "run", "parameters", "nbytes", "metrics", "description")


@dataclass(frozen=True)
class ModelDraft:
    """A model that is to be saved.

    Attributes:
        name: letters, digits and ``_``.
        system: that fitted it.
        weights: content of a safetensors file.
        configuration: everything that was set, JSON types only; with the weights it makes the model anew.
        preprocessing: what was fitted besides the weights (means, scales, names of classes), JSON types only.
        metrics: on data that it was not fitted on, JSON types only.
        environment: versions of code, packages and machine.
        sources: data sets, and models, that it was made from.
        run: id of the run that made it.
        description: for people.
        parameters: number of fitted numbers.
        files: further files by name, such as figures and the split of the data.
    """

    name: str
    system: str
    weights: bytes
    configuration: Mapping[str, Any]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    run: str = ""
    description: str = ""
    parameters: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """One version of a model; the weights are read when they are asked for.

    It can be pickled and sent to a worker, which reads the weights itself.
    """

    storage: Storage
    name: str
    version: int
    system: str
    stages: tuple[str, ...]
    created: datetime
    run: str
    description: str
    parameters: int
    nbytes: int
    checksum: str
    folder: str
    files: tuple[str, ...]
    configuration: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    metrics: Mapping[str, Any]
    environment: Mapping[str, str]
    sources: tuple[Source, ...]

    @property
    def reference(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.version}"

    @property
    def source(self) -> Source:
        """The model as the source of what is made with it."""
        return Source(PREFIX + self.name, self.version)

    def weights(self) -> bytes:
        """The content of the safetensors file.

        Raises:
            CorruptData: it is gone, or is not what was saved.
        """
        content = self.read(_WEIGHTS)
        if xxhash.xxh3_128_hexdigest(content) != self.checksum:
            raise CorruptData(
                f"model {self.reference}: its weights in {self.storage.url} are not those that were saved. "
                "Restore the file from a copy, or fit the model again."
            )
        return content

    def read(self, name: str) -> bytes:
        """The content of one of the model's files.

        Raises:
            CorruptData: it is gone.
        """
        try:
            return self.storage.read(_FILES, self.folder, name)
        except FileNotFoundError as error:
            raise CorruptData(
                f"model {self.reference}: its file {name!r} is not in {self.storage.url}. "
                "It was removed behind the catalog's back: restore it from a copy, or fit the model again."
            ) from error


class Models:
    """The models of a lake."""

    def __init__(self, lake: Storage) -> None:
        self._lake = lake.url
        self._storage = lake.below(_FOLDER)
        self._table = Table(self._storage.below("samples"), _FOLDER)

    def listing(self) -> pl.DataFrame:
        """Every version of every model, newest first: name, version, stages, system, created, run, parameters, bytes …"""
        return self._rows().select(_LISTING).rename({"nbytes": "bytes"}).sort("created", descending=True)

    def all(self) -> list[Model]:
        """Every version of every model."""
        return [_model(self._storage, row) for row in self._rows().iter_rows(named=True)]

    def names(self) -> list[str]:
        """Sorted names."""
        return sorted(set(self._rows()["name"].to_list()))

    def get(self, reference: str) -> Model:
        """A version of a model: ``NAME@3``, ``NAME@STAGE``, or ``NAME`` for its newest.

        Raises:
            UnknownModel, UnknownVersion: with close matches.
        """
        name, _, wanted = reference.removeprefix(PREFIX).partition("@")
        rows = self._rows()
        versions = rows.filter(pl.col("name") == name).sort("version")
        if versions.is_empty():
            known = sorted(set(rows["name"].to_list()))
            hint = close_matches(name, known) or (
                "There are none yet: fit one with sensorium fit." if not known else ""
            )
            raise UnknownModel(f"{self._lake} has no model {name!r}. {hint}".rstrip())
        if not wanted:
            chosen = versions.tail(1)
        elif wanted.isdecimal():
            chosen = versions.filter(pl.col("version") == int(wanted))
        else:
            chosen = versions.filter(pl.col("stages").list.contains(wanted))
        if chosen.is_empty():
            stages = sorted({stage for held in versions["stages"].to_list() for stage in held or ()})
            there = f"{versions['version'][0]} to {versions['version'][-1]}"
            raise UnknownVersion(
                f"model {name!r} has no version or stage {wanted!r}; it has {there}"
                f"{', and the stages ' + ', '.join(stages) if stages else ''}. See: sensorium models list."
            )
        return _model(self._storage, chosen.row(0, named=True))

    def save(self, draft: ModelDraft) -> Model:
        """Save a model as the next version of its name.

        Raises:
            InvalidName, InvalidSample: the draft cannot be saved, and why; nothing is visible then.
        """
        check_name(draft.name, "model")
        _check_safetensors(draft)
        folder = uuid.uuid4().hex
        for name, content in {**draft.files, _WEIGHTS: draft.weights}.items():
            self._storage.write(content, _FILES, folder, name, durable=True)
        self._create()
        dataset = Dataset(self._storage, _FOLDER)
        row: dict[str, Any] = {
            "name": draft.name,
            "system": draft.system,
            "stages": [],
            "created": datetime.now(UTC),
            "run": draft.run,
            "description": draft.description,
            "parameters": draft.parameters,
            "nbytes": len(draft.weights),
            "checksum": xxhash.xxh3_128_hexdigest(draft.weights),
            "folder": folder,
            "files": [_WEIGHTS, *draft.files],
            "sources": [vars(source) for source in draft.sources],
            **{name: json.dumps(getattr(draft, name)) for name in _JSON},  # in their own order
        }
        for _ in range(_TRIES):
            version = 1 + max(self._rows().filter(pl.col("name") == draft.name)["version"].to_list(), default=0)
            try:
                dataset.append([{**row, "id": f"{draft.name}@{version}", "version": version}], run=draft.run)
            except DuplicateSample:  # another process has just taken that number
                continue
            return self.get(f"{draft.name}@{version}")
        raise StorageError(f"model {draft.name!r}: no version number was free in {_TRIES} tries. Try again.")

    def promote(self, reference: str, stage: str) -> Model:
        """Let ``stage`` name this version, and no other of the same model."""
        check_name(stage, "stage")
        model = self.get(reference)
        others = self._rows().filter(
            (pl.col("name") == model.name)
            & (pl.col("version") != model.version)
            & pl.col("stages").list.contains(stage)
        )
        changes = [
            {"id": identifier, "stages": [held for held in stages if held != stage]}
            for identifier, stages in others.select("id", "stages").iter_rows()
        ]
        changes.append({"id": model.reference, "stages": sorted({*model.stages, stage})})
        Dataset(self._storage, _FOLDER).update(changes, message=f"{model.reference} is {stage}")
        return self.get(model.reference)

    def _create(self) -> None:
        if self._table.exists():
            return
        fields: dict[str, Field] = {name: ScalarField(name, kind) for name, kind in _COLUMNS.items()}
        declaration = Declaration(_FOLDER, "table", fields, description="fitted models of this lake")
        self._table.create(declaration, CommitNote("create"))

    def _rows(self) -> pl.DataFrame:
        if not self._table.exists():
            schema = pa.schema([("id", pa.string()), *_COLUMNS.items()])
            return pl.DataFrame(schema=pl.from_arrow(schema.empty_table()).schema)  # type: ignore[union-attr]
        return pl.scan_delta(self._table.open()).collect()


def _model(storage: Storage, row: Mapping[str, Any]) -> Model:
    content = {name: row[name] for name in _COLUMNS}
    for name in _JSON:
        content[name] = json.loads(content[name])
    content["stages"] = tuple(content["stages"] or ())
    content["files"] = tuple(content["files"] or ())
    content["sources"] = tuple(Source(source["dataset"], source["version"]) for source in content["sources"] or ())
    return Model(storage=storage, **content)


def _check_safetensors(draft: ModelDraft) -> None:
    """Refuse anything else, a pickle above all, by its header."""
    content = draft.weights
    length = int.from_bytes(content[:_HEADER_BYTES], "little") if len(content) >= _HEADER_BYTES else 0
    try:
        header = json.loads(content[_HEADER_BYTES : _HEADER_BYTES + length]) if 0 < length <= len(content) else None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise InvalidSample(
            f"model {draft.name!r}: its weights are no safetensors file. Write them with safetensors; "
            "pickles and TorchScript archives are not taken."
        )
