"""What this machine computes with."""

from __future__ import annotations

import subprocess
from typing import Literal

Device = Literal["cpu", "gpu"]

_ANSWER_S = 20.0


def device_here() -> Device:
    """ "gpu" if NVIDIA's own tool lists at least one, else "cpu". Other makers' accelerators count as "cpu"."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, timeout=_ANSWER_S, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return "cpu"
    return "gpu" if b"GPU " in listed.stdout else "cpu"
