"""The project as it is installed here, as a wheel that workers with nothing but its dependencies can import.

Ray puts ``py_modules`` on the path of a job's driver and workers; a package whose folders are mapped elsewhere
(``catalog/`` is ``sensorium.catalog``) arrives whole only as a wheel, with the entry points by which commands and systems are
found. It is packed from what is installed, editable or not, without a build: no tools, and equal files give equal bytes, which
the cluster then keeps but once.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from sensorium.platform.errors import UserError

__all__ = ["write_wheel"]

_PROJECT = "sensorium"
#: the floors of the house, from below
_FLOORS = ("platform", "catalog", "actors", "jobs", "serve")
_FILES = ("*.py", "py.typed")
#: zip's earliest time: a wheel must not differ by when it was packed
_TIME = (1980, 1, 1, 0, 0, 0)
_TAG = "py3-none-any"


def write_wheel(folder: Path) -> Path:
    """Write the installed project into ``folder`` as a wheel.

    What the project always needs is left out of its metadata: Ray installs a wheel by ``pip install --target``, which would
    fetch all of it again; the nodes of the cluster have it. The extras stay, as ``sensorium doctor`` reads them.

    Raises:
        UserError: the project is not installed, only on the path.
    """
    try:
        installed = distribution(_PROJECT)
    except PackageNotFoundError as error:
        raise UserError(
            f"{_PROJECT} is not installed, so that it cannot be packed. Install it: pip install -e ."
        ) from error
    contents = {name: path.read_bytes() for name, path in _modules()}
    described = f"{_PROJECT}-{installed.version}.dist-info"
    contents[f"{described}/METADATA"] = _metadata(installed).encode()
    contents[f"{described}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    contents[f"{described}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {_TAG}\n".encode()
    contents[f"{described}/RECORD"] = _record(contents, f"{described}/RECORD").encode()
    path = folder / f"{_PROJECT}-{installed.version}-{_TAG}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)
    return path


def _modules() -> Iterator[tuple[str, Path]]:
    """Every module of the project: its path in the wheel, and where it is now."""
    for floor in _FLOORS:
        spec = find_spec(f"{_PROJECT}.{floor}")
        for place in (spec.submodule_search_locations or ()) if spec else ():
            root = Path(place)
            found = sorted(path for pattern in _FILES for path in root.rglob(pattern))
            yield from ((f"{_PROJECT}/{floor}/{path.relative_to(root).as_posix()}", path) for path in found)


def _metadata(installed: Distribution) -> str:
    """The project's metadata, without what it needs in any case.

    An editable installation may be seen through its ``egg-info``, where the file has another name.
    """
    text = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    head, _, body = text.partition("\n\n")
    unfolded = re.sub(r"\n[ \t]+", " ", head)  # a long licence may go on in the next lines
    lines = [line for line in unfolded.splitlines() if not line.startswith("Requires-Dist:") or "extra ==" in line]
    return "\n".join(lines) + "\n\n" + body


def _record(contents: dict[str, bytes], own: str) -> str:
    """Path, SHA-256 and size of every file, as the format of wheels has it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for name, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        writer.writerow([name, f"sha256={digest}", len(content)])
    writer.writerow([own, "", ""])
    return text.getvalue()
