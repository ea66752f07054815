"""What granian's worker processes load: the gateway, in a process that does not outlive its server.

The parent killed with -9 leaves granian's workers running, with the port and the journal (measured). Linux can tell them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from museway_platform import gateway

_PR_SET_PDEATHSIG = 1


def create_app() -> object:
    """The gateway's ASGI application. Raises SettingsError."""
    _end_with_parent()
    return gateway.create_app()


def _end_with_parent() -> None:
    """SIGTERM when granian's main thread, which forked us, is gone: running streams finish and are settled."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGTERM)
