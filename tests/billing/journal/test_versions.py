"""Journals of other programs: the format before is read, one that is not known is left to whoever wrote it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from museway_billing.journal.format import READABLE
from museway_billing.journal.recovery import claim_dead
from museway_billing.reconcile.left import journals_left
from museway_billing.reconcile.report import Difference
from museway_billing.usage import UsageRecord

HERE = Path(__file__).parent
ENDED = 1_767_323_050_000_000


def left_by(version: int, directory: Path) -> Path:
    """A journal that a program of that format left when it was killed: four records, one call under way."""
    (source,) = (path for path in (HERE / f"format-{version}").iterdir() if path.is_dir())
    return Path(shutil.copytree(source, directory / source.name))


def sign(home: Path, *, version: int) -> None:
    """Write the epoch anew: this folder's name, that version."""
    body = f"{home.name} 1 {version}"
    (home / "epoch").write_text(f"{body} {crc32(body.encode())}\n")


def contents(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.iterdir()}


@pytest.mark.parametrize("version", sorted(READABLE))
def test_a_journal_of_every_readable_format_is_recovered(tmp_path: Path, version: int) -> None:
    """Written by that version, and committed: not by the code of today."""
    left_by(version, tmp_path)
    (claimed,) = claim_dead(tmp_path, ended=ENDED)
    expected = msgspec.json.decode((HERE / f"format-{version}" / "records.json").read_bytes(), type=list[UsageRecord])
    assert list(claimed.tail.read(500).records) == expected
    assert claimed.damaged == ()
    claimed.finish()
    assert list(tmp_path.iterdir()) == []


def test_one_of_a_later_format_is_left_untouched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = left_by(max(READABLE), tmp_path)
    sign(home, version=max(READABLE) + 1)
    name = home.name
    ours = left_by(max(READABLE), tmp_path / "ours")
    ours = ours.rename(tmp_path / "gateway-ours")
    sign(ours, version=max(READABLE))
    before = contents(home)
    with caplog.at_level(logging.ERROR):
        (claimed,) = claim_dead(tmp_path, ended=ENDED)
    assert claimed.id == ours.name, "the one beside it is recovered"
    claimed.finish()
    assert contents(home) == before
    assert f"format version {max(READABLE) + 1}" in caplog.text
    assert name in caplog.text
    (told,) = [found for found in journals_left(tmp_path, {}) if isinstance(found, Difference)]
    assert (told.id, "format version" in told.found) == (name, True)
