"""Every text that the code looks up is there in each language with the same braces, none is left over, columns keep."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from string import Formatter

import pytest

from maskcls.errors import UserError
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES, OF_PHOTO
from maskcls.reporting.text import width
from maskcls.words import LANGUAGES, Words, language
from tests.helpers import ROOT

TEXTS = {name: Words(name).texts for name in LANGUAGES}
SOURCES = [*sorted((ROOT / "maskcls").rglob("*.py")), ROOT / "train.py", ROOT / "infer.py"]


def gaps(text: str) -> set[str]:
    """Returns the names in the braces of a text."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def look_ups() -> Iterator[tuple[str, str, set[str] | None]]:
    """Yields the file, the key and the names given (None: not to be seen) of every word("key", name=value)."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "word" and node.args:
                names = {keyword.arg for keyword in node.keywords}
                key = node.args[0]
                for choice in (key.body, key.orelse) if isinstance(key, ast.IfExp) else (key,):
                    if isinstance(choice, ast.Constant):
                        yield file.name, choice.value, None if None in names else {str(name) for name in names}


def test_every_language_has_a_file_with_the_same_keys_in_the_same_order() -> None:
    assert {file.stem for file in (ROOT / "maskcls/languages").iterdir()} == set(LANGUAGES) == {"en", "ko"}
    assert list(TEXTS["en"]) == list(TEXTS["ko"])
    assert len(TEXTS["en"]) > 200


@pytest.mark.parametrize("key", TEXTS["en"])
def test_a_text_has_words_and_the_same_braces_in_every_language(key: str) -> None:
    assert all(TEXTS[name][key] and gaps(TEXTS[name][key]) == gaps(TEXTS["en"][key]) for name in LANGUAGES)


def test_every_look_up_of_the_code_finds_its_text_and_fills_its_braces() -> None:
    found = list(look_ups())
    for file, key, names in found:
        assert key in TEXTS["en"], (file, key)
        assert names is None or names == gaps(TEXTS["en"][key]), (file, key)
    assert len(found) > 60
    assert {"infer.py", "check.py", "console.py"} <= {file for file, _, _ in found}


def test_every_attribute_has_a_title_and_its_labels_have_names() -> None:
    """A row more in labels.py is seen here, and not by a run when it counts the photos."""
    titles = [*ATTRIBUTES, *(f"{name}_{label}" for name in ATTRIBUTES for label in range(len(HEAD_CLASSES[name])))]
    counts = [f"count_{title}" for title in titles if title.rpartition("_")[0] in OF_PHOTO]
    assert [key for key in (*titles, *counts) if key not in TEXTS["en"]] == []
    assert len(titles) >= 11 and len(counts) >= 3


def test_no_text_is_left_over() -> None:
    """A key is used where it stands in quotes, or where an f-string of the code can make it: count_mask_{mask}."""
    quoted, made = set(), {f"{head}_{label}" for head in HEAD_CLASSES for label in range(len(HEAD_CLASSES[head]))}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                quoted.add(node.value)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("word"):
                for part in filter(lambda part: isinstance(part, ast.JoinedStr), ast.walk(node.args[0])):
                    pattern = "".join(piece.value if isinstance(piece, ast.Constant) else ".*" for piece in part.values)
                    made |= {key for key in TEXTS["en"] if re.fullmatch(pattern, key)}
    for file in (ROOT / "maskcls/reporting/report").rglob("*.html"):
        quoted |= set(re.findall(r"""["'](\w+)["']""", file.read_text(encoding="utf-8")))
    assert TEXTS["en"].keys() - quoted - made == set()
    assert {"count_mask_0", "one_error", "absent_train"} <= made
    assert len(made & TEXTS["en"].keys()) < 40  # no pattern takes everything


def test_the_labels_of_lines_are_nine_places_wide_in_both_languages() -> None:
    keys = [key for key in TEXTS["en"] if re.match("start_|advice_|estimate_|found$|found_written", key)]
    for key in keys:
        for name in LANGUAGES:
            label = re.match(r"\S+ +", TEXTS[name][key])
            assert label and width(label[0]) == 9, (key, name)
    assert len(keys) == 15


def test_numbers_are_written_alike_in_both_languages() -> None:
    for name in LANGUAGES:
        assert "1,234" in Words(name)("split_sum", people=1234, photos=8638)
        assert "0.8641" in Words(name)("best_score", criterion="f1", value=0.86412, epoch=3, duration="1 s")


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [
        ("ko", {"LANG": "en_US.UTF-8"}, "ko"), ("en", {"LANG": "ko_KR.UTF-8"}, "en"), (None, {}, "en"),
        (None, {"LANG": "ko_KR.UTF-8"}, "ko"), (None, {"LC_ALL": "C", "LANG": "ko_KR.UTF-8"}, "en"),
        (None, {"MASKCLS_LANG": "ko", "LC_ALL": "en_US.UTF-8"}, "ko"), (None, {"LANG": "kok_IN"}, "en"),
    ],
)  # fmt: skip
def test_the_language_is_the_option_or_the_environments(
    option: str | None, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MASKCLS_LANG", "LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert language(option) == expected


def test_an_unknown_language_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown language 'kor' in --lang\. Did you mean 'ko'\? Known: en, ko"):
        language("kor")
