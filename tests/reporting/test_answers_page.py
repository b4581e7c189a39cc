"""answers.html, read as a file: what it counts and shows, what it escapes, and how few photos it opens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskcls.labels import ATTRIBUTES
from maskcls.paths import write_json
from maskcls.reporting import answers_page, thumbnails
from maskcls.reporting.answers_page import Answered, disagreement, least_sure, page_line, write_answers_page
from maskcls.reporting.report.document import script_hash
from maskcls.reporting.report.page import MAX_BYTES
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words
from tests.helpers import Parsed
from tests.made import answered, said

WORD = Words("en")


@pytest.fixture(scope="module")
def photos(sample: Path) -> list[Path]:
    return sorted((sample / "eval" / "images").iterdir())


def written(path: Path, of: Answered, *, runs: Sequence[RunFolder] = (), language: str = "en") -> Parsed:
    """Returns the page."""
    write_answers_page(path, of, runs, Words(language))
    return Parsed(path.read_text(encoding="utf-8"))


def run_of(folder: Path, counts: Mapping[str, Sequence[int]]) -> RunFolder:
    """Returns a run that was trained on so many photos per class."""
    folder.mkdir()
    write_json(RunFolder(folder).class_counts, counts)
    return RunFolder(folder)


def test_the_page_has_its_sections_and_a_picture_of_every_answer(photos: list[Path], tmp_path: Path) -> None:
    members = {f"runs/fold{seed}": said(len(photos), seed=seed) for seed in range(3)}
    of = answered(photos, said(len(photos), seed=0), members)
    page = written(tmp_path / "answers.html", of)
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["answer_counts", "least_sure", "disagreement", "contact_sheet"]
    in_sheet = {attributes["title"] for tag, attributes in page.elements if tag == "li" and "title" in attributes}
    answers = dict(zip(of.image_ids, of.labels["class"].tolist(), strict=True))
    assert {answers[name] for name in in_sheet} == set(answers.values()) and len(set(answers.values())) > 5
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert len(sources) > 60 and all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_nothing_is_fetched_and_the_script_runs_by_its_hash(photos: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "answers.html"
    page = written(path, answered(photos, said(len(photos), seed=0)))
    policy = next(attributes["content"] for attributes in page.having("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    scripts = re.findall(r"<script>(.*?)</script>", path.read_text(), re.DOTALL)
    assert len(scripts) == 1 and script_hash(scripts[0]) in policy
    assert all(attributes["href"].startswith(("data:", "#")) for attributes in page.having("href"))


def test_answers_stand_beside_their_share_of_the_photos_of_all_runs(photos: list[Path], tmp_path: Path) -> None:
    probabilities = said(len(photos), seed=0, heads=["gender"])
    of = answered(photos, probabilities)
    num_male = int((of.labels["gender"] == 0).sum())
    runs = [run_of(tmp_path / "a", {"gender": [30, 10]}), run_of(tmp_path / "b", {"gender": [20, 40]})]
    text = written(tmp_path / "answers.html", of, runs=runs).text
    share = f"{num_male / len(photos):.1%}"
    assert re.search(rf"male\s*{num_male}\s*{share}\s*50\.0%", text)
    unknown = written(tmp_path / "answers.html", of, runs=[*runs, RunFolder(tmp_path / "old")]).text
    assert "in training" not in unknown and "How many photos of each class were trained on is not known." in unknown


def test_the_least_sure_photos_come_first_with_the_likeliest_other_answer(photos: list[Path]) -> None:
    of = answered(photos, said(len(photos), seed=0))
    cards = least_sure(of, WORD)["cards"]
    assert list(cards) == list(ATTRIBUTES)
    for head in ATTRIBUTES:
        given = of.probabilities[head][np.arange(len(photos)), of.labels[head]]
        assert [card["said"][0][1] for card in cards[head]] == pytest.approx(np.sort(given)[: len(cards[head])])
        for card in cards[head]:
            row = of.image_ids.index(card["id"])
            others = np.delete(of.probabilities[head][row], of.labels[head][row])
            assert card["said"][1][1] == pytest.approx(others.max())
            assert card["said"][0][0] == WORD.class_name(head, int(of.labels[head][row]))


def test_members_are_counted_against_each_other_and_their_votes_shown(photos: list[Path]) -> None:
    photos = photos[:4]
    sure = np.eye(3)
    votes = {"runs/a": [0, 0, 0, 0], "runs/b": [0, 1, 1, 0], "runs/c": [0, 2, 1, 0]}
    members = {name: {"mask": sure[labels]} for name, labels in votes.items()}
    of = answered(photos, {"mask": np.mean([sure[labels] for labels in votes.values()], axis=0)}, members)
    found = disagreement(of, WORD)
    assert found["names"] == ["a", "b", "c"]
    assert found["table"] == [[None, 0.5, 0.5], [0.5, None, 0.25], [0.5, 0.25, None]]
    assert [card["id"] for card in found["cards"]] == [photos[1].name, photos[2].name]  # three pairs, two pairs
    assert found["cards"][1]["votes"] == [("incorrect", ["b", "c"]), ("worn", ["a"])]
    alike = disagreement(replace(of, members=dict.fromkeys(("x", "y"), members["runs/a"])), WORD)
    assert alike["cards"] == [] and alike["table"] == [[None, 0.0], [0.0, None]]


def test_names_of_files_cannot_become_elements(photos: list[Path], tmp_path: Path) -> None:
    evil = "<script>alert(1)<!--.jpg", '"><img src=x onerror=alert(2)>.jpg'
    of = answered(photos, said(len(photos), seed=0))
    members = {'"><script>alert(3)</script>': of.probabilities, "b": said(len(photos), seed=1)}
    names = [evil[row % 2] for row in range(len(photos))]
    folder = tmp_path / "<b>out"
    folder.mkdir()
    page = written(folder / "answers.html", replace(of, image_ids=names, members=members))
    assert [tag for tag, _ in page.elements].count("script") == 2  # the page's data and its own
    assert not page.having("onerror")
    assert all(attributes["src"].startswith("data:") for attributes in page.having("src"))
    in_sheet = {attributes["title"] for tag, attributes in page.elements if tag == "li" and "title" in attributes}
    assert in_sheet == set(evil)  # as data they are whole
    assert evil[0] in page.text and "<b>out" in page.text


def test_photos_that_are_gone_are_said_to_be(photos: list[Path], tmp_path: Path) -> None:
    gone = [tmp_path / path.name for path in photos]
    page = written(tmp_path / "answers.html", answered(gone, said(len(photos), seed=0)))
    assert "photo not found" in page.text
    assert [tag for tag, _ in page.elements if tag == "img"] == []


def test_a_page_of_many_photos_opens_few_and_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Noise is the hardest picture for JPEG.
    noise = np.random.default_rng(0).integers(0, 256, (160, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    small, opened = thumbnails.thumbnail(tmp_path / "noise.png", answers_page.CARD), []
    monkeypatch.setattr(thumbnails, "thumbnail", lambda path, size: opened.append(path) or small)
    members = {str(number): said(20_000, seed=number) for number in range(3)}
    paths = [tmp_path / f"{number}.png" for number in range(20_000)]
    written(tmp_path / "answers.html", answered(paths, said(20_000, seed=9), members))
    assert 150 < len(opened) < 300
    assert (tmp_path / "answers.html").stat().st_size < MAX_BYTES


def test_the_page_speaks_korean(photos: list[Path], tmp_path: Path) -> None:
    page = written(tmp_path / "answers.html", answered(photos, said(len(photos), seed=0)), language="ko")
    assert page.elements[0] == ("html", {"lang": "ko"})
    for key in ("answer_counts", "least_sure", "contact_sheet", "kind_of_answers", "mean_confidence"):
        assert Words("ko")(key) in page.text and WORD(key) not in page.text


def test_a_page_that_cannot_be_written_is_a_line_and_costs_nothing_else(photos: list[Path], tmp_path: Path) -> None:
    of = answered(photos, said(len(photos), seed=0))
    path = tmp_path / "gone" / "answers.html"
    assert page_line(path, of, [], WORD) == (
        f"warning: no page to look at the answers: {path} cannot be written: No such file or directory. "
        "The answers are whole"
    )
    assert page_line(tmp_path / "answers.html", of, [], WORD) == f"page {tmp_path}/answers.html"
