"""One folder seen the same on disk, in memory and behind an fsspec driver; failures say where and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sensorium.platform.errors import (
    InvalidSetting,
    MissingCredentials,
    MissingDependency,
    SensoriumError,
    StorageError,
)
from sensorium.platform.storage import Storage

NOBODY = 65534


class Bucket(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """A driver of somebody else: not a disk, with its own protocol and options; remembers listings, as those of clouds do."""

    protocol = "bucket"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    #: raised by every read and write, where set
    fault: ClassVar[Exception | None] = None

    def __init__(self, key: str = "", client_kwargs: dict[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.key, self.client_kwargs = key, client_kwargs

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("bucket://")))

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        self.fail()
        content: bytes = super().cat_file(path)
        return content

    def pipe_file(self, path: str, value: bytes, *_: Any, **__: Any) -> None:
        self.fail()
        super().pipe_file(path, value)

    def ls(self, path: str, detail: bool = True, refresh: bool = False, **_: Any) -> list[Any]:
        place = self._strip_protocol(path)
        if refresh or place not in self.dircache:
            self.dircache[place] = super().ls(place, detail=True)
            listed: list[Any] = super().ls(place, detail=True)
        else:
            listed = self.dircache[place]
        return listed if detail else [entry["name"] for entry in listed]

    def exists(self, path: str, **_: Any) -> bool:
        try:
            remembered = self._ls_from_cache(self._strip_protocol(path))
        except FileNotFoundError:
            return False
        return remembered is not None or bool(super().exists(path))

    def fail(self) -> None:
        if Bucket.fault is not None:
            raise Bucket.fault


fsspec.register_implementation("bucket", Bucket, clobber=True)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    return Storage.at("bucket://lake/below")


@pytest.fixture(params=["path", "file", "memory", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty folder of each kind."""
    if request.param == "bucket":
        found: Storage = request.getfixturevalue("bucket")
        return found
    places = {
        "path": str(tmp_path / "lake"),
        "file": (tmp_path / "lake").as_uri(),
        "memory": f"memory://{tmp_path.name}",
    }
    return Storage.at(places[request.param])


def child(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


# -- places -----------------------------------------------------------------------------------------------------------


def test_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage.at("./lake")
    assert (storage.url, storage.root, storage.local) == ("./lake", str(tmp_path / "lake"), True)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Storage.at("~/lake").root == str(tmp_path / "lake")


def test_path_and_file_url_are_one_place(tmp_path: Path) -> None:
    Storage.at(tmp_path / "a lake").write(b"x", "name")
    assert Storage.at(f"file://{tmp_path}/a lake").read("name") == b"x"


def test_folder_below_has_its_own_url(storage: Storage) -> None:
    below = storage.below("datasets", "cats")
    below.write(b"x", "name")
    assert storage.read("datasets", "cats", "name") == b"x"
    assert below.url == storage.url + "/datasets/cats"


@pytest.mark.parametrize("url", ["s4://bucket/lake", "nothing://lake"])
def test_unknown_protocol_says_which_there_are(url: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Storage.at(url)
    assert url.partition("://")[0] + "://" in str(caught.value)
    assert "Use a path, s3://, gs://" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("protocol", "module", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_missing_driver_says_which_extra_brings_it(protocol: str, module: str, extra: str) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None  # an import of it fails now, as if it were not installed
from sensorium.platform.errors import MissingDependency
from sensorium.platform.storage import Storage
try:
    Storage.at("{protocol}://lake/below")
except MissingDependency as error:
    print(error.exit_code, error)
"""
    done = child(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"2 {protocol}:// needs a driver that is not installed")
    assert f"pip install 'sensorium[{extra}]'" in done.stdout


def test_options_may_be_nested(bucket: Storage) -> None:
    options = {"key": "k", "client_kwargs": {"endpoint_url": "http://localhost:9000", "parts": [1, 2]}}
    storage = Storage.at("bucket://lake", options)
    assert storage.fs.client_kwargs == options["client_kwargs"]


def test_handles_with_the_same_options_share_a_connection(bucket: Storage) -> None:
    one, other = (Storage.at("bucket://lake", {"key": key}) for key in ("a", "b"))
    assert Storage.at("bucket://lake/elsewhere", {"key": "a"}).fs is one.fs
    assert one.fs.key == "a"
    assert other.fs.key == "b"


def test_options_of_the_driver_become_those_of_delta() -> None:
    named = {"key": "k", "secret": "s", "endpoint_url": "http://localhost:9000"}
    expected = {
        "aws_access_key_id": "k",
        "aws_secret_access_key": "s",
        "aws_endpoint_url": "http://localhost:9000",
        "aws_allow_http": "true",
    }
    assert Storage("other://lake", "other://lake", named).delta_options() == expected
    region = {"client_kwargs": {"region_name": "eu-north-1"}}
    found = Storage("s3://lake", "s3://lake", {**named, **region}).delta_options()
    assert found == {**expected, "aws_region": "eu-north-1"}
    nobody = Storage("s3://lake", "s3://lake", {"endpoint_url": "http://localhost:9000", "anon": True, **region})
    assert nobody.delta_options() == {
        "aws_endpoint_url": "http://localhost:9000",
        "aws_allow_http": "true",
        "aws_region": "eu-north-1",
        "aws_skip_signature": "true",
    }


def test_delta_needs_no_options_on_disk(tmp_path: Path) -> None:
    assert Storage.at(tmp_path).delta_options() is None


# -- files and folders ------------------------------------------------------------------------------------------------


def test_what_was_written_is_read(storage: Storage) -> None:
    assert not storage.exists("a", "b", "file")
    storage.write(b"first", "a", "b", "file")
    assert storage.exists("a", "b", "file")
    assert storage.exists("a")
    assert storage.read("a", "b", "file") == b"first"
    storage.write(b"second and longer", "a", "b", "file")
    assert storage.read("a", "b", "file") == b"second and longer"
    storage.write(b"", "a", "b", "file")
    assert storage.read("a", "b", "file") == b""


def test_read_of_what_is_not_there(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("nothing")


def test_folders_are_named_and_sorted_without_files(storage: Storage) -> None:
    assert storage.folders() == []
    for place in (("datasets", "b", "x"), ("datasets", "a", "x"), ("datasets", "a.c", "x", "y"), ("datasets", "file")):
        storage.write(b"x", *place)
    assert storage.folders("datasets") == ["a", "a.c", "b"]
    assert storage.folders() == ["datasets"]
    assert storage.folders("datasets", "none of that name") == []


def test_what_another_machine_writes_is_seen(bucket: Storage) -> None:
    here, there = (Storage.at("bucket://lake/below", {"key": key}) for key in ("here", "there"))
    there.write(b"x", "a", "file")
    assert here.folders() == ["a"]
    there.write(b"xyz", "b", "file")
    assert here.exists("b")
    assert here.folders() == ["a", "b"]
    assert here.size("b") == 3
    there.write(b"12", "b", "another")
    assert here.size("b") == 5


def test_remove_takes_files_and_whole_folders(storage: Storage) -> None:
    for place in (("a", "one"), ("a", "b", "two"), ("kept",)):
        storage.write(b"x", *place)
    storage.remove("a", "one")
    assert not storage.exists("a", "one")
    storage.remove("a")
    assert not storage.exists("a", "b", "two")
    assert not storage.exists("a")
    storage.remove("a")
    assert storage.read("kept") == b"x"


def test_size_is_that_of_all_files_below(storage: Storage) -> None:
    storage.write(b"12345", "a", "one")
    storage.write(b"123", "a", "b", "two")
    assert storage.size("a") == 8
    assert storage.size("a", "one") == 5
    assert storage.size("nothing") == 0


@pytest.mark.parametrize("kind", ["path", "memory"])
def test_modified_is_the_time_of_the_newest_file(kind: str, tmp_path: Path) -> None:
    storage = Storage.at(tmp_path if kind == "path" else f"memory://{tmp_path.name}")
    storage.write(b"x", "a", "old")
    storage.write(b"x", "a", "b", "new")
    os.utime(storage.at_path("a", "old"), (1000.0, 1000.0))
    os.utime(storage.at_path("a", "b", "new"), (2000.5, 2000.5))
    assert storage.modified("a") == 2000.5
    assert storage.modified("a", "old") == 1000.0
    assert storage.modified("nothing") == 0.0


def test_file_of_unknown_age_is_never_old(bucket: Storage) -> None:
    """The driver of these tests tells no time: what it holds must not look old enough to be removed."""
    bucket.write(b"x", "a")
    assert bucket.modified("a") > time.time()


# -- pickling ---------------------------------------------------------------------------------------------------------


def test_pickled_storage_is_the_same(storage: Storage) -> None:
    storage.write(b"x", "file")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy == storage
    assert hash(copy) == hash(storage)
    assert copy.read("file") == b"x"


@pytest.mark.parametrize("kind", ["path", "memory"])
def test_another_process_reads_and_writes_through_a_pickled_storage(kind: str, tmp_path: Path) -> None:
    storage = Storage.at(tmp_path if kind == "path" else f"memory://{tmp_path.name}")
    storage.write(b"from here", "file")
    code = """
import pickle, sys
storage = pickle.loads(bytes.fromhex(sys.argv[1]))
storage.write(storage.read("file") + b" and there", "answer")
"""
    done = child(code, pickle.dumps(storage).hex())
    assert done.returncode == 0, done.stderr
    assert storage.read("answer") == b"from here and there"


# -- memory -----------------------------------------------------------------------------------------------------------


def test_two_handles_of_one_name_in_memory_see_the_same(tmp_path: Path) -> None:
    name = tmp_path.name
    Storage.at(f"memory://{name}").write(b"x", "file")
    assert Storage.at(f"memory://{name}/").read("file") == b"x"
    assert not Storage.at(f"memory://{name}-other").exists("file")


def test_memory_is_gone_when_its_process_ends() -> None:
    code = """
from sensorium.platform.storage import Storage
storage = Storage.at("memory://short")
storage.write(b"x", "a", "file")
print(storage.root)
"""
    done = child(code)
    assert done.returncode == 0, done.stderr
    root = Path(done.stdout.strip())
    assert root.is_absolute()
    assert not root.exists()


def test_memory_outlives_a_forked_child() -> None:
    code = """
import os, sys
from sensorium.platform.storage import Storage
storage = Storage.at("memory://forked")
storage.write(b"x", "file")
child = os.fork()
if child == 0:
    sys.exit(0)  # runs what is registered for the end of a process
_, status = os.waitpid(child, 0)
print(status, storage.read("file"))
"""
    done = child(code)
    assert done.stdout == "0 b'x'\n", done.stderr


# -- failures ---------------------------------------------------------------------------------------------------------


def failure(storage: Storage, fault: Exception, monkeypatch: pytest.MonkeyPatch) -> SensoriumError:
    """What becomes of a fault of the driver."""
    monkeypatch.setattr(Bucket, "fault", fault)
    with pytest.raises(SensoriumError) as caught:
        storage.write(b"x", "a", "file")
    assert str(caught.value).startswith("bucket://lake/below/a/file: ")
    assert caught.value.__cause__ is fault
    return caught.value


def test_refused_access_is_told_with_the_remedy(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    error = failure(bucket, PermissionError(errno.EACCES, "Forbidden"), monkeypatch)
    assert isinstance(error, MissingCredentials)
    assert "Check the permissions" in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize("name", ["NoCredentialsError", "ClientError", "DefaultCredentialsError", "HttpError"])
def test_missing_credentials_of_any_provider_are_told_with_the_remedy(
    bucket: Storage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    provider: type[Exception] = type(name, (Exception,), {})
    error = failure(bucket, provider("none were found"), monkeypatch)
    assert isinstance(error, MissingCredentials)
    assert "none were found" in str(error)
    assert "environment variables" in str(error)


def test_full_disk_is_told(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    error = failure(bucket, OSError(errno.ENOSPC, "No space left on device"), monkeypatch)
    assert isinstance(error, StorageError)
    assert "the disk is full. Free space" in str(error)
    assert error.exit_code == 1


@pytest.mark.parametrize("fault", [ConnectionResetError("by peer"), TimeoutError("after 60 s"), OSError("lost")])
def test_lost_connection_is_told(bucket: Storage, monkeypatch: pytest.MonkeyPatch, fault: OSError) -> None:
    error = failure(bucket, fault, monkeypatch)
    assert isinstance(error, StorageError)
    assert not isinstance(error, MissingCredentials)
    assert str(fault) in str(error)
    assert "try again" in str(error)


def test_endpoint_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = {"key": "k", "secret": "s", "endpoint_url": "http://127.0.0.1:1"}
    with pytest.raises(StorageError, match=r"s3://lake/below/file.*127\.0\.0\.1:1"):
        Storage.at("s3://lake/below", options).exists("file")


def test_driver_that_lacks_a_package_is_told(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "fault", ImportError("install bucketlib"))
    with pytest.raises(MissingDependency, match=r"bucket:// needs a driver .*install bucketlib"):
        bucket.write(b"x", "file")


def test_our_own_errors_and_faults_pass_through(bucket: Storage) -> None:
    with pytest.raises(ZeroDivisionError), bucket.translated("a"):
        _ = 1 / 0


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder with one file in which this process may not write."""
    folder = Path(tempfile.mkdtemp(prefix="sensorium-test-"))
    (folder / "file").write_bytes(b"x")
    folder.chmod(0o555)
    privileged = os.geteuid() == 0
    if privileged:  # to whom permissions do not apply
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if privileged:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_read_only_folder_can_be_read_and_refuses_writes(read_only: Path) -> None:
    storage = Storage.at(read_only)
    assert storage.read("file") == b"x"
    with pytest.raises(MissingCredentials) as caught:
        storage.write(b"y", "file")
    assert str(caught.value).startswith(f"{read_only}/file: the storage refuses access")
    with pytest.raises(MissingCredentials):
        storage.write(b"y", "new", "file")
    with pytest.raises(MissingCredentials):
        storage.remove("file")
    assert storage.read("file") == b"x"


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system of its own at ``folder``, where the system lets us make one."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        refused = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if refused.returncode:
        pytest.skip(f"no file system can be mounted here: {refused.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_really_full_disk_keeps_the_old_file_whole(tmp_path: Path) -> None:
    with mounted(tmp_path, "size=64k"):
        storage = Storage.at(tmp_path)
        storage.write(b"old", "a", "file")
        with pytest.raises(StorageError, match="the disk is full"):
            storage.write(bytes(1 << 20), "a", "file")
        assert storage.read("a", "file") == b"old"
        assert os.listdir(tmp_path / "a") == ["file"]
        storage.write(b"new", "a", "file")
        assert storage.read("a", "file") == b"new"


def test_file_system_mounted_read_only_is_told(tmp_path: Path) -> None:
    with mounted(tmp_path, "ro,size=64k"), pytest.raises(MissingCredentials, match="Check the permissions"):
        Storage.at(tmp_path).write(b"x", "file")


def test_lake_that_is_a_file_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "lake").write_bytes(b"x")
    with pytest.raises(SensoriumError) as caught:
        Storage.at(tmp_path / "lake").write(b"x", "a", "file")
    assert str(tmp_path / "lake") in str(caught.value)
    assert caught.value.exit_code == 2


# -- a write that is cut off ------------------------------------------------------------------------------------------

WRITER = """
import itertools, sys
from sensorium.platform.storage import Storage
storage, size = Storage.at(sys.argv[1]), int(sys.argv[2])
for turn in itertools.count(1):
    storage.write(bytes([turn % 256]) * size, f"file{turn % 3}")
    print(turn, flush=True)
"""


def test_write_that_is_killed_never_shows_a_part_of_a_file(tmp_path: Path) -> None:
    size = 16 << 20
    storage = Storage.at(tmp_path / "lake")
    for turns in (1, 2, 4, 6):
        command = [sys.executable, "-c", WRITER, storage.root, str(size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            told = [writer.stdout.readline() for _ in range(turns)]
            writer.send_signal(signal.SIGKILL)  # in the middle of the next file, most likely
        assert told[-1] == f"{turns}\n"
        whole = [f"file{index}" for index in range(3) if storage.exists(f"file{index}")]
        assert len(whole) >= min(turns, 3)
        for name in whole:
            content = storage.read(name)
            assert len(content) == size
            assert content.count(content[:1]) == size


def test_reader_never_sees_a_part_of_a_file_being_written(tmp_path: Path) -> None:
    size = 4 << 20
    storage = Storage.at(tmp_path / "lake")
    seen: set[bytes] = set()
    command = [sys.executable, "-c", WRITER, storage.root, str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"
        while len(seen) < 8:
            content = storage.read("file1")
            assert len(content) == size
            assert content.count(content[:1]) == size
            seen.add(content[:1])
        writer.send_signal(signal.SIGKILL)
