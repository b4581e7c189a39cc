"""What the machine says about itself, and what follows from it."""

from __future__ import annotations

import platform
import subprocess
import sys

import psutil
import pytest
import torch

from maskcls.machine import (
    cpu_has_bf16,
    decoding_threads,
    free_memory,
    is_quick_in,
    num_cores,
    quickest_precision,
    use_quick_kernels,
)


def test_every_core_decodes_unless_a_number_is_given() -> None:
    assert decoding_threads(None) == num_cores() >= 1
    assert [decoding_threads(number) for number in (0, 1, 5)] == [0, 1, 5]


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskcls.machine.num_cores", lambda: 16)
    assert [decoding_threads(None, num_processes=number) for number in (1, 4, 32)] == [16, 4, 1]
    assert decoding_threads(3, num_processes=4) == 3


def test_apples_devices_share_the_memory_of_the_machine() -> None:
    assert 0 < free_memory(torch.device("mps")) <= psutil.virtual_memory().total
    assert free_memory(torch.device("meta")) == float("inf")


def test_a_processor_is_quick_in_float32_and_in_bf16_where_it_has_it() -> None:
    assert [is_quick_in(precision) for precision in ("no", "bf16", "fp16")] == [True, cpu_has_bf16(), False]
    assert quickest_precision() == ("bf16" if cpu_has_bf16() else "no")


@pytest.mark.parametrize(("has_bf16", "quick"), [(True, ["no", "bf16", "fp16"]), (False, ["no", "fp16"])])
def test_an_older_gpu_is_not_quick_in_bf16(has_bf16: bool, quick: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 or including_emulation)
    assert [precision for precision in ("no", "bf16", "fp16") if is_quick_in(precision)] == quick
    assert quickest_precision() == ("bf16" if has_bf16 else "fp16")


@pytest.mark.parametrize(("kind", "expected"), [("cuda", ("high", True)), ("cpu", ("highest", False))])
def test_only_an_nvidia_gpu_is_told_to_use_its_quick_kernels(
    kind: str, expected: tuple[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = torch.get_float32_matmul_precision()
    try:
        use_quick_kernels(torch.device(kind))
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == expected
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_every_launch_keeps_freed_memory_so_that_a_check_times_the_program_that_will_run() -> None:
    code = """
import resource
import numpy as np
from maskcls.training.processes import Launch

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
freely = faults()
Launch()
faults()
print(freely, faults())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    freely, kept = map(int, done.stdout.split())
    assert freely > 10 * max(kept, 1)
