"""A bundle comes back as it was written; a hostile or damaged one is refused with a reason, and does nothing."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.bundle import small
from tuner.bundle import Bundle, archive, write
from tuner.errors import BundleError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    manifest, blobs = small.content()
    sha256 = write(tmp_path / "b.tar", manifest, blobs)
    with Bundle(tmp_path / "b.tar") as found:
        assert found.sha256 == sha256
        assert {name: found.blob(name) for name in found.manifest.blobs} == blobs
        assert [item.candidate for item in found.manifest.items] == [item["candidate"] for item in manifest["items"]]
        [task] = found.manifest.tasks
        assert (task.key, task.bytes, task.output_args[0].shape) == (small.KEY, 2 * 15 * 4, small.SHAPE)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    assert small.bundle(tmp_path / "a.tar").read_bytes() == small.bundle(tmp_path / "b.tar").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar"], "no scratch is left"


def test_what_is_no_bundle_is_named_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"format":1,"bundle_sha256":"00"}\n')
    (tmp_path / "empty").touch()
    for name, words, hint in [
        (".", "a folder, and no bundle", "`python -m tuner bundle`"),
        ("nothing", "no such file", "`python -m tuner bundle`"),
        ("m.jsonl", "measurements, and no bundle", "tuner import"),
        ("empty", "not a tar file", "empty"),
    ]:
        with pytest.raises(BundleError, match=words) as caught:
            Bundle(tmp_path / name)
        assert hint in caught.value.hint


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The small bundle with its manifest changed."""
    with tarfile.open(small.bundle(path)) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    manifest = json.loads(members["manifest.json"])
    change(manifest)
    members["manifest.json"] = json.dumps(manifest).encode()
    return tarred(path, members)


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            add(tar, name, content)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(format=2), "format 2"),
        (lambda m: m["tasks"][0].update(key="../../etc"), r"tasks\[0\]\.key"),
        (lambda m: m["tasks"][0]["args"][0].update(shape=[2**20, 2**20]), "tensors of"),
        (lambda m: m["tasks"][0]["args"][0].update(shape=[-1]), r"shape\[0\]"),
        (lambda m: m["tasks"][0]["args"][0].update(dtype="object"), "dtype"),
        (lambda m: m["tasks"][0]["args"][0].update(shape=[3, 6]), "other arguments"),
        (lambda m: m["tasks"][0].update(expected=[]), "0 outputs"),
        (lambda m: m["tasks"].append(m["tasks"][0]), "there twice"),
        (lambda m: m["items"][0].update(task="f" * 16), "a task ffff"),
        (lambda m: m["items"][0].update(cubin="/etc/passwd"), "SHA-256"),
        (lambda m: m["items"][0].update(cubin="0" * 64), "listed and not used"),
        (lambda m: m["items"][0].update(candidate="x\n\x1b[31m"), "printable"),
        (lambda m: m["items"][0]["plan"]["launches"][0].update(args=[0, 2]), r"args\[1\]"),
        (lambda m: m["items"][0]["plan"]["launches"][0].update(block=[2048, 1, 1]), "block"),
        (lambda m: m["items"][0]["plan"].update(workspaces=[2**39]), "workspaces of"),
        (lambda m: m["blobs"].update({"1" * 64: 4}), "listed and not used"),
        (lambda m: m.update(tasks="all"), "expected a list"),
        (lambda m: m.pop("items"), "items: missing"),
    ],
)  # fmt: skip
def test_a_manifest_that_lies_is_refused(tmp_path: Path, change: Callable[[Any], object], words: str) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        Bundle(rewritten(tmp_path / "b.tar", change))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "blobs/../../x", "blobs/" + "0" * 63, "manifest.json/x"])
def test_a_name_that_no_bundle_has_is_refused(tmp_path: Path, name: str) -> None:
    path = small.bundle(tmp_path / "b.tar")
    with tarfile.open(path, "a") as tar:
        add(tar, name, b"1")
    with pytest.raises(BundleError, match="that no bundle has"):
        Bundle(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = small.bundle(tmp_path / "b.tar")
    with tarfile.open(path, "a") as tar:
        add(tar, "blobs/" + "0" * 64, type=kind, linkname="/etc/passwd")
    with pytest.raises(BundleError, match="no plain file"):
        Bundle(path)


def test_a_sparse_file_cannot_unfold(tmp_path: Path) -> None:
    """Old GNU sparse header: 512 bytes on the disk that claim to be 1 TiB."""
    path = small.bundle(tmp_path / "b.tar")
    member = tarfile.TarInfo("blobs/" + "0" * 64)
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 0)
    header[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content + b"\0" * (-len(content) % 512) + bytes(header) + b"\0" * 1024)
    with pytest.raises(BundleError):
        Bundle(path)


def test_a_blob_with_another_content_is_refused(tmp_path: Path) -> None:
    path = small.bundle(tmp_path / "b.tar")
    content = bytearray(path.read_bytes())
    at = content.index(b"\x7fELF")
    content[at + 4] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        Bundle(path)


def test_a_blob_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = small.bundle(tmp_path / "b.tar")
    with tarfile.open(path, "a") as tar:
        add(tar, "manifest.json", b"{}")
    with pytest.raises(BundleError, match="twice"):
        Bundle(path)


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x1f\x8b" + b"x" * 600, b"\0" * 10240, b"PK\3\4" + b"\0" * 2000])
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(content)
    with pytest.raises(BundleError):
        Bundle(path)


def test_a_file_that_is_not_there_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match="no such file"):
        Bundle(tmp_path / "b.tar")
    monkeypatch.setattr(archive, "MAX_BUNDLE_BYTES", 100)
    with pytest.raises(BundleError, match="no bundle"):
        Bundle(small.bundle(tmp_path / "b.tar"))


def test_json_that_never_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no JSON"):
        Bundle(tarred(tmp_path / "b.tar", {"manifest.json": b"[" * 200_000}))


def test_any_damage_is_a_reason_or_harmless(tmp_path: Path) -> None:
    """500 copies with a few bytes changed or cut off: never anything but a BundleError, never other blobs."""
    path, rng = small.bundle(tmp_path / "b.tar"), random.Random(0)
    whole, (_, blobs) = path.read_bytes(), small.content()
    refused = 0
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            with Bundle(path) as found:
                assert {name: found.blob(name) for name in found.manifest.blobs} == blobs
        except BundleError:
            refused += 1
    assert refused > 250
