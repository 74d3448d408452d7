"""Importing files: plan, skip what is there, decode ahead, append, and report what could not be read."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensorium.catalog.importer import GROUP, Importer, Item, Source
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSample, InvalidSetting, MissingDependency, UnreadableFile, UserError
from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.lake import Catalog
    from sensorium.catalog.writing import Writer

__all__ = ["IngestReport", "choose_importer", "ingest"]

logger = logging.getLogger(__name__)

_THREADS = max(2, os.cpu_count() or 2)
#: items decoded ahead of the writer
_AHEAD = 2 * _THREADS
#: an importer that is less sure than this does not claim a source
_SURE_ENOUGH = 0.3


@dataclass
class IngestReport:
    """What an import did.

    Attributes:
        dataset: name of the data set.
        format: name of the importer.
        version: of the data set afterwards; None for a dry run.
        planned: samples found in the source.
        added: samples that are new in the data set.
        skipped: samples that were there already.
        failed: (file, reason) of each sample that could not be read or breaks a rule.
        dry_run: whether nothing was written.
    """

    dataset: str
    format: str
    version: int | None = None
    planned: int = 0
    added: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    dry_run: bool = False


def ingest(
    catalog: Catalog,
    path: Path,
    dataset: str,
    format: str = "auto",  # noqa: A002 - the command line's name for it
    *,
    options: Mapping[str, str] | None = None,
    description: str = "",
    licence: str = "",
    strict: bool = False,
    dry_run: bool = False,
    batch: int = 256,
) -> IngestReport:
    """Import the file or folder ``path`` into the data set ``dataset``, creating it if need be.

    Samples whose id is there already are skipped without being decoded, so that an import can be repeated or resumed. A file
    that cannot be read is reported and the others go in.

    Args:
        catalog: the lake.
        path: a file or a folder.
        dataset: name of the data set.
        format: name of an importer, or ``auto`` to find it by content.
        options: for the importer.
        description: of a data set that is created.
        licence: likewise.
        strict: stop at the first bad file instead; batches committed before stay.
        dry_run: find and count, write nothing.
        batch: samples a commit.

    Raises:
        UnreadableFile: the path is not there, or no importer knows it.
        InvalidSetting: an option that the importer does not have, or a data set of another modality.
    """
    if not path.exists():
        raise UnreadableFile(f"{path}: there is no such file or folder.")
    source = Source(path.absolute(), dict(options or {}))
    importer = choose_importer(source) if format == "auto" else plugins.load(GROUP, format, Importer)
    _check_options(importer, source.options)
    items = _unique(importer, importer.plan(source))
    report = IngestReport(dataset, importer.name, planned=len(items), dry_run=dry_run)
    if not items:
        raise UnreadableFile(
            f"{path}: importer {importer.name!r} finds no samples in it. Look at --format and at the layout."
        )
    present = _present(catalog[dataset], items) if dataset in catalog else set()
    report.skipped = len(present)
    if dry_run:
        return report
    wanted = [item for item in items if item.id not in present]

    def open_writer() -> Writer:
        attributes = importer.attributes(source) if importer.attributes else {}
        target = catalog.create(
            dataset,
            modality=importer.modality,
            fields=importer.fields(source) if importer.fields else None,
            description=description,
            licence=licence,
            attributes=attributes,
            exist_ok=True,
        )
        _check_attributes(target, attributes)
        return target.writer(batch, existing="skip", evolve=True, message=f"import of {path.name} as {importer.name}")

    _write(_decoded(importer, wanted, source.options), open_writer, report, len(wanted), strict=strict)
    if report.version is None:
        if dataset not in catalog:
            raise UnreadableFile(
                f"none of the {len(items)} samples in {path} can be read. The first: {report.failed[0][1]}"
            )
        report.version = catalog[dataset].version
    return report


def _write(
    decoded: Iterator[tuple[Item, Future[dict[str, Any]]]],
    open_writer: Callable[[], Writer],
    report: IngestReport,
    total: int,
    *,
    strict: bool,
) -> None:
    """Append what can be decoded; the data set is made when there is a first sample for it."""
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(progress(f"ingest {report.dataset}", total=total, unit="samples"))
        writer: Writer | None = None
        for item, future in decoded:
            try:
                sample = {"id": item.id, **future.result()}
                if writer is None:
                    writer = stack.enter_context(open_writer())
                writer.add(sample)
            except (UnreadableFile, InvalidSample) as error:
                if strict:
                    raise
                report.failed.append((str(item.paths[0]), str(error)))
                bar.note(f"{len(report.failed)} failed")
                logger.info("%s", error)
            bar.advance()
        if writer is not None:
            report.version = writer.close()
            report.added = writer.added


def choose_importer(source: Source) -> Importer:
    """The importer that is surest that ``source`` is its own.

    Raises:
        UnreadableFile: none is.
    """
    scores: list[tuple[float, Importer]] = []
    lacking: list[str] = []
    for importer in plugins.load_all(GROUP, Importer).values():
        try:
            scores.append((importer.matches(source), importer))
        except MissingDependency as error:
            lacking.append(str(error))
    score, best = max(scores, key=lambda pair: pair[0], default=(0.0, None))
    if best is None or score < _SURE_ENOUGH:
        known = ", ".join(plugins.names(GROUP))
        raise UnreadableFile(
            f"{source.path}: no importer recognises it. Name one with --format ({known})."
            + "".join(f" {text}" for text in lacking)
        )
    return best


def _check_attributes(target: Dataset, attributes: Mapping[str, Any]) -> None:
    """What holds for all samples must hold for new ones: an index into other variable names would be another variable."""
    held = target.attributes
    for name, value in attributes.items():
        if held.get(name) != value:
            raise InvalidSetting(
                f"data set {target.name!r} has {name} = {held.get(name)!r}, and the files have {value!r}. "
                "Import them into another data set, or with the importer's options that make them agree."
            )


def _check_options(importer: Importer, options: Mapping[str, str]) -> None:
    unknown = sorted(set(options) - set(importer.options))
    if unknown:
        known = ", ".join(importer.options) or "none"
        raise InvalidSetting(f"importer {importer.name!r} has no option {unknown[0]!r}; its options: {known}.")


def _unique(importer: Importer, items: Iterator[Item]) -> list[Item]:
    found: dict[str, Item] = {}
    for item in items:
        if item.id in found:
            raise UserError(
                f"importer {importer.name!r}: {item.paths[0]} and {found[item.id].paths[0]} would both be sample {item.id!r}. "
                "Rename one, or import their folders into different data sets."
            )
        found[item.id] = item
    return list(found.values())


def _present(dataset: Dataset, items: Sequence[Item]) -> set[str]:
    ids = set(dataset.select(fields=[]).frame()["id"])
    return ids.intersection(item.id for item in items)


def _decoded(
    importer: Importer, items: Sequence[Item], options: Mapping[str, str]
) -> Iterator[tuple[Item, Future[dict[str, Any]]]]:
    """Items with their samples, decoded by threads ahead of the writer, in order."""
    remaining = iter(items)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sensorium-decode") as pool:
        waiting = [(item, pool.submit(importer.read, item, options)) for item in itertools.islice(remaining, _AHEAD)]
        try:
            while waiting:
                yield waiting.pop(0)
                waiting += [
                    (item, pool.submit(importer.read, item, options)) for item in itertools.islice(remaining, 1)
                ]
        finally:
            for _, future in waiting:
                future.cancel()
