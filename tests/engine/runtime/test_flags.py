from __future__ import annotations

from pathlib import Path

import pytest

from museway_engine.runtime.device import Device
from museway_engine.runtime.flags import Command, Value, worker_command
from museway_engine.runtime.install import Installation


def command(device: Device = "cpu", *, alone: bool = True, overrides: dict[str, Value] | None = None) -> Command:
    installation = Installation(python=Path("/e/python"), model_dir=Path("/m"), model="m", device=device)
    return worker_command(installation, port=31000, alone=alone, overrides=overrides)


def value(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_a_cpu_worker() -> None:
    made = command()
    assert made.argv[:3] == ("/e/python", "-m", "sglang_cpu.launch")
    wanted = {
        "--model-path": "/m",
        "--port": "31000",
        "--served-model-name": "muse",
        "--host": "127.0.0.1",
        "--schedule-policy": "fcfs",
        "--dtype": "float32",
        "--max-queued-requests": "64",  # laid over the common 256
    }
    assert {flag: value(made.argv, flag) for flag in wanted} == wanted
    assert (Path(made.environment["PYTHONPATH"]) / "sglang_cpu" / "launch.py").is_file()


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_what_the_gateway_relies_on_is_set_everywhere(device: Device) -> None:
    argv = command(device).argv
    for flag in ("--enable-cache-report", "--incremental-streaming-output", "--enable-priority-scheduling"):
        after = argv.index(flag) + 1
        assert after == len(argv) or argv[after].startswith("--"), "a bare flag"
    assert "True" not in argv
    assert len([word for word in argv if word.startswith("--")]) == len({w for w in argv if w.startswith("--")})


def test_a_gpu_worker_has_no_shims_and_nothing_of_the_cpu() -> None:
    made = command("gpu")
    assert made.argv[:3] == ("/e/python", "-m", "sglang.launch_server")
    assert not {"--device", "--attention-backend", "--dtype", "--max-total-tokens"} & set(made.argv)
    assert not {"PYTHONPATH", "OMP_NUM_THREADS"} & made.environment.keys()


def test_one_thread_unless_alone() -> None:
    assert command(alone=False).environment["OMP_NUM_THREADS"] == "1"
    assert int(command(alone=True).environment["OMP_NUM_THREADS"]) >= 1


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_proxy_of_the_machine_is_not_between_sglang_and_itself(device: Device) -> None:
    environment = command(device).environment
    assert environment["NO_PROXY"] == environment["no_proxy"] == "*"


def test_overrides_add_change_and_take_out() -> None:
    changes: dict[str, Value] = {
        "context-length": 4096,
        "enable-strict-thinking": False,
        "log-requests": True,
        "served-model-name": "other",
    }
    argv = command(overrides=changes).argv
    assert value(argv, "--context-length") == "4096"
    assert value(argv, "--served-model-name") == "other"
    assert "--enable-strict-thinking" not in argv
    assert "--log-requests" in argv
