"""Text in the terminal keeps its columns, in Hangul too."""

from __future__ import annotations

import unicodedata

import pytest

from maskcls.reporting.text import padded, width


@pytest.mark.parametrize(
    ("text", "places"), [("", 0), ("mask_acc", 8), ("마스크", 6), ("남성 <30", 8), ("猫a", 3), ("한글", 4), ("é", 1)]
)
def test_hangul_takes_two_places_however_it_is_spelt(text: str, places: int) -> None:
    for form in ("NFC", "NFD"):
        spelt = unicodedata.normalize(form, text)
        assert width(spelt) == places
        assert padded(spelt, 10) == spelt + " " * (10 - places)
        assert padded(spelt, 10, right=True) == " " * (10 - places) + spelt
    assert padded(text, places - 1) == text
