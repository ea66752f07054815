"""Ports: said clearly when they are taken, or found."""

from __future__ import annotations

import socket

from museway_engine.runtime.launch import free_port
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


def free_or_any(host: str, port: int) -> int:
    """`port` where nobody has it, else another that is free now."""
    try:
        require_free(host, port)
    except Failure:
        return free_port(host)
    return port
