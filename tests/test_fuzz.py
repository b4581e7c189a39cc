"""Broken input of every kind ends in a value or a clear error: a few cases of each target of tests/drivers/fuzz.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from maskcls.config import load_config
from maskcls.errors import UserError
from tests.drivers.fuzz import TARGETS, Target, fuzz


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_broken_input_ends_in_a_value_or_a_clear_error(target: Target) -> None:
    outcome = fuzz(target, 170, limit=60)
    assert outcome.findings == {}
    assert outcome.num_cases == outcome.num_values + outcome.num_errors == 170
    assert min(outcome.num_values, outcome.num_errors) > 0  # neither too broken nor too whole to say anything


def test_every_reader_of_what_users_write_is_among_the_targets() -> None:
    assert [target.name for target in TARGETS] == [
        "config and overrides", "profile names", "profile lists", "info.csv", "label_fixes", "photos"
    ]  # fmt: skip


def odd(number: int, folder: Path) -> None:
    """Ends in every way that a reader can end."""
    if number == 1:
        raise UserError("a clear error")
    if number == 2:
        raise KeyError(number)
    if number == 3:
        try:
            time.sleep(30)
        except Exception:  # as decode() does
            raise UserError("hidden") from None


def test_other_exceptions_and_hangs_are_findings_with_their_input() -> None:
    outcome = fuzz(Target("odd", lambda: st.integers(0, 3), odd), 4, limit=0.3)
    assert outcome.findings == {"KeyError in the check": "2", "TooSlowError in the check": "3"}
    assert (outcome.num_cases, outcome.num_values, outcome.num_errors) == (4, 1, 1)


def test_the_same_seed_gives_the_same_cases_and_another_seed_others() -> None:
    def cases(seed: int) -> list[str]:
        seen: list[str] = []
        fuzz(Target("seen", lambda: st.text(), lambda value, folder: seen.append(value)), 50, seed=seed)
        return seen

    assert cases(1) == cases(1)
    assert cases(1) != cases(2)
    assert len(cases(1)) == 50


# What it has found


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
STUMBLES = {
    "!!int": "string index out of range",
    "!!bool x": "'x'",
    "!!timestamp x": "'NoneType' object has no attribute 'groupdict'",
    f"0x{'F' * 5000}": "Exceeds the limit (4300 digits) for integer string conversion",
    "[" * 1000: "maximum recursion depth exceeded",
    f"\n {LAUGHS.replace(chr(10), chr(10) + ' ')}": "it has more than 10,000 values, each alias counted as what it stands for",
}


@pytest.mark.parametrize(
    "value", STUMBLES, ids=["int", "bool", "timestamp", "hexadecimal", "nested", "aliases of aliases"]
)
def test_values_that_pyyaml_stumbles_over_are_refused_with_a_message(value: str, tmp_path: Path) -> None:
    (tmp_path / "exp.yaml").write_text(f"lr: {value}\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_config(tmp_path / "exp.yaml")
    assert str(error.value).startswith(f"{tmp_path}/exp.yaml is not valid YAML: {STUMBLES[value]}")
    (tmp_path / "exp.yaml").write_text("dataset_args: {output: mask}\ndata_dir: photos\n", encoding="utf-8")
    with pytest.raises(UserError, match="is not a YAML value"):
        load_config(tmp_path / "exp.yaml", [f"lr={value}"])


def test_a_set_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "exp.yaml").write_text("!!set {a, b}", encoding="utf-8")
    with pytest.raises(UserError, match="expected `key: value` lines"):
        load_config(tmp_path / "exp.yaml")


def test_aliases_within_reason_are_read(tmp_path: Path) -> None:
    text = "data_dir: photos\ndataset_args: &args {output: mask, mean: &three [0.5, 0.5, 0.5], std: *three}\n"
    (tmp_path / "exp.yaml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "exp.yaml").dataset_args["std"] == [0.5, 0.5, 0.5]
