"""The lake: one URL, and the data sets in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from sensorium.catalog import formats, lineage, tags
from sensorium.catalog.comparison import pick_version
from sensorium.catalog.dataset import Dataset
from sensorium.catalog.declaration import Declaration, Source
from sensorium.catalog.fields import Field, check_name
from sensorium.catalog.lineage import Edge, Record, Run
from sensorium.catalog.models import PREFIX, Model, ModelDraft, Models
from sensorium.catalog.selection import first_line
from sensorium.catalog.table import CommitNote, Table
from sensorium.platform.errors import (
    ExistingDataset,
    InvalidName,
    InvalidQuery,
    InvalidSetting,
    UnknownDataset,
    UnknownRun,
    close_matches,
)
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from sensorium.catalog.ingest import IngestReport

__all__ = ["Catalog"]

_DATASETS = "datasets"
_LISTING: dict[str, pl.DataType | type[pl.DataType]] = {
    "name": pl.String,
    "modality": pl.String,
    "samples": pl.Int64,
    "bytes": pl.Int64,
    "version": pl.Int64,
    "updated": pl.Datetime("ms", "UTC"),
    "description": pl.String,
    "licence": pl.String,
}


class Catalog:
    """The data sets of a lake.

    Attributes:
        storage: the lake's folder.
    """

    def __init__(self, url: str | Path = "./lake", *, options: Mapping[str, Any] | None = None) -> None:
        """Open the lake at ``url``; one that holds nothing yet is empty.

        Args:
            url: a path, ``s3://…``, ``gs://…``, ``memory://…`` or another fsspec URL.
            options: of the fsspec driver; credentials are better left to the environment.
        """
        self.storage = Storage.at(url, options)

    # -- data sets ----------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Sorted names of the data sets.

        Raises:
            NewerFormat: a newer version of this program made the lake.
        """
        _ = self._format
        return [name for name in self.storage.folders(_DATASETS) if self._table(name).exists()]

    def datasets(self) -> pl.DataFrame:
        """The data sets: name, modality, samples, bytes (of payload, uncompressed), version, updated, description, licence."""
        return pl.DataFrame([self._listing(name) for name in self.names()], schema=_LISTING)

    def __getitem__(self, name: str) -> Dataset:
        """The data set ``name`` at its newest version.

        Raises:
            UnknownDataset: with close matches.
        """
        self._require(name)
        return Dataset(self.folder(name), name)

    def dataset(self, name: str, version: int | str | datetime | None = None) -> Dataset:
        """The data set ``name`` at a version: a number, a tag, or the newest at a moment (UTC unless it says otherwise).

        ``name`` may be ``NAME@VERSION`` instead.

        Raises:
            UnknownDataset, UnknownVersion: with close matches.
        """
        name, wanted = split_reference(name, version)
        self._require(name)
        if wanted is None:
            return Dataset(self.folder(name), name)
        table = self._table(name)
        if isinstance(wanted, datetime):
            number = pick_version(table.history(), wanted, name)
        else:
            number = tags.resolve(self.folder(name), name, wanted)
        table.open(number)
        return Dataset(self.folder(name), name, number)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _is_name(name) and self._table(name).exists()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def create(
        self,
        name: str,
        *,
        modality: str,
        fields: Sequence[Field] | Mapping[str, pa.DataType | str] | None = None,
        description: str = "",
        licence: str = "",
        attributes: Mapping[str, Any] | None = None,
        sources: Sequence[Source] = (),
        exist_ok: bool = False,
    ) -> Dataset:
        """Create an empty data set.

        Args:
            name: letters, digits and ``_``.
            modality: of its samples.
            fields: beyond the modality's own: declarations, or Arrow types (``"int64"``) of scalars by name.
            description: for people.
            licence: for people.
            attributes: values that hold for all samples (JSON types), such as wavelengths or the names of variables.
            sources: data sets that it is made from.
            exist_ok: return the one that is there, if it has the same modality.

        Raises:
            ExistingDataset: it is there already.
            UnknownPlugin: no such modality.
        """
        check_name(name, "data set")
        declaration = Declaration.new(
            name,
            modality,
            fields,
            description=description,
            licence=licence,
            attributes=attributes or {},
            sources=sources,
        )
        note = CommitNote("create", sources=tuple(sources))
        if self._format < formats.FORMAT or not self.storage.exists(formats.FILE):
            formats.mark_lake(self.storage)
        if not self._table(name).create(declaration, note):
            there = self[name].declaration.modality_name
            if not exist_ok or there != modality:
                raise ExistingDataset(
                    f"{self.storage.url} has a data set {name!r} already (modality {there}). "
                    f"Open it with catalog[{name!r}], choose another name, or drop it first."
                )
        return self[name]

    def drop(self, name: str) -> None:
        """Remove a data set with all its versions and payload, for good.

        Raises:
            UnknownDataset: there is none.
        """
        self._require(name)
        folder = self.folder(name)
        folder.remove("samples", "_delta_log")  # what makes it a data set goes first
        folder.remove()

    # -- files --------------------------------------------------------------------------------------------------------

    def ingest(self, path: str | Path, dataset: str, format: str = "auto", **settings: Any) -> IngestReport:  # noqa: A002
        """Import files into a data set, creating it if need be; see :func:`.ingest.ingest`."""
        from sensorium.catalog.ingest import ingest

        return ingest(self, Path(path), dataset, format, **settings)

    # -- queries ------------------------------------------------------------------------------------------------------

    def sql(self, query: str) -> pl.DataFrame:
        """Run an SQL SELECT over the sample tables, which go by the names of their data sets.

        A version is read as ``"name@version"``, in double quotes.

        Raises:
            InvalidQuery: it cannot be run, and why.
        """
        if not re.match(r"(?is)(\s|--[^\n]*\n|/\*.*?\*/|\()*(SELECT|WITH)\b", query):
            raise InvalidQuery(
                f"the query cannot be run: it is no SELECT; got {query!r:.80}. Data is changed from Python only."
            )
        context = pl.SQLContext()
        for name in self.names():
            if re.search(rf"(?<![\w@.-]){re.escape(name)}(?![\w@-])", query):
                context.register(name, self[name].scan())
        for reference in re.findall(r'"([^"@]+@[^"@]+)"', query):
            context.register(reference, self.dataset(reference).scan())
        try:
            return context.execute(query, eager=True)
        except pl.exceptions.PolarsError as error:
            missing = re.search(r"relation '?\"?([\w@.-]+)'?\"? was not found", str(error))
            known = (
                close_matches(missing[1], self.names())
                if missing
                else "See the fields with: sensorium catalog show NAME."
            )
            raise InvalidQuery(f"the query cannot be run: {first_line(error)}. {known}".rstrip()) from error

    # -- models -------------------------------------------------------------------------------------------------------

    def models(self) -> pl.DataFrame:
        """Every version of every model, newest first: name, version, stages, system, created, run, parameters, bytes …"""
        return Models(self.storage).listing()

    def model(self, reference: str) -> Model:
        """A fitted model: ``NAME`` for its newest version, ``NAME@3``, or ``NAME@STAGE``.

        Raises:
            UnknownModel, UnknownVersion: with close matches.
        """
        return Models(self.storage).get(reference)

    def save_model(self, draft: ModelDraft) -> Model:
        """Save a fitted model as the next version of its name."""
        return Models(self.storage).save(draft)

    def promote(self, reference: str, stage: str) -> Model:
        """Let ``stage``, such as ``production``, name this version of the model, and no other."""
        return Models(self.storage).promote(reference, stage)

    # -- lineage ------------------------------------------------------------------------------------------------------

    def lineage(self, name: str) -> pl.DataFrame:
        """What a data set, a model or the outcome of a run came from (upstream) and what was made of it (downstream).

        A model goes by ``models/NAME``, or by its name where no data set has it.

        Returns:
            One row per derivation: direction, depth, dataset, version, made_from, from_version, operation, run.

        Raises:
            UnknownRun: neither a data set, a model nor a run.
        """
        edges = self._edges()
        if name in self:
            return lineage.walk(edges, [name])
        models = Models(self.storage).names()
        if name.removeprefix(PREFIX).partition("@")[0] in models:
            return lineage.walk(edges, [PREFIX + name.removeprefix(PREFIX).partition("@")[0]])
        runs = self.runs().filter(pl.col("run") == name)
        if runs.is_empty():
            known = [*self.names(), *(PREFIX + model for model in models), *self.runs()["run"].to_list()]
            raise UnknownRun(
                f"{self.storage.url} has neither a data set, a model nor a run {name!r}. {close_matches(name, known)}"
            )
        touched = {part["dataset"] for column in ("inputs", "outputs") for part in runs[column][0]}
        return lineage.walk([edge for edge in edges if edge.run == name], sorted(touched))

    def runs(self) -> pl.DataFrame:
        """The runs of jobs on this lake, newest first."""
        return lineage.read_runs(self.storage)

    def record(self, run: Run, records: Sequence[Record] = ()) -> None:
        """Note the present state of a run, and new values of its curves."""
        lineage.record_run(self.storage, run, records)

    @contextmanager
    def running(self, run: Run) -> Iterator[None]:
        """Note that a run has begun, and how it ended if the block raises; a good end is the block's to record.

        A run that its user interrupts is ``stopped``, any other ``failed``.
        """
        self.record(run)
        try:
            yield
        except KeyboardInterrupt:
            self.record(run.ended("stopped", message="interrupted by its user"))
            raise
        except BaseException as error:
            self.record(run.ended("failed", message=f"{type(error).__name__}: {error}"))
            raise

    def records(self, run: str) -> pl.DataFrame:
        """The curves of a run: step, time, name, value."""
        return lineage.read_records(self.storage, run)

    def _edges(self) -> list[Edge]:
        edges = []
        for name in self.names():
            for commit in self._table(name).history():
                note = CommitNote.read(commit)
                version = int(commit["version"])
                edges += [Edge(name, version, source, note.operation, note.run) for source in note.sources]
        for model in Models(self.storage).all():
            edges += [Edge(PREFIX + model.name, model.version, source, "fit", model.run) for source in model.sources]
        return edges

    # -- inside -------------------------------------------------------------------------------------------------------

    def folder(self, name: str) -> Storage:
        """Where a data set of that name is, or would be."""
        return self.storage.below(_DATASETS, name)

    def _table(self, name: str) -> Table:
        return Table(self.folder(name).below("samples"), name)

    @cached_property
    def _format(self) -> int:
        return formats.check_lake(self.storage)

    def _require(self, name: str) -> None:
        _ = self._format
        if name not in self:
            names = self.names()
            hint = close_matches(name, names) or ("The lake is empty: ingest something first." if not names else "")
            raise UnknownDataset(f"{self.storage.url} has no data set {name!r}. {hint}".rstrip())

    def _listing(self, name: str) -> dict[str, Any]:
        table = self._table(name)
        newest = table.open()
        declaration = table.declaration(newest)
        sizes = [pl.col(field).struct.field("nbytes").sum().alias(f"bytes of {field}") for field in declaration.arrays]
        held = table.scan(newest).select(sizes).collect() if sizes else None
        last = newest.history(1)[0]
        return {
            "name": name,
            "modality": declaration.modality_name,
            "samples": sum(file.rows for file in table.files(newest)),
            "bytes": sum(held.row(0)) if held is not None else 0,
            "version": int(newest.version()),
            "updated": datetime.fromtimestamp(last["timestamp"] / 1000, UTC),
            "description": declaration.description,
            "licence": declaration.licence,
        }

    def __repr__(self) -> str:
        return f"Catalog({self.storage.url!r}, {len(self.names())} data sets)"


def split_reference(name: str, version: int | str | datetime | None = None) -> tuple[str, int | str | datetime | None]:
    """``NAME@VERSION`` as its two parts; ``version``, where given, wins over none in the name."""
    bare, mark, suffix = name.partition("@")
    if not mark:
        return name, version
    if version is not None:
        raise InvalidSetting(f"{name!r} names a version, and version={version!r} another. Give one of them.")
    if not suffix:
        raise InvalidName(f"{name!r} ends in @: write NAME@VERSION, a number or a tag, or NAME alone.")
    return bare, int(suffix) if suffix.isdecimal() else suffix


def _is_name(name: str) -> bool:
    try:
        check_name(name, "data set")
    except InvalidName:
        return False
    return True
