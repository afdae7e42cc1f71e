"""The file: a plain tar of `manifest.json` and blobs named by their SHA-256. Nothing in it is unpickled.

The names, sizes and contents in a bundle from elsewhere cannot be trusted. So the tar is not compressed, only regular
files with one of two kinds of names are accepted, their number and sizes are limited, and every blob is checked against
its hash.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tuner import files
from tuner.bundle.manifest import FORMAT, Manifest, read_manifest
from tuner.errors import BundleError, OutputError

MAX_BUNDLE_BYTES = 4 << 30
MAX_MANIFEST_BYTES = 64 << 20
MAX_MEMBERS = 100_000

_BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_TAR_ERRORS = (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError, KeyError)
_HINT = "fetch or make the bundle again"


def write(path: Path, manifest: Mapping[str, Any], blobs: Mapping[str, bytes]) -> str:
    """Write a bundle, whole or not at all; returns its SHA-256.

    `manifest` is a Manifest as data, without `format` and `blobs`; `blobs` are contents by their SHA-256.

    The same content gives the same bytes. Raises OutputError, and BundleError for a manifest that cannot be read.
    """
    full = {"format": FORMAT, **manifest, "blobs": {name: len(blobs[name]) for name in sorted(blobs)}}
    text = json.dumps(full, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    read_manifest(json.loads(text), str(path))
    path = files.followed(path)
    if files.is_special(path):
        raise OutputError(f"{path}: not a file", "choose another one with -o")
    aside = path.with_name(path.name + f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            _add(tar, "manifest.json", text)
            for name in sorted(blobs):
                _add(tar, f"blobs/{name}", blobs[name])
        os.replace(aside, path)
        return sha256_of(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror}", "choose another file with -o") from error


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def is_bundle(path: Path) -> bool:
    """Whether a file begins as `write` makes one. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(512)[257:262] == b"ustar"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _what_it_is(path: Path) -> tuple[str, str]:
    """What a path that is no tar file is instead, in words, and what to do."""
    if path.is_dir():
        return "a folder, and no bundle", "give the file that `python -m tuner bundle` wrote"
    if not path.exists():
        return "no such file", "give the file that `python -m tuner bundle` wrote"
    if not path.is_file():
        return "no regular file", "give the file that `python -m tuner bundle` wrote"
    with open(path, "rb") as file:
        begin = file.read(1 << 10)
    if begin.startswith(b"{") and b"bundle_sha256" in begin:
        return "measurements, and no bundle", f"bring them in with: python -m tuner import {path}"
    return "not a tar file", _HINT if begin else "the file is empty; fetch or make the bundle again"


class Bundle:
    """A bundle opened for reading, every blob of it checked against its name. Raises BundleError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            if not path.is_file():
                raise BundleError(str(path), *_what_it_is(path))
            if path.stat().st_size > MAX_BUNDLE_BYTES:
                raise BundleError(str(path), f"over {MAX_BUNDLE_BYTES >> 30} GiB; this is no bundle")
            self.sha256 = sha256_of(path)
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise BundleError(str(path), f"cannot be read: {error.strerror}") from error
        except _TAR_ERRORS as error:
            raise BundleError(str(path), *_what_it_is(path)) from error
        try:
            self._members = self._scan()
            self.manifest = self._manifest()
            self._check_blobs()
        except BundleError:
            self.close()
            raise

    def blob(self, digest: str) -> bytes:
        """A blob by its SHA-256. Raises BundleError when it is missing or damaged."""
        content = self._read(f"blobs/{digest}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError(str(self._path), f"blob {digest[:12]} is damaged", _HINT)
        return content

    def close(self) -> None:
        self._tar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _scan(self) -> dict[str, tarfile.TarInfo]:
        members: dict[str, tarfile.TarInfo] = {}
        try:
            while (member := self._tar.next()) is not None:
                if not member.isreg() or member.issparse() or member.pax_headers:
                    raise BundleError(str(self._path), f"{member.name[:80]!r} is no plain file", _HINT)
                if member.name != "manifest.json" and not _BLOB.fullmatch(member.name):
                    raise BundleError(str(self._path), f"a file {member.name[:80]!r} that no bundle has", _HINT)
                if member.name in members or len(members) >= MAX_MEMBERS:
                    raise BundleError(str(self._path), f"{member.name[:80]!r} twice, or far too many files", _HINT)
                members[member.name] = member
        except _TAR_ERRORS as error:
            raise BundleError(str(self._path), f"a damaged tar file ({type(error).__name__})", _HINT) from error
        return members

    def _manifest(self) -> Manifest:
        member = self._members.get("manifest.json")
        if member is None or member.size > MAX_MANIFEST_BYTES:
            raise BundleError(str(self._path), "no manifest.json, or one that is far too large", _HINT)
        try:
            data = json.loads(self._read("manifest.json"))
        except (ValueError, RecursionError) as error:
            raise BundleError(str(self._path), "manifest.json is no JSON", _HINT) from error
        return read_manifest(data, str(self._path))

    def _check_blobs(self) -> None:
        sizes = {name.removeprefix("blobs/"): m.size for name, m in self._members.items() if name != "manifest.json"}
        if sizes != dict(self.manifest.blobs):
            raise BundleError(str(self._path), "its blobs are not those that its manifest lists", _HINT)
        for digest in sizes:
            self.blob(digest)

    def _read(self, name: str) -> bytes:
        member = self._members.get(name)
        if member is None:
            raise BundleError(str(self._path), f"{name} is missing", _HINT)
        try:
            file = self._tar.extractfile(member)
            content = b"" if file is None else file.read()
        except (OSError, *_TAR_ERRORS) as error:
            raise BundleError(str(self._path), f"{name} cannot be read ({type(error).__name__})", _HINT) from error
        if len(content) != member.size:
            raise BundleError(str(self._path), f"{name} is truncated", _HINT)
        return content
