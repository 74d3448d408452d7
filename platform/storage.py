"""Where bytes lie: one URL, seen through fsspec and Delta alike.

A :class:`Storage` is a folder on any fsspec file system. It can be pickled and sent to a worker; it opens its connections
again there. ``memory://name`` is a folder of this machine's memory (or of its temporary files, where there is no memory
file system) that lives as long as the process that named it first: Delta's own in-memory store cannot be seen by a second
handle, let alone by Ray's workers.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sensorium.platform.errors import (
    InvalidSetting,
    MissingCredentials,
    MissingDependency,
    SensoriumError,
    StorageError,
)
from sensorium.platform.object_stores import FLAT, connection, missing_bucket, refused, unreachable

__all__ = ["Entry", "Storage", "plain"]

#: protocol -> the extra that brings its fsspec driver
_EXTRA = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
#: options of fsspec's s3 driver -> those of Delta's object store
_DELTA_OPTION = {
    "key": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
    "endpoint_url": "aws_endpoint_url",
    "anon": "aws_skip_signature",
}
_LONGEST_REASON = 400


@dataclass(frozen=True)
class Entry:
    """A file or folder in a listing.

    Attributes:
        name: without the folders above.
        folder: whether it is one.
        size: bytes of a file.
        modified: seconds since 1970; infinite where the store does not say, as for folders of an object store. That of a
            folder is when something was last put directly into it.
    """

    name: str
    folder: bool
    size: int
    modified: float


@dataclass(frozen=True)
class Storage:
    """A folder somewhere.

    Attributes:
        url: as the user gave it, for messages.
        root: the folder, absolute: a local path, or a URL.
        options: of the fsspec driver; credentials are better left to the environment's usual chains.
    """

    url: str
    root: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def at(cls, url: str | Path, options: Mapping[str, Any] | None = None) -> Storage:
        """The folder at ``url``: a path, ``file://``, ``memory://`` or what fsspec has a driver for.

        Raises:
            MissingDependency: the driver is not installed.
            InvalidSetting: no such protocol.
        """
        text = str(url)
        scheme = urlsplit(text).scheme if "://" in text else "file"
        if scheme == "memory":
            return cls(text, _memory_folder(text.partition("://")[2].strip("/") or "lake"))
        if scheme == "file":
            path = text.partition("://")[2] if "://" in text else text
            return cls(text, os.path.abspath(os.path.expanduser(path)))
        storage = cls(text, text.rstrip("/"), dict(options or {}))
        try:
            _ = storage.fs
        except TypeError as error:
            raise InvalidSetting(f"{text}: the driver does not take these options ({plain(error)}).") from error
        return storage

    @property
    def local(self) -> bool:
        """Whether this is a folder of this machine's file system."""
        return "://" not in self.root

    @property
    def fs(self) -> Any:
        """The fsspec file system."""
        return _filesystem(self._protocol, json.dumps(dict(self.options), sort_keys=True))

    @property
    def _protocol(self) -> str:
        return "file" if self.local else self.root.partition("://")[0]

    def at_path(self, *parts: str) -> str:
        """Path of ``parts`` below this folder, as :attr:`fs` and Delta want it."""
        return "/".join((self.root, *parts))

    def below(self, *parts: str) -> Storage:
        """The folder of ``parts`` below this one."""
        return Storage("/".join((self.url.rstrip("/"), *parts)), self.at_path(*parts), self.options)

    def above(self) -> Storage:
        """The folder that this one is in."""
        return Storage(self.url.rstrip("/").rpartition("/")[0], self.root.rpartition("/")[0], self.options)

    def delta_options(self) -> dict[str, str] | None:
        """Options for Delta's own object store."""
        if self.local:
            return None
        if self._protocol in ("s3", "s3a"):
            with self.translated():
                return connection(self.fs)
        known = {_DELTA_OPTION[key]: str(value) for key, value in self.options.items() if key in _DELTA_OPTION}
        region = self.options.get("client_kwargs", {}).get("region_name")
        if region:
            known["aws_region"] = str(region)
        if known.get("aws_endpoint_url", "").startswith("http://"):
            known["aws_allow_http"] = "true"
        return known

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder of that path."""
        with self.translated(*parts):
            return bool(self.fs.exists(self.at_path(*parts)))

    def folders(self, *parts: str) -> list[str]:
        """Sorted names of the folders directly in ``parts``; none where that is not there."""
        with self.translated(*parts):
            try:
                entries = self.fs.ls(self.at_path(*parts), detail=True, refresh=True)
            except FileNotFoundError as error:
                if missing_bucket(error):
                    raise
                return []
            return sorted(e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory")

    def files(self, *parts: str) -> list[str]:
        """Sorted names of the files directly in ``parts``; none where that is not there."""
        with self.translated(*parts):
            try:
                entries = self.fs.ls(self.at_path(*parts), detail=True, refresh=True)
            except FileNotFoundError as error:
                if missing_bucket(error):
                    raise
                return []
            return sorted(e["name"].rpartition("/")[2] for e in entries if e["type"] == "file")

    def read(self, *parts: str) -> bytes:
        """The bytes of a file."""
        with self.translated(*parts):
            content: bytes = self.fs.cat_file(self.at_path(*parts))
            return content

    def write(self, content: bytes, *parts: str, durable: bool = False) -> None:
        """Write a whole file; on a local disk it is complete or not there under its name.

        ``durable``: on a local disk, return only when it would be there after a loss of power too. An object store does not
        answer before.
        """
        path = self.at_path(*parts)
        with self.translated(*parts):
            if not self.local:
                self.make_folder(path.rpartition("/")[0])
                self.fs.pipe_file(path, content)
                return
            made = _make_folder(Path(path).parent)
            partial = Path(f"{path}.part{os.getpid()}-{threading.get_ident()}")
            try:
                with partial.open("wb") as file:
                    file.write(content)
                    if durable:
                        file.flush()
                        os.fsync(file.fileno())
                partial.replace(path)
            except OSError:
                with contextlib.suppress(OSError):  # the first error is the one to tell of
                    partial.unlink(missing_ok=True)
                raise
            if durable:
                for folder in (Path(path).parent, *(folder.parent for folder in made)):
                    _sync(folder)

    def make_folder(self, path: str) -> None:
        """Make the folder at ``path``, as of :meth:`at_path`, and those above; object stores have none to be made."""
        if self._protocol not in FLAT:
            self.fs.makedirs(path, exist_ok=True)

    def sync(self, *parts: str) -> None:
        """Return only when a file, or a folder with all that is in it, would be there after a loss of power.

        The folders above are not looked at. Nothing is done on an object store, which does not answer before.
        """
        if not self.local:
            return
        path = Path(self.at_path(*parts))
        with self.translated(*parts):
            if path.is_dir():
                for folder, _, files in os.walk(path, topdown=False, onerror=_raised):
                    for name in files:
                        _sync(Path(folder, name))
                    _sync(Path(folder))
            else:
                _sync(path)

    def sync_names(self, *parts: str, levels: int = 1) -> None:
        """Return only when the folder ``parts``, and ``levels - 1`` folders above it, have their entries on disk."""
        if not self.local:
            return
        path = Path(self.at_path(*parts))
        with self.translated(*parts):
            for folder in (path, *path.parents)[:levels]:
                _sync(folder)

    def remove(self, *parts: str) -> None:
        """Remove a file or a folder with all that is in it; nothing if it is not there."""
        with self.translated(*parts), contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.at_path(*parts), recursive=True)

    def size(self, *parts: str) -> int:
        """Bytes of all files below ``parts``."""
        with self.translated(*parts):
            return int(self.fs.du(self.at_path(*parts)))

    def touch(self, *parts: str) -> bool:
        """Let a file count as written just now; False if it is not there. On an object store nothing is done."""
        if not self.local:
            return True
        with self.translated(*parts):
            try:
                os.utime(self.at_path(*parts))
            except FileNotFoundError:
                return False
            return True

    def now(self, *parts: str) -> float:
        """Seconds since 1970 by the clock that dates what is written to the file ``parts``, which is not there afterwards.

        Ours where the storage cannot be written to, or does not date its files.
        """
        try:
            self.write(b"", *parts)
            found = self.modified(*parts)
            self.remove(*parts)
        except (SensoriumError, OSError):
            return time.time()
        return found if 0.0 < found < float("inf") else time.time()

    def entries(self, *parts: str) -> list[Entry]:
        """What is directly in the folder ``parts``, by name, from one listing; nothing where that is not there."""
        with self.translated(*parts):
            try:
                found = self.fs.ls(self.at_path(*parts), detail=True, refresh=True)
            except FileNotFoundError as error:
                if missing_bucket(error):
                    raise
                return []
        entries = [
            Entry(
                name=one["name"].rstrip("/").rpartition("/")[2],
                folder=one["type"] == "directory",
                size=int(one.get("size") or 0),
                modified=_modified(one),
            )
            for one in found
        ]
        return sorted(entries, key=lambda one: one.name)

    def age(self, *parts: str) -> tuple[int, float]:
        """:meth:`size` and :meth:`modified`, in one look."""
        with self.translated(*parts):
            entries = self.fs.find(self.at_path(*parts), detail=True).values()
            return sum(int(entry["size"] or 0) for entry in entries), max(map(_modified, entries), default=0.0)

    def modified(self, *parts: str) -> float:
        """When the newest file below ``parts`` was written, seconds since 1970; 0 where there is none."""
        with self.translated(*parts):
            times = [_modified(entry) for entry in self.fs.find(self.at_path(*parts), detail=True).values()]
            return max(times, default=0.0)

    @contextlib.contextmanager
    def translated(self, *parts: str) -> Iterator[None]:
        """Turn what drivers raise into our errors, with the place and the remedy."""
        place = "/".join((self.url.rstrip("/"), *parts))
        try:
            yield
        except SensoriumError:
            raise
        except FileNotFoundError as error:
            if missing_bucket(error):
                raise self._no_bucket() from error
            raise
        except PermissionError as error:
            raise MissingCredentials(
                f"{place}: the storage refuses access ({plain(error)}). "
                "Check the permissions, or the credentials in the environment."
            ) from error
        except NotADirectoryError as error:
            raise InvalidSetting(
                f"{place}: a file is where a folder should be ({plain(error)}). Give another place."
            ) from error
        except OSError as error:
            if missing_bucket(error):
                raise self._no_bucket() from error
            if unreachable(error):
                raise _no_answer(place, error) from error
            if refused(error):
                raise _no_access(place, error) from error
            if error.errno == errno.EROFS:
                raise MissingCredentials(
                    f"{place}: the storage can only be read ({plain(error)}). Check the permissions, or give another place."
                ) from error
            if error.errno == errno.ENOSPC:
                raise StorageError(
                    f"{place}: the disk is full. Free space and run the command again; nothing was committed."
                ) from error
            raise StorageError(
                f"{place}: the storage failed ({plain(error)}). Nothing was committed; try again."
            ) from error
        except ImportError as error:
            raise _missing_driver(self.root, error) from error
        except Exception as error:
            if missing_bucket(error):
                raise self._no_bucket() from error
            if unreachable(error):
                raise _no_answer(place, error) from error
            if refused(error):
                raise _no_access(place, error) from error
            raise

    def _no_bucket(self) -> InvalidSetting:
        bucket = self.root.partition("://")[2].partition("/")[0]
        return InvalidSetting(
            f"{self.url}: there is no bucket {bucket!r}. Check the name and the endpoint, or make the bucket first."
        )


def _no_answer(place: str, error: Exception) -> StorageError:
    return StorageError(
        f"{place}: the storage does not answer ({plain(error)}). "
        "Check its address and the network; nothing was committed."
    )


def _no_access(place: str, error: Exception) -> MissingCredentials:
    return MissingCredentials(
        f"{place}: no access ({plain(error)}). "
        "Give credentials by the usual environment variables or files of the provider."
    )


def plain(error: Exception) -> str:
    """What a driver says, in one line without colours, and not endlessly."""
    text = re.sub(r"\x1b\[[0-9;]*m|\s+", " ", str(error)).strip()
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


@functools.cache
def _filesystem(protocol: str, options: str) -> Any:
    import fsspec

    try:
        # what another machine wrote a moment ago must be seen: listings are not kept
        return fsspec.filesystem(protocol, **{"use_listings_cache": False, **json.loads(options)})
    except ImportError as error:
        raise _missing_driver(protocol, error) from error
    except ValueError as error:
        raise InvalidSetting(
            f"no storage is known for {protocol}:// ({error}). Use a path, s3://, gs:// or another fsspec URL."
        ) from error


def _missing_driver(root: str, error: ImportError) -> MissingDependency:
    protocol = root.partition("://")[0]
    extra = _EXTRA.get(protocol)
    remedy = f"pip install 'sensorium[{extra}]'" if extra else "install the fsspec driver that the message names"
    return MissingDependency(f"{protocol}:// needs a driver that is not installed ({error}). Remedy: {remedy}.")


def _modified(entry: Mapping[str, Any]) -> float:
    """Time of an fsspec entry: local files say ``mtime``, object stores ``LastModified`` or ``updated``."""
    if "mtime" in entry:
        return float(entry["mtime"])
    for key in ("LastModified", "updated", "last_modified"):
        moment = entry.get(key)
        if isinstance(moment, datetime):
            return float(moment.timestamp())
    return float("inf")  # unknown age: never old enough to be removed


def _make_folder(folder: Path) -> list[Path]:
    """Make ``folder``; returns those that were not there, the innermost first."""
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
    return missing


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raised(error: OSError) -> None:
    raise error


@functools.cache
def _memory_folder(name: str) -> str:
    """The folder behind ``memory://name``, removed when this process ends."""
    shared = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
    parent = shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix=f"sensorium-{name.replace('/', '-')}-", dir=parent)
    atexit.register(_forget, folder, os.getpid())
    return folder


def _forget(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        shutil.rmtree(folder, ignore_errors=True)
