"""Where files may lie, what they may be called, how long they may be."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys

from tidy.sources import PACKAGES, ROOT, Source, files, product, python, text_of

_LINES_MAX = 400
_MEDIAN_LINES_MAX = 150
_P90_LINES_MAX = 300
_NAMELESS = re.compile(r"(^|_)(utils?|helpers?|manager|base|common|core|misc|stuff)$")

# Spelled in pieces: this file is searched too. Folders of one person's machine, never of an installed system.
_MACHINE = re.compile(
    "|".join((r"/wo" + r"rk/[a-z.]", r"/ro" + r"ot/[a-z.]", r"/ho" + r"me/(?!<)[a-z]+/", r"[.]libra" + r"ry/"))
)
_UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
_BARE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[)|#\s*noqa(?!:)|#\s*pyright:\s*ignore(?!\[)")


def test_a_top_level_folder_is_no_package() -> None:
    """An editable install would import such a file and the wheel would not have it."""
    folders = {package.parent for package in PACKAGES.values()}
    stray = [str(path.relative_to(ROOT)) for folder in folders for path in folder.glob("*.py")]
    stray += [path.name for path in ROOT.glob("*.py")]
    assert not stray, stray


def test_platform_is_the_standard_librarys() -> None:
    program = "import platform, sysconfig; assert platform.__file__.startswith(sysconfig.get_path('stdlib'))"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_every_package_is_typed() -> None:
    assert not [name for name, folder in PACKAGES.items() if not (folder / "py.typed").exists()]


def test_a_module_is_named_after_its_thing() -> None:
    stray = [source.name for source in python() if _NAMELESS.search(source.name.removesuffix(".py").split("/")[-1])]
    stray += [str(path) for package in PACKAGES.values() for path in package.rglob("*/") if _NAMELESS.search(path.name)]
    assert not stray, stray


def test_files_have_one_reason_to_change() -> None:
    long = [f"{source.name}: {len(source.lines)}" for source in _written() if len(source.lines) > _LINES_MAX]
    assert not long, long


def test_files_are_short_as_a_rule() -> None:
    lengths = sorted(len(source.lines) for source in product() if len(source.lines) > 1)
    assert statistics.median(lengths) <= _MEDIAN_LINES_MAX, lengths
    assert lengths[int(len(lengths) * 0.9)] <= _P90_LINES_MAX, lengths


def test_every_module_says_what_it_is() -> None:
    silent = [source.name for source in product() if source.text.strip() and not _has_docstring(source)]
    assert not silent, silent


def test_nothing_names_a_machine() -> None:
    hits = [f"{path}: {match[0]}" for path in files() if (match := _MACHINE.search(text_of(path)))]
    assert not hits, hits


def test_nothing_is_left_for_later() -> None:
    hits = [f"{source.name}: {match[0]}" for source in _written() if (match := _UNFINISHED.search(source.text))]
    assert not hits, hits


def test_a_silenced_checker_is_told_what_to_ignore() -> None:
    hits = [
        f"{source.name}:{number}: {line.strip()}"
        for source in _written()
        if source.name != "tests/tidy/test_layout.py"
        for number, line in enumerate(source.lines, 1)
        if _BARE_IGNORE.search(line)
    ]
    assert not hits, hits


def _written() -> list[Source]:
    return [source for source in python() if not source.generated and not source.adopted]


def _has_docstring(source: Source) -> bool:
    return source.text.lstrip().startswith(('"""', 'r"""', "#!"))
