"""Every setting is documented in one place, with the default that the code has."""

from __future__ import annotations

import re
import tomllib

from msgspec import structs

from museway_platform.settings import Settings
from tidy.sources import ROOT

EXAMPLE = ROOT / "infra" / "museway.example.toml"


def test_every_setting_is_in_the_example() -> None:
    named = re.findall(r"^#? ?([a-z_]+) = ", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(field.name for field in structs.fields(Settings))


def test_what_the_example_sets_are_the_defaults() -> None:
    defaults = {field.name: field.default for field in structs.fields(Settings)}
    given = tomllib.loads(EXAMPLE.read_text())
    assert given and given == {name: defaults[name] for name in given}


def test_secrets_are_only_commented() -> None:
    given = tomllib.loads(EXAMPLE.read_text())
    assert not [name for name in given if re.search(r"key|secret|url|password", name)]
