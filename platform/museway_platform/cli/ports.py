"""Ports: said clearly when they are taken."""

from __future__ import annotations

import socket

from museway_platform.cli.prompt import Failure


def require_free(host: str, port: int) -> None:
    """Raises Failure where somebody listens on the address, or it is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Failure(
                f"cannot listen on {host}:{port}: {error.strerror}; set MUSEWAY_PORT or MUSEWAY_HOST"
            ) from error
