"""What a prediction is made of: samples of the lake, and files and values of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.jobs.training.method import check_data
from sensorium.platform.errors import InvalidSample, UserError
from sensorium.serve.pages import markup
from sensorium.serve.pages.markup import Html
from sensorium.serve.uploads import npy
from sensorium.serve.uploads.readers import WHOLE

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.lake import Catalog
    from sensorium.serve.gateway import Gateway, ServedModel
    from sensorium.serve.pages.listing import Listing

__all__ = [
    "FIRST",
    "UPLOAD",
    "Given",
    "Needed",
    "needed",
    "parsed",
    "random_id",
    "sample_ids",
    "stored",
    "suiting",
    "uploaded",
]

#: ids that a list of samples offers; any other can be typed
FIRST = 50
#: id of what was sent
UPLOAD = "upload"


@dataclass(frozen=True)
class Given:
    """A sample to be predicted.

    Attributes:
        sample: its fields, arrays as NumPy.
        origin: where it is from, HTML.
        truth: what the lake says of it; None where it says nothing.
    """

    sample: dict[str, Any]
    origin: Html
    truth: Any = None


@dataclass(frozen=True)
class Needed:
    """What a model has to be given.

    Attributes:
        arrays: fields that are arrays.
        scalars: fields that are not.
        further: scalars of the modality that the model does not look at; the modality's rules may want them.
        foreign: names of ``arrays`` that the modality does not know, only the data set that the model was fitted on.
        values: that this data set gives once for all, by name.
    """

    arrays: tuple[ArrayField, ...]
    scalars: tuple[ScalarField, ...]
    further: tuple[ScalarField, ...] = ()
    foreign: frozenset[str] = frozenset()
    values: Mapping[str, Any] = field(default_factory=dict)


def needed(catalog: Catalog, served: ServedModel) -> Needed:
    """The fields that a model needs, as its modality declares them, or else the data that it was fitted on."""
    modality = modalities.get(served.modality)
    known = {one.name: one for one in modality.fields}
    learnt = _declarations(catalog, served)
    values = {name: value for one in reversed(learnt) for name, value in one.attributes.items()}
    fields: list[Field] = []
    for name in served.fields:
        if name != "id":
            seen = [one.known(name) for one in learnt]
            fields.append(known.get(name) or next((one for one in seen if one is not None), ArrayField(name)))
    arrays = tuple(one for one in fields if isinstance(one, ArrayField))
    scalars = tuple(one for one in fields if isinstance(one, ScalarField))
    further = tuple(one for one in modality.scalars.values() if one not in scalars and _plain(one.type))
    foreign = frozenset(one.name for one in arrays if one.name not in modality.arrays)
    return Needed(arrays, scalars, further, foreign, values)


def _declarations(catalog: Catalog, served: ServedModel) -> list[Declaration]:
    """Of the data sets that a model was fitted on, those that are still there."""
    found = []
    for source in served.sources:
        try:
            found.append(catalog.dataset(source.dataset, source.version).declaration)
        except UserError:
            continue  # gone, or a model
    return found


def _plain(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind))


# -- from the lake -----------------------------------------------------------------------------------------------------


def suiting(listing: Listing, served: ServedModel) -> list[tuple[str, str]]:
    """Data sets that have what a model needs, as (label, name); first those that it was fitted on, which are marked."""
    learnt = {source.dataset for source in served.sources}
    frame = listing.datasets()
    names = [name for name, kind in frame.select("name", "modality").iter_rows() if kind == served.modality]
    found = [name for name in names if _suits(listing, name, served)]
    counts = dict(frame.select("name", "samples").iter_rows())
    ordered = sorted((name for name in found if counts[name]), key=lambda name: (name not in learnt, name))
    return [(f"{name} (the model was fitted on it)" if name in learnt else name, name) for name in ordered]


def _suits(listing: Listing, name: str, served: ServedModel) -> bool:
    try:
        check_data(served.method, listing.catalog.dataset(name), served.config, labelled=False)
    except UserError:
        return False
    return True


def sample_ids(listing: Listing, name: str) -> list[str]:
    """Ids of the first samples of a data set."""
    view = listing.view(name)
    found: list[str] = listing.kept(
        ("first ids", view.name, view.version),
        lambda: listing.dataset(view).select().lazy().select("id").head(FIRST).collect()["id"].to_list(),
    )
    return found


def random_id(listing: Listing, name: str) -> str:
    """Id of any sample of a data set."""
    selection = listing.dataset(listing.view(name)).select()
    place = int(np.random.default_rng().integers(len(selection)))
    return str(selection.lazy().select("id").slice(place, 1).collect()["id"][0])


def stored(listing: Listing, served: ServedModel, name: str, identifier: str) -> Given:
    """A sample of the lake with the fields that a model needs; arrays are read.

    Raises:
        UnknownDataset, UnknownSample: there is no such data set or sample.
    """
    view = listing.view(name)
    sample = listing.sample(view, identifier)
    fields = {one: sample[one] for one in served.read if one in sample}
    link = markup.link(identifier, "sample", name=view.name, version=view.version, id=identifier)
    dataset = markup.link(f"{view.name}@{view.version}", "dataset", name=view.name, version=view.version)
    told = served.target and served.target not in listing.dataset(view).declaration.arrays  # a map is no line of text
    truth = sample.get(served.target) if told else None
    return Given({**fields, "id": identifier}, Html(f"{link} of {dataset}"), truth)


# -- one's own ---------------------------------------------------------------------------------------------------------


async def uploaded(
    gateway: Gateway, served: ServedModel, wanted: Needed, files: Mapping[str, bytes], scalars: Mapping[str, Any]
) -> Given:
    """A sample from files and values of one's own.

    Args:
        gateway: that reads them.
        served: the model that it is for.
        wanted: what this needs.
        files: by field; ``file`` for one that holds a whole sample, or the model's only array.
        scalars: by field.

    Raises:
        RejectedUpload: what is wrong with which, in words.
        InvalidSample: no file was given.
    """
    if not files:
        raise InvalidSample("no file is chosen yet. Choose one above, then predict.")
    named = dict(files)
    if named.get(WHOLE, b"").startswith(npy.MAGIC) and wanted.arrays:
        named.setdefault(wanted.arrays[0].name, named.pop(WHOLE))  # a bare array does not say which field it is
    # the modality knows nothing of these fields, and so no file of them; but a picture is an array in any case
    pictures = {name: named.pop(name) for name in wanted.foreign & set(named) if not _array_file(named[name])}
    sample: dict[str, Any] = {}
    for name, content in pictures.items():
        sample[name] = (await gateway.read({"image": content}, "image", {}))["image"]
    if named or scalars:
        sample |= await gateway.read(named, served.modality, scalars)
    return Given({**sample, "id": UPLOAD}, Html("your own file"))


def _array_file(content: bytes) -> bool:
    return content.startswith((npy.MAGIC, b"[", b"{"))


def parsed(one: ScalarField, text: str) -> Any:
    """What was typed for a field: text as it is, lists by commas, numbers and anything else as JSON.

    Raises:
        InvalidSample: it is no such value.
    """
    if pa.types.is_string(one.type):
        return text
    listed = pa.types.is_list(one.type)
    try:
        if not listed or text.lstrip().startswith("["):
            return json.loads(text)
        parts = [part.strip() for part in text.split(",")]
        return parts if pa.types.is_string(one.type.value_type) else [float(part) for part in parts]
    except ValueError as error:
        form = "values parted by commas" if listed else "a number"
        raise InvalidSample(f"field {one.name!r}: {text[:40]!r} cannot be read. Type {form}.") from error
