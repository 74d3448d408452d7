"""The doctor finds what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from sensorium.catalog import Catalog
from sensorium.jobs.doctor import machine, packages, parts
from sensorium.jobs.doctor.report import FAILED, MISSING, OK, Finding
from sensorium.platform import plugins
from sensorium.platform.cli import main
from sensorium.platform.errors import MissingDependency
from sensorium.platform.settings import Settings

ROOT = Path(__file__).resolve().parents[3]

Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as end:
            main(["--json", *arguments, "doctor"])
        return int(end.value.code or 0), json.loads(capsys.readouterr().out)

    return call


def one(findings: list[Any], subject: str) -> Any:
    (found,) = (
        each for each in findings if (each.subject if isinstance(each, Finding) else each["subject"]) == subject
    )
    return found


def test_a_machine_that_works_is_ok(doctor: Doctor, tmp_path: Path) -> None:
    lake = Catalog(tmp_path / "lake").storage.root
    before = sorted(os.walk(lake))
    code, report = doctor("--lake", lake)
    assert (code, report["ok"]) == (0, True)
    assert sorted(os.walk(lake)) == before
    findings = report["findings"]
    assert {finding["area"] for finding in findings} >= {"python", "packages", "ray", "storage", "codecs", "caches"}
    codecs = {finding["subject"] for finding in findings if finding["area"] == "codecs"}
    assert codecs == set(plugins.names("sensorium.codecs"))
    assert all(finding["remedy"] for finding in findings if finding["state"] != OK)


def test_it_takes_little_time_and_starts_neither_ray_nor_torch(tmp_path: Path) -> None:
    script = """
import sys
from sensorium.platform.cli import main
try:
    main(["--lake", sys.argv[1], "doctor"])
except SystemExit:
    pass
print(sorted({"ray", "torch"} & set(sys.modules)))
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "[]"
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 6  # some 1.4 s on a machine of its own


def test_a_lake_that_is_not_there_is_not_made(doctor: Doctor, tmp_path: Path) -> None:
    code, report = doctor("--lake", str(tmp_path / "deep" / "lake"))
    assert code == 0
    assert "can be made" in one(report["findings"], f"lake {tmp_path / 'deep' / 'lake'}")["found"]
    assert not (tmp_path / "deep").exists()


def test_a_lake_that_cannot_be_is_a_failure(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, report = doctor("--lake", str(tmp_path / "file"))
    assert (code, report["ok"]) == (1, False)
    code, report = doctor("--lake", "nonsense://x")
    assert code == 1
    assert one(report["findings"], "lake nonsense://x")["state"] == FAILED


def test_a_full_disk_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(parts.shutil, "disk_usage", lambda _: usage)
    assert one(parts.storage_findings(Settings(lake=str(tmp_path))), "free space").state == FAILED


def test_a_cluster_that_does_not_answer_is_a_failure(doctor: Doctor, tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        code, report = doctor("--lake", str(tmp_path), "--address", address)
        assert (code, one(report["findings"], "cluster")["state"]) == (1, FAILED)
        listening.listen()
        code, report = doctor("--lake", str(tmp_path), "--address", f"http://{address}")
        assert (code, one(report["findings"], "cluster")["state"]) == (0, OK)


def test_the_token_must_be_there_and_ours(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    assert one(machine.ray_findings(Settings()), "token").state == FAILED
    token.write_text("secret")
    token.chmod(0o644)
    assert "chmod 600" in one(machine.ray_findings(Settings()), "token").remedy
    token.chmod(0o600)
    assert one(machine.ray_findings(Settings()), "token").state == OK


def test_packages_that_are_missing_or_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    real = packages.version

    def lacking(name: str) -> str:
        if name == "wandb":
            raise PackageNotFoundError(name)
        return "0.1" if name == "polars" else real(name)

    monkeypatch.setattr(packages, "version", lacking)
    found = packages.package_findings()
    assert one(found, "tracking").state == MISSING
    assert "sensorium[tracking]" in one(found, "tracking").remedy
    assert one(found, "always needed").state == FAILED
    assert "polars" in one(found, "always needed").found


def test_every_extra_has_a_purpose() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(declared) == {*packages.FEATURES, *packages._COLLECTIONS}


def test_codecs_that_do_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    real = plugins.load

    def spoilt(group: str, name: str, kind: type[Any] | None = None) -> Any:
        codec = real(group, name, kind)
        if name == "webp":
            return replace(codec, decode=lambda data, size: 255 - codec.decode(data, size))
        if name == "jpeg":
            return replace(codec, encode=lambda *_: 1 // 0)
        if name == "jpeg_xl":
            raise MissingDependency("pillow_jxl is needed. Install it with: pip install 'sensorium[codecs]'")
        return codec

    monkeypatch.setattr(plugins, "load", spoilt)
    monkeypatch.setattr(plugins, "names", lambda _: ["jpeg", "jpeg_xl", "webp"])
    states = {finding.subject: finding.state for finding in parts.codec_findings()}
    assert states == {"jpeg": FAILED, "jpeg_xl": MISSING, "webp": FAILED}


@pytest.mark.parametrize(
    ("cards", "cuda", "state"), [(0, "", MISSING), (1, "", FAILED), (2, "12.8", OK), (1, None, MISSING)]
)
def test_accelerators(cards: int, cuda: str | None, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [Path(f"/dev/nvidia{number}") for number in range(cards)] + [Path("/dev/nvidiactl")]
    monkeypatch.setattr(machine.Path, "glob", lambda self, pattern: iter(names))
    monkeypatch.setattr(machine, "_torch_cuda", lambda: cuda)
    assert machine.accelerator_findings()[0].state == state


def test_the_cuda_of_torch_is_read_from_its_file() -> None:
    import torch

    assert machine._torch_cuda() == (torch.version.cuda or "")


def test_people_get_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--lake", str(tmp_path), "doctor"])
    assert re.search(r"storage +lake \S+ +ok +", capsys.readouterr().out)
