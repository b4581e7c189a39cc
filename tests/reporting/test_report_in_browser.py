"""The report in a real browser: it draws without an error or a request, and everything works by keyboard too."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from maskcls.reporting.answers_page import write_answers_page
from maskcls.reporting.report import page as report_page
from maskcls.reporting.report.mistakes import NUM_SHOWN_FIRST
from maskcls.reporting.report.page import write_report
from maskcls.words import Words
from tests import made

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
NUM_CHARTS = 9
OF_A_RUN = [name for name in report_page.SECTIONS if name != "folds"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)"),
]


@dataclass
class Opened:
    """A page, and what it should not have done."""

    page: Any
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Starts Chromium, headless."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def report(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a report with more mistakes than are shown at first, and a person with a dangerous name."""
    folder = tmp_path_factory.mktemp("browser")
    other = made.run(sample, folder, hostile=True, name="other", accuracy=0.55, seed=1)
    return write_report(made.run(sample, folder, hostile=True, accuracy=0.5), language="en", against=other)


@pytest.fixture
def opened(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """Opens the report, with the test's own browser settings, and waits until all charts stand."""
    settings = {"viewport": {"width": 1200, "height": 900}} | getattr(request, "param", {})
    with visited(browser, report, settings, num_charts=NUM_CHARTS) as result:
        yield result


@contextmanager
def visited(browser: Any, report: Path, settings: dict[str, Any], *, num_charts: int) -> Iterator[Opened]:
    """Opens a report and sees that it does nothing that it should not."""
    context = browser.new_context(**settings)
    result = Opened(context.new_page())
    result.page.on("console", lambda message: result.complaints.append(f"console: {message.text}"))
    result.page.on("pageerror", lambda error: result.complaints.append(f"error: {error}"))
    result.page.on("dialog", lambda dialog: result.complaints.append(f"dialog: {dialog.message}") or dialog.dismiss())

    def note(request: Any) -> None:
        if not request.url.startswith("data:") and request.url != report.as_uri():
            result.complaints.append(f"request: {request.url}")

    result.page.on("request", note)
    result.page.goto(report.as_uri())
    result.page.wait_for_function(f"document.querySelectorAll('[data-is-drawn]').length === {num_charts}")
    yield result
    assert result.complaints == []
    context.close()


def test_every_chart_and_section_is_drawn(opened: Opened) -> None:
    page = opened.page
    for chart in page.query_selector_all("[data-chart] svg"):
        box = chart.bounding_box()
        assert box["width"] > 150
        assert box["height"] > 100
    assert len(page.query_selector_all("[data-chart] svg")) == NUM_CHARTS
    sections = [section.get_attribute("id") for section in page.query_selector_all("section")]
    assert sections == OF_A_RUN


def test_the_report_of_a_cross_validation_is_drawn_too(browser: Any, sample: Path, tmp_path: Path) -> None:
    report = write_report(made.folds(sample, tmp_path, seeds=(42, 43)), language="ko")
    settings = {"viewport": {"width": 1200, "height": 900}}
    with visited(browser, report, settings, num_charts=1 + 4 + 1 + 4) as opened:
        assert opened.page.locator("#folds .chart svg").bounding_box()["height"] > 150
        shown = opened.page.locator("#folds table").bounding_box()
        assert shown["x"] + shown["width"] <= 1200  # no column is cut off
        assert opened.page.locator("#curves .chart svg").count() == 4


def test_the_filters_show_the_cards_of_their_kind_only(opened: Opened) -> None:
    page = opened.page
    cards = page.locator(".gallery li:visible")
    total = page.locator(".gallery li").count()
    assert total > NUM_SHOWN_FIRST
    assert cards.count() == NUM_SHOWN_FIRST
    assert page.locator("#shown").inner_text() == f"{NUM_SHOWN_FIRST} of {total}"
    page.locator(".chips label", has_text="mask").filter(has=page.locator("input[name=head]")).click()
    assert {card.get_attribute("data-head") for card in cards.all()} == {"mask"}
    kind = page.locator("#kind option[data-head=mask]").first.get_attribute("value")
    page.select_option("#kind", kind)
    assert {card.get_attribute("data-kind") for card in cards.all()} == {kind}
    assert page.locator("#kind option[data-head=gender]").first.is_disabled()
    page.locator("input[name=head][value=gender]").check(force=True)
    assert page.input_value("#kind") == ""  # a kind of mask is none of gender
    assert {card.get_attribute("data-head") for card in cards.all()} == {"gender"}
    page.locator("input[name=head][value='']").check(force=True)
    page.locator("#more").click()
    assert cards.count() == total
    assert page.locator("#more").is_hidden()


def test_a_click_shows_all_photos_of_the_person(opened: Opened) -> None:
    page = opened.page
    page.evaluate("document.getElementById('more').click()")
    card = page.locator(".gallery button").filter(has=page.locator(f'img[alt*="{made.HOSTILE[:10]}"]')).first
    card.click()
    dialog = page.locator("dialog[open]")
    assert dialog.locator("h3").inner_text() == made.HOSTILE
    assert dialog.locator("li").count() == 7
    assert dialog.locator("li img").count() == 7
    assert dialog.locator(".chosen .said.bad").count() >= 1
    dialog.get_by_role("button", name="Close").click()
    assert page.locator("dialog[open]").count() == 0


def test_everything_works_with_the_keyboard(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("input[name=head]").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.checked && document.activeElement.value") == "mask"
    page.locator(".gallery li:visible button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] li").count() == 7
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.matches('.gallery button')")  # the reader is back at the card
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('.gallery button')")
    page.locator(".of-class td[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # the edge: nothing moves
    said = page.locator(".of-class + .readout, .of-class .readout").inner_text()
    assert re.fullmatch(r"worn · male · 30–59 → worn · male · under 30: \d+ of \d+ photos, [0-9.]+% of the row", said)


def test_a_cell_and_a_curve_say_their_numbers_under_the_pointer(opened: Opened) -> None:
    page = opened.page
    page.locator(".of-mask td.right").first.hover()
    assert re.fullmatch(r"worn → worn: \d+ of 60 photos, .*", page.locator(".of-mask .readout").first.inner_text())
    chart = page.locator("[data-chart=chart_loss] svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + 90)
    page.mouse.move(box["x"] + box["width"] - 8, box["y"] + 90)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert page.locator("#vg-tooltip-element").inner_text().split() == [
        "update",
        "6",
        "train",
        "0.400",
        "valid",
        "0.333",
    ]


def test_shares_and_another_measure_can_be_chosen(opened: Opened) -> None:
    page = opened.page
    page.locator("input[name=cells][value=share]").check(force=True)
    for row in page.locator(".of-gender tbody tr").all():
        assert sum(int(cell) for cell in row.locator("td").all_inner_texts()) in (99, 100, 101)
    dots = "Array.from(document.querySelectorAll('[data-chart=groups] .mark-symbol path'), (p) => p.getAttribute('transform')).join()"
    before = page.evaluate(dots)
    page.locator("input[name=measure]:not(:checked)").first.check(force=True)
    page.wait_for_function(f"{dots} !== {before!r}")


@pytest.mark.parametrize("opened", [{"color_scheme": "dark"}], indirect=True)
def test_the_dark_page_is_dark_and_prints_light(opened: Opened) -> None:
    page = opened.page
    background = "getComputedStyle(document.body).backgroundColor"
    label = "getComputedStyle(document.querySelector('[data-chart=chart_loss] .role-axis-label text')).fill"
    assert (page.evaluate(background), page.evaluate(label)) == ("rgb(15, 20, 27)", "rgb(155, 167, 182)")
    page.emulate_media(color_scheme="light")
    assert (page.evaluate(background), page.evaluate(label)) == ("rgb(245, 246, 248)", "rgb(91, 102, 117)")
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate(label) == "rgb(91, 102, 117)"


@pytest.mark.parametrize("opened", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_a_phone_needs_no_sideways_scrolling(opened: Opened) -> None:
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for section in page.query_selector_all("section"):
        assert section.bounding_box()["width"] <= 360
    matrix = page.locator(".of-class table").bounding_box()
    assert matrix["x"] + matrix["width"] <= 348  # all 18 columns are in view
    page.locator(".gallery button").first.click()
    assert page.locator("dialog[open]").bounding_box()["width"] <= 360


@pytest.mark.parametrize("opened", [{"viewport": {"width": 794, "height": 1123}}], indirect=True)
def test_print_has_every_section_and_what_is_folded_on_the_screen(opened: Opened, tmp_path: Path) -> None:
    page = opened.page
    page.emulate_media(media="print")
    page.pdf(path=tmp_path / "report.pdf", format="A4")  # fires beforeprint
    for name in OF_A_RUN:
        assert page.locator(f"#{name} h2").is_visible()
    assert page.locator("details").count() == 2
    assert page.locator("details[open] table").count() == 2
    assert page.locator("nav").is_hidden()
    assert (tmp_path / "report.pdf").stat().st_size > 50_000


@pytest.mark.parametrize("width", [1200, 360])
def test_a_page_of_answers_opens_at_any_width_without_an_error_or_a_request(
    browser: Any, sample: Path, tmp_path: Path, width: int
) -> None:
    photos = sorted((sample / "eval" / "images").iterdir())
    members = {f"runs/fold{seed}": made.said(len(photos), seed=seed) for seed in range(6)}
    path = tmp_path / "answers.html"
    write_answers_page(path, made.answered(photos, members["runs/fold0"], members), [], Words("en"))
    page, complaints = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if request.url[:5] != "data:" else None)
    page.goto(path.as_uri())
    page.locator("nav a").last.click()
    page.wait_for_selector("nav li:last-child a[aria-current=true]")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert complaints == [path.as_uri()]
    page.close()
