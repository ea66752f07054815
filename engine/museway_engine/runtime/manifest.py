"""What a model's files were when they were made, so that a damaged one is noticed before it answers nonsense.

A changed byte in a weight file makes no error: the model loads and babbles. Hashing 270 MB takes a second and several GB
take many, so an ordinary start compares size and modification time only and reads a file again where those differ.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

NAME = "manifest.json"


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file's size in bytes, modification time in ns, and hexadecimal SHA-256."""

    size: int
    mtime_ns: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All files of a flat folder but the manifest itself, by name. `v` is this shape's version."""

    v: int
    files: dict[str, File]


_DECODER = msgspec.json.Decoder(Manifest)


def write(folder: Path) -> Manifest:
    """Hash every file of `folder` and write the manifest beside them, all of it on the disk when this returns."""
    files = {path.name: _describe(path) for path in sorted(folder.iterdir()) if path.name != NAME}
    manifest = Manifest(v=1, files=files)
    _replace(folder / NAME, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def damage(folder: Path, *, thorough: bool = False) -> str | None:
    """What is wrong with `folder`, in words, or None.

    Files whose size and time are as recorded are believed; others are hashed, all of them if `thorough`. Where only the
    time had changed (a copy, a restore) the manifest is brought up to date if the folder can be written.
    """
    try:
        manifest = _DECODER.decode((folder / NAME).read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        return f"{NAME}: {error}"
    names = {path.name for path in folder.iterdir()} - {NAME}
    if names != manifest.files.keys():
        return "files missing or added: " + ", ".join(sorted(names ^ manifest.files.keys()))
    moved = False
    for name, recorded in manifest.files.items():
        stat = (folder / name).stat()
        if stat.st_size != recorded.size:
            return f"{name} has {stat.st_size} bytes, not {recorded.size}"
        if thorough or stat.st_mtime_ns != recorded.mtime_ns:
            if _describe(folder / name).sha256 != recorded.sha256:
                return f"{name} has changed since it was made"
            moved = True
    if moved and os.access(folder, os.W_OK):
        write(folder)
    return None


def _describe(path: Path) -> File:
    with path.open("rb") as source:
        stat = os.fstat(source.fileno())
        return File(stat.st_size, stat.st_mtime_ns, hashlib.file_digest(source, "sha256").hexdigest())


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("wb") as sink:
        sink.write(data)
        sink.flush()
        os.fsync(sink.fileno())
    draft.replace(path)
