"""`museway openapi`: the OpenAPI 3.1 document of this version, as `/openapi.json` serves it."""

from __future__ import annotations

from collections.abc import Sequence

from museway_platform.api.openapi import text
from museway_platform.cli.prompt import Parser, answer
from museway_platform.cli.show import write_line


def main(argv: Sequence[str]) -> int:
    def run(_: object) -> int:
        write_line(text().rstrip("\n"))
        return 0

    return answer(Parser("openapi", "Print the OpenAPI 3.1 document of the API."), argv, run)
