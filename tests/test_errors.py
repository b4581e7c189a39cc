"""Messages that name many things name the first ones and count the others."""

from __future__ import annotations

from maskcls.errors import NUM_SHOWN, joined, listed


def test_a_list_is_cut_at_ten_and_the_rest_is_counted() -> None:
    assert NUM_SHOWN == 10
    assert listed(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert listed(range(1_212)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 1,202 more"


def test_a_message_of_many_problems_counts_them_all_and_shows_ten() -> None:
    assert joined(["one"], "problems") == "one"
    lines = joined([f"p{number}" for number in range(50_002)], "problems in x").splitlines()
    assert lines[0] == "50002 problems in x:"
    assert lines[1:] == [*(f"  - p{number}" for number in range(10)), "  - and 49,992 more"]
