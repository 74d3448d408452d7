"""``sensorium catalog``: the lake from the command line."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sensorium.platform.cli import state
from sensorium.platform.errors import InvalidSetting, UserError, close_matches
from sensorium.platform.tables import human_bytes, print_rows, print_table

if TYPE_CHECKING:
    from sensorium.catalog.ingest import IngestReport
    from sensorium.catalog.lake import Catalog
    from sensorium.catalog.selection import Selection

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Data sets: ingest, query, version, preview, verify."
)

_NAME = typer.Argument(help="A data set: NAME, NAME@VERSION or NAME@TAG.", metavar="NAME")
_WHERE = typer.Option(
    None, "--where", "-w", metavar="SQL", help="Only samples for which this holds, such as \"label = 'cat'\"."
)


def open_catalog(context: typer.Context) -> Catalog:
    """The lake that the global options name."""
    from sensorium.catalog.lake import Catalog

    settings = state(context).settings
    return Catalog(settings.lake, options=settings.storage_options)


def selected(catalog: Catalog, name: str, where: str | None, **chosen: Any) -> Selection:
    """A selection of the data set ``name`` (NAME@VERSION)."""
    return catalog.dataset(name).select(where, **chosen)


@app.command("list")
def list_(context: typer.Context) -> None:
    """The data sets of the lake."""
    catalog = open_catalog(context)
    frame = catalog.datasets()
    empty = f"{catalog.storage.url} has no data sets yet. Begin with: sensorium catalog ingest PATH --dataset NAME"
    print_table(frame, as_json=state(context).json, empty=empty)


@app.command()
def show(
    context: typer.Context,
    name: str = _NAME,
    where: str = _WHERE,
    limit: int = typer.Option(5, "--limit", "-n", min=0, help="Samples to show."),
) -> None:
    """One data set: declaration, fields, and its first samples."""
    catalog = open_catalog(context)
    dataset = catalog.dataset(name)
    declaration, selection = dataset.declaration, dataset.select(where)
    fields = [
        {
            "field": field.name,
            "kind": "array" if field.name in declaration.arrays else "scalar",
            "type": ("[" + getattr(field, "dims", "") + "] " + "/".join(getattr(field, "dtypes", ()))).strip()
            if field.name in declaration.arrays
            else str(getattr(field, "type", "")),
            "unit": field.unit,
            "required": "yes" if field.required else "",
            "description": field.description,
        }
        for field in declaration.fields.values()
    ]
    about = {
        "name": dataset.name,
        "version": selection.version,
        "modality": declaration.modality_name,
        "samples": len(selection),
        "description": declaration.description,
        "licence": declaration.licence,
        "attributes": dict(declaration.attributes),
        "tags": dataset.tags(),
    }
    if state(context).json:
        first = selection.frame().head(limit).to_dicts()
        typer.echo(json.dumps({**about, "fields": fields, "first": first}, default=str, ensure_ascii=False))
        return
    print_rows(["", ""], [[key, _short(value)] for key, value in about.items() if value not in ("", {}, None)])
    typer.echo()
    print_rows(list(fields[0]) if fields else ["field"], [[str(value) for value in field.values()] for field in fields])
    if limit and len(selection):
        typer.echo()
        print_table(dataset.select(where, limit=limit).rows, as_json=False)


@app.command()
def query(
    context: typer.Context,
    sql: str = typer.Argument(help='SELECT …; a version goes in double quotes: "NAME@3".', metavar="SQL"),
    limit: int = typer.Option(100, "--limit", "-n", min=1, help="Rows shown to people at most."),
) -> None:
    """Run SQL over the sample tables; every data set is a table of its name."""
    print_table(open_catalog(context).sql(sql), as_json=state(context).json, empty="No rows.", limit=limit)


@app.command()
def ingest(
    context: typer.Context,
    path: Path = typer.Argument(help="A file or a folder.", metavar="PATH"),
    dataset: str = typer.Option(
        ..., "--dataset", "-d", metavar="NAME", help="Data set to add to; made if it is not there."
    ),
    format: str = typer.Option("auto", "--format", "-f", help="One of `catalog formats`; auto finds it by content."),  # noqa: A002
    options: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="An option of the importer; may be repeated."
    ),
    description: str = typer.Option("", help="Of a new data set."),
    licence: str = typer.Option("", help="Of a new data set."),
    strict: bool = typer.Option(False, "--strict", help="Stop at the first file that cannot be read."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Find and count, write nothing."),
    batch: int = typer.Option(256, min=1, help="Samples a commit."),
    workers: int = typer.Option(0, min=0, help="Processes that read; 0 for one a core."),
    on_ray: bool = typer.Option(
        False,
        "--ray",
        help="Read in tasks of Ray, on all machines of the cluster; they must see the files and the lake.",
    ),
    seconds: float = typer.Option(120.0, min=0.1, help="Time that one sample may take to read."),
    dedupe: bool = typer.Option(False, "--dedupe", help="Do not write arrays again that the data set has already."),
) -> None:
    """Import files. What is there already is skipped; a bad file is reported and the others go in."""
    from sensorium.platform.session import ray_session

    with ray_session(state(context).settings) if on_ray else nullcontext():
        report = open_catalog(context).ingest(
            path, dataset, format, options=_pairs(options), description=description, licence=licence, strict=strict,
            dry_run=dry_run, batch=batch, workers=workers, on_ray=on_ray, seconds=seconds, dedupe=dedupe,
        )  # fmt: skip
    _tell(report, as_json=state(context).json)
    if report.failed:
        raise typer.Exit(2)


@app.command()
def formats(
    context: typer.Context,
    name: str = typer.Argument("", metavar="[FORMAT]", help="Say what options this one has."),
) -> None:
    """The formats that can be imported, a line each; or the options of one."""
    import polars as pl

    from sensorium.catalog.importer import GROUP, Importer
    from sensorium.catalog.ingest import named_importer
    from sensorium.platform import plugins

    if name:
        options = named_importer(name).options
        frame = pl.DataFrame({"option": list(options), "meaning": list(options.values())})
        print_table(frame, as_json=state(context).json, empty=f"{name} has no options.")
        return
    found = plugins.load_all(GROUP, Importer).values()
    rows = [(one.name, "any" if one.modality_of is not None else one.modality, one.title) for one in found]
    print_table(pl.DataFrame(rows, schema=["format", "modality", "files"], orient="row"), as_json=state(context).json)


@app.command()
def export(
    context: typer.Context,
    name: str = _NAME,
    output: Path = typer.Option(..., "--output", "-o", metavar="FOLDER", help="A new or empty folder."),
    where: str = _WHERE,
    form: str = typer.Option(
        "native", "--format", "-f", help="native (PNG, WAV, NIfTI …), npz, webdataset, parquet, huggingface or zarr."
    ),
) -> None:
    """Write samples as files, with their scalars in samples.parquet."""
    from sensorium.catalog.export import export as write

    count = write(selected(open_catalog(context), name, where), output, format=form)
    typer.echo(f"{count} samples written to {output}")


@app.command()
def history(context: typer.Context, name: str = _NAME) -> None:
    """The versions of a data set, newest first."""
    print_table(open_catalog(context).dataset(name).history(), as_json=state(context).json)


@app.command()
def diff(
    context: typer.Context,
    name: str = typer.Argument(metavar="NAME", help="A data set."),
    a: str = typer.Argument(help="Version or tag.", metavar="A"),
    b: str = typer.Argument(help="Version or tag.", metavar="B"),
) -> None:
    """What changed from version A to version B."""
    frame = open_catalog(context)[name].diff(a, b)
    print_table(frame, as_json=state(context).json, empty=f"{name}: {a} and {b} hold the same samples.", limit=100)


@app.command()
def tag(
    context: typer.Context,
    name: str = _NAME,
    tag: str = typer.Argument(metavar="TAG", help="The name to give."),
    move: bool = typer.Option(False, "--move", help="Move a tag that names another version."),
) -> None:
    """Name a version (the newest, or NAME@VERSION); vacuum keeps it."""
    version = open_catalog(context).dataset(name).tag(tag, move=move)
    typer.echo(f"{name.partition('@')[0]}@{tag} is version {version}")


@app.command()
def lineage(context: typer.Context, name: str = typer.Argument(help="A data set or a run.", metavar="NAME")) -> None:
    """What a data set or run came from, and what was made of it."""
    frame = open_catalog(context).lineage(name.partition("@")[0])
    print_table(frame, as_json=state(context).json, empty=f"{name}: made from no other data set, and nothing from it.")


@app.command()
def runs(context: typer.Context) -> None:
    """The jobs that ran on this lake, newest first."""
    frame = open_catalog(context).runs()
    if not state(context).json:
        frame = frame.select("run", "kind", "name", "state", "started", "seconds", "message")
    print_table(frame, as_json=state(context).json, empty="No runs yet.")


@app.command()
def verify(
    context: typer.Context,
    name: str = _NAME,
    quick: bool = typer.Option(False, "--quick", help="Look only whether all payload is there; read none."),
) -> None:
    """Check all payload against the table; exit code 1 if anything is wrong."""
    dataset = open_catalog(context).dataset(name)
    problems = dataset.verify(checksums=not quick)
    print_table(problems, as_json=state(context).json, empty=f"{name}: {len(dataset)} samples, all well.", limit=100)
    if not problems.is_empty():
        raise typer.Exit(1)


@app.command()
def rules(
    context: typer.Context,
    name: str = _NAME,
    add: str = typer.Option(
        "",
        "--add",
        metavar="CHECK",
        help='A condition in SQL, or, with --kind, a field, "FIELD -> DATASET", "FIELD @ VERSION < LIMIT".',
    ),
    named: str = typer.Option("", "--as", metavar="NAME", help="Name of the rule that is added."),
    kind: str = typer.Option("holds", "--kind", help="holds, unique, refers or balance."),
    action: str = typer.Option("reject", "--action", help="What becomes of rows: reject, quarantine or warn."),
    remove: str = typer.Option("", "--remove", metavar="NAME", help="A rule to take away."),
) -> None:
    """Rules that samples must keep to when they are added; without options, what they are."""
    import polars as pl

    from sensorium.catalog.rules import Rule

    dataset = open_catalog(context).dataset(name)
    known = list(dataset.rules)
    if remove and remove not in [rule.name for rule in known]:
        raise InvalidSetting(
            f"{name} has no rule {remove!r}. {close_matches(remove, [rule.name for rule in known])}".rstrip()
        )
    if add or remove:
        known = [rule for rule in known if rule.name != remove]
        if add:
            known.append(Rule(named, add, kind, action))  # type: ignore[arg-type] # it checks itself
        dataset.set_rules(known)
    frame = pl.DataFrame(
        [vars(rule) for rule in known], schema=dict.fromkeys(("name", "check", "kind", "action"), pl.String)
    )
    print_table(frame, as_json=state(context).json, empty=f"{name} has no rules.")


@app.command()
def check(context: typer.Context, name: str = _NAME) -> None:
    """Samples that break a rule of the data set as it is; exit code 1 if there are any."""
    dataset = open_catalog(context).dataset(name)
    frame = dataset.check()
    empty = f"{name}: {len(dataset)} samples keep to {len(dataset.rules)} rules."
    print_table(frame, as_json=state(context).json, empty=empty, limit=100)
    if not frame.is_empty():
        raise typer.Exit(1)


@app.command()
def quarantine(
    context: typer.Context,
    name: str = _NAME,
    release: list[str] = typer.Option(
        [], "--release", metavar="ID", help="Add this sample after all; may be repeated."
    ),
    discard: list[str] = typer.Option(
        [], "--discard", metavar="ID", help="Take this sample out for good; may be repeated."
    ),
    everything: bool = typer.Option(False, "--release-all", help="Add all that keep to the rules now."),
    force: bool = typer.Option(False, "--force", help="Release also what still breaks a rule."),
) -> None:
    """Samples that a rule has put aside; release or discard them."""
    dataset = open_catalog(context).dataset(name)
    if release or everything:
        dataset.release(None if everything else release, force=force)
    if discard:
        dataset.discard(discard)
    frame = dataset.quarantine()
    if not state(context).json and not frame.is_empty():
        frame = frame.select("id", "quarantine_rule", "quarantine_reason")
    print_table(frame, as_json=state(context).json, empty=f"{name}: nothing is in quarantine.", limit=100)


@app.command()
def repair(
    context: typer.Context,
    name: str = typer.Argument(metavar="NAME", help="A data set."),
    apply: bool = typer.Option(False, "--apply", help="Mend; without it only say what would be done."),
) -> None:
    """Mend what verify finds: use an intact copy where there is one, else leave the array or the sample out."""
    report = open_catalog(context)[name].repair(dry_run=not apply)
    print_table(report.repairs, as_json=state(context).json, empty=f"{name}: nothing is damaged.", limit=100)
    if state(context).json or report.repairs.is_empty():
        return
    typer.echo(
        "Run again with --apply to do it." if report.dry_run else f"{name} is mended at version {report.version}"
    )


@app.command()
def compact(
    context: typer.Context,
    name: str = typer.Argument(metavar="NAME", help="A data set."),
    cluster: str = typer.Option(
        "", "--cluster", metavar="A,B", help="Sort all rows by these fields, so that filters on them open few files."
    ),
) -> None:
    """Merge small files and fragments; samples and older versions stay what they are."""
    version = open_catalog(context)[name].compact(cluster=cluster.split(",") if cluster else None)
    typer.echo(f"{name} is compact at version {version}")


@app.command()
def vacuum(
    context: typer.Context,
    name: str = typer.Argument(metavar="NAME", help="A data set."),
    retention_days: float = typer.Option(30.0, min=0, help="Keep versions that were replaced within so many days."),
    grace_hours: float = typer.Option(
        24.0, min=0, help="Keep payload younger than this, and versions replaced within it."
    ),
    apply: bool = typer.Option(False, "--apply", help="Remove; without it only say what would be removed."),
) -> None:
    """Remove payload and table files that no kept version needs. Tagged versions are kept."""
    report = open_catalog(context)[name].vacuum(
        timedelta(days=retention_days), grace=timedelta(hours=grace_hours), dry_run=not apply
    )
    if state(context).json:
        typer.echo(json.dumps(vars(report)))
        return
    verb = "would remove" if report.dry_run else "removed"
    found = report.fragments or report.files or report.versions
    expired = f"; unreadable: versions {_ranges(report.versions)}" if report.versions else ""
    typer.echo(
        f"{name}: {verb} {len(report.fragments)} fragments and {len(report.files)} table files, "
        f"{human_bytes(report.nbytes)}{expired}"
        + (". Run again with --apply to do it." if report.dry_run and found else "")
    )


@app.command()
def preview(
    context: typer.Context,
    name: str = _NAME,
    output: Path = typer.Option(
        ...,
        "--output",
        "-o",
        metavar="FILE",
        help="A picture, such as sheet.png; with --id also a page, such as scan.html.",
    ),
    where: str = _WHERE,
    count: int = typer.Option(12, "--count", "-n", min=1, max=400, help="Samples on the sheet."),
    identifier: str = typer.Option("", "--id", metavar="ID", help="Draw this sample, large; as HTML, to step through."),
) -> None:
    """Draw a contact sheet, or one sample: slices and windows, waveform and spectrogram, composite and spectra …"""
    from sensorium.catalog import preview as pictures

    selection = selected(open_catalog(context), name, where)
    if not identifier:
        path = pictures.contact_sheet(selection, output, count=count)
    elif output.suffix.lower() in (".html", ".htm"):
        path = pictures.stepper(selection, identifier, output)
    else:
        path = pictures.sample_sheet(selection, identifier, output)
    typer.echo(f"saved {path}")


@app.command()
def report(
    context: typer.Context,
    name: str = _NAME,
    output: Path = typer.Option(..., "--output", "-o", metavar="FILE", help="Where to save it, such as report.html."),
    where: str = _WHERE,
) -> None:
    """Write a page on a data set: counts, distributions, what is missing, what comes twice, value ranges, classes."""
    typer.echo(f"saved {open_catalog(context).dataset(name).report(output, where)}")


@app.command()
def drop(
    context: typer.Context,
    name: str = typer.Argument(metavar="NAME", help="A data set."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
) -> None:
    """Remove a data set with all its versions, for good."""
    catalog = open_catalog(context)
    count = len(catalog[name])
    question = f"Remove {name} with {count} samples and all its versions from {catalog.storage.url}?"
    try:
        agreed = yes or typer.confirm(question)
    except typer.Abort as error:  # nobody is there to be asked
        raise UserError(f"{name} with {count} samples was not removed. Answer the question, or add --yes.") from error
    if not agreed:
        raise UserError("nothing was removed.")
    catalog.drop(name)
    typer.echo(f"removed {name}")


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise InvalidSetting(f"--set takes KEY=VALUE; got {text!r}.")
        pairs[key] = value
    return pairs


def _tell(report: IngestReport, *, as_json: bool) -> None:
    if as_json:
        failed = [{"file": file, "reason": reason} for file, reason in report.failed]
        typer.echo(json.dumps({**vars(report), "failed": failed}, ensure_ascii=False))
        return
    if report.dry_run:
        new = report.planned - report.skipped
        typer.echo(f"{report.planned} samples as {report.format}, {new} of them new; nothing was written (dry run)")
        return
    typer.echo(
        f"{report.dataset}@{report.version}: {report.added} samples added as {report.format}, "
        f"{report.skipped} were there already, {len(report.failed)} failed"
    )
    for _, reason in report.failed:
        typer.echo(f"  {reason}", err=True)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _ranges(versions: list[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0–2, 5``."""
    parts: list[list[int]] = []
    for version in versions:
        if parts and version == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], version]
        else:
            parts.append([version])
    return ", ".join("–".join(str(end) for end in part) for part in parts)
