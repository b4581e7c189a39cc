"""The table of words: every look-up of the code is in it, nothing stands twice, and Korean keeps the columns."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from string import Formatter

import pytest

from maskcls.reporting.text import TEXT, padded, width, words
from tests.helpers import ROOT


def look_ups() -> Iterator[tuple[str, str, set[str] | None]]:
    """Yields the file, the key and the names given (None: not to be seen) of every word("key", name=value)."""
    for file in [*(ROOT / "maskcls").rglob("*.py"), ROOT / "train.py", ROOT / "infer.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "word" and node.args:
                names = {keyword.arg for keyword in node.keywords}
                key = node.args[0]
                for choice in (key.body, key.orelse) if isinstance(key, ast.IfExp) else (key,):
                    if isinstance(choice, ast.Constant):
                        yield file.name, choice.value, None if None in names else {str(name) for name in names}


def test_every_word_that_the_code_looks_up_is_in_the_table_with_its_gaps() -> None:
    found = list(look_ups())
    for file, key, names in found:
        assert key in TEXT, (file, key)
        gaps = {name for _, name, _, _ in Formatter().parse(TEXT[key]["en"]) if name}
        assert names is None or names == gaps, (file, key)
    assert len(found) > 60
    assert {"train.py", "infer.py", "check.py", "console.py"} <= {file for file, _, _ in found}


def test_no_key_stands_twice() -> None:
    tree = ast.parse((ROOT / "maskcls" / "reporting" / "text.py").read_text(encoding="utf-8"))
    keys = [node.elts[0] for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) == 3]
    counts = Counter(key.value for key in keys if isinstance(key, ast.Constant))
    assert counts.keys() >= TEXT.keys()
    assert [key for key, count in counts.items() if count > 1] == []


def test_the_labels_of_lines_are_nine_places_wide_in_both_languages() -> None:
    keys = [key for key in TEXT if re.match("start_|advice_|estimate_|found$|found_written", key)]
    for key in keys:
        for language, text in TEXT[key].items():
            label = re.match(r"\S+ +", text)
            assert label and width(label[0]) == 9, (key, language)
    assert len(keys) == 14


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


def test_numbers_are_written_alike_in_both_languages() -> None:
    for language in ("en", "ko"):
        assert "1,234" in words(language)("split_sum", people=1234, photos=8638)
        assert "0.8641" in words(language)("best_score", criterion="f1", value=0.86412, epoch=3, duration="1 s")
