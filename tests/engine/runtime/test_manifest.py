from __future__ import annotations

import os
from pathlib import Path

import pytest

from museway_engine.runtime import manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    manifest.write(tmp_path)
    return tmp_path


def flip_a_bit(path: Path) -> None:
    """Same size, and the old modification time put back."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_what_was_written_is_whole(folder: Path) -> None:
    assert manifest.damage(folder) is None
    assert manifest.damage(folder, thorough=True) is None


def test_a_shorter_file_is_named(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.truncate(100)
    assert manifest.damage(folder) == "model.safetensors has 100 bytes, not 25600"


def test_changed_content_of_the_same_size_is_noticed(folder: Path) -> None:
    flip_a_bit(folder / "model.safetensors")
    os.utime(folder / "model.safetensors")
    assert manifest.damage(folder) == "model.safetensors has changed since it was made"


def test_a_bit_flipped_behind_our_back_takes_a_thorough_look(folder: Path) -> None:
    flip_a_bit(folder / "model.safetensors")
    assert manifest.damage(folder) is None
    assert manifest.damage(folder, thorough=True) == "model.safetensors has changed since it was made"


def test_a_copy_is_hashed_once_and_then_believed(folder: Path) -> None:
    before = (folder / manifest.NAME).read_bytes()
    os.utime(folder / "config.json", ns=(1, 1))
    assert manifest.damage(folder) is None
    after = (folder / manifest.NAME).read_bytes()
    assert after != before
    assert manifest.damage(folder) is None
    assert (folder / manifest.NAME).read_bytes() == after


@pytest.mark.parametrize("extra", ["added.safetensors", "config.json"])
def test_files_added_or_missing_are_named(folder: Path, extra: str) -> None:
    path = folder / extra
    path.unlink() if path.exists() else path.write_text("x")
    assert manifest.damage(folder) == f"files missing or added: {extra}"


@pytest.mark.parametrize(
    "text", ["", "{", '{"v":1}', '{"v":1,"files":{},"more":1}', '{"v":1,"files":{"a":{"size":"x"}}}']
)
def test_a_manifest_that_says_nothing_is_damage(folder: Path, text: str) -> None:
    (folder / manifest.NAME).write_text(text)
    assert (manifest.damage(folder) or "").startswith("manifest.json: ")


def test_a_missing_folder_is_damage(tmp_path: Path) -> None:
    assert manifest.damage(tmp_path / "absent") is not None
