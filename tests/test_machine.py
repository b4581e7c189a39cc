"""What the machine says about itself, and what follows from it."""

from __future__ import annotations

import pytest

from maskcls.machine import decoding_threads, num_cores


def test_every_core_decodes_unless_a_number_is_given() -> None:
    assert decoding_threads(None) == num_cores() >= 1
    assert [decoding_threads(number) for number in (0, 1, 5)] == [0, 1, 5]


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskcls.machine.num_cores", lambda: 16)
    assert [decoding_threads(None, num_processes=number) for number in (1, 4, 32)] == [16, 4, 1]
    assert decoding_threads(3, num_processes=4) == 3
