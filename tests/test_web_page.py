"""The page of all jobs, and a job's report with a way back: what they say, and how they look in a real browser."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Page

from jobs.report.facts import gather
from jobs.report.figures.strip import PLACES, strip
from jobs.report.page import page as report
from jobs.scheduler.snapshot import WaitingJob
from jobs.web.page import MOST_ROWS
from jobs.web.reports import KEPT_SECONDS
from jobs.web.rows import link
from jobs.web.shelf import Shelf
from monitoring.ledger import Ledger
from tests import report_jobs
from tests.browser import PHONE, chromium, visit
from tests.report_jobs import HOSTILE, NOW, TONIGHT
from tests.reports import definition, part
from tests.web_world import NAMES, SLASHED, World, busy_night, fleet, hostile_world, queries

WIDE, LAPTOP, TABLET = (1440, 900), (1160, 800), (820, 1180)
OVERLAPPING = """
    [...document.querySelectorAll('.jobs tbody tr')].filter(row => {
        const boxes = [...row.children].filter(cell => cell.offsetParent && cell.innerText.trim()).map(cell => {
            const inside = document.createRange()
            inside.selectNodeContents(cell)
            return inside.getBoundingClientRect()
        })
        const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
        return boxes.some((a, one) => boxes.slice(one + 1).some(b => meet(a, b)))
    }).map(row => row.innerText)
"""
WORLDS: dict[str, Callable[[Ledger], AbstractContextManager[World]]] = {
    "a bad night": lambda ledger: busy_night(ledger, more=3),
    "no jobs": lambda ledger: nullcontext(World(ledger)),
    "hostile": lambda ledger: nullcontext(hostile_world(ledger)),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(params=WORLDS)
def anywhere(request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[str]:
    """The URL of each kind of world."""
    with WORLDS[request.param](ledger) as world, world.served() as url:
        yield url


@pytest.fixture
def night(ledger: Ledger) -> Iterator[str]:
    """The URL of a night on which much goes wrong."""
    with busy_night(ledger) as world, world.served() as url:
        yield url


def jobs_on(page: Page) -> list[str]:
    """The jobs in the table, from top to bottom."""
    return page.locator(".jobs tbody .job a").all_inner_texts()


# How it looks.


@pytest.mark.parametrize("size", [WIDE, LAPTOP, TABLET, PHONE], ids=["wide", "laptop", "tablet", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_is_accessible_and_needs_nothing_else(
    anywhere: str,
    dark: bool,  # noqa: FBT001  a parameter of the test
    size: tuple[int, int],
    browser: Browser,
) -> None:
    """Nothing for axe-core to say, nothing sideways or over something else, no request but the page, a silent console."""
    with visit(browser, f"{anywhere}/", size=size, dark=dark) as seen:
        assert seen.violations() == []
        assert seen.sideways == 0
        assert seen.page.evaluate(OVERLAPPING) == []
        assert [url for url in seen.requests if not url.startswith("data:")] == [f"{anywhere}/"]
        assert seen.messages == []


@pytest.mark.parametrize("path", ["/", "/jobs/x", "/?q=x&state=failed"])
def test_nobodys_words_become_markup(path: str, browser: Browser, ledger: Ledger) -> None:
    """With the page's policy taken away no script runs and no image is there."""
    hostile = quote(HOSTILE, safe="")
    with hostile_world(ledger).served() as url, visit(browser, url + path.replace("x", hostile), bypass_csp=True) as seen:
        assert seen.page.evaluate("window.hacked") is None
        assert seen.page.evaluate("document.querySelectorAll('img, script, [onerror]').length") == 0
        assert "window.hacked = 1" in seen.page.inner_text("body")


def test_the_policy_is_the_same_in_the_header_and_on_the_page(night: str) -> None:
    """Both hold, so one that is stricter would win; frames can be forbidden in the header only."""
    for path in ("/", "/jobs/digits", "/jobs/no"):
        answer = httpx.get(night + path)
        on_page = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', answer.text)
        assert on_page is not None
        assert answer.headers["content-security-policy"] == on_page[1].replace("&#39;", "'") + "; frame-ancestors 'none'"


def test_a_row_on_a_phone_shows_what_matters(night: str, browser: Browser) -> None:
    """Name, state and what is wrong stand in the window; a job that is well takes little room."""
    with visit(browser, f"{night}/", size=PHONE) as seen:
        rows = {
            name: seen.page.locator(".jobs tr", has=seen.page.get_by_text(name, exact=True))
            for name in ("digits", "adhoc-export")
        }
        for row in rows.values():
            for cell in (row.locator(".job"), row.locator(".is")):
                box = cell.bounding_box()
                assert box is not None
                assert 0 <= box["x"] < box["x"] + box["width"] <= PHONE[0]
        assert rows["digits"].locator(".why").is_visible()
        well = rows["adhoc-export"].bounding_box()
        assert well is not None
        assert well["height"] < 140


# What it says.


def test_those_who_need_somebody_come_first(night: str, browser: Browser) -> None:
    """The gravest of them first; then those at work, those that are well, those that never ran."""
    with visit(browser, f"{night}/", size=WIDE) as seen:
        assert seen.page.locator(".group").all_inner_texts() == [
            "Needs attention 6",
            "At work 2",
            "All well 1",
            "Has not run yet 1",
        ]
        assert jobs_on(seen.page) == [
            *("ads-conversion", "busy", "credit-limit", "digits", "monthly-close", SLASHED),
            *("basket", "fraud"),
            "adhoc-export",
            "new-job",
        ]
        assert seen.page.inner_text(".verdict h2") == "6 of 10 jobs need attention."
        assert seen.page.title() == "(6) Jobs – batchgauge"


def test_a_row_says_how_a_job_is(night: str, browser: Browser) -> None:
    """State, why, figures with bounds against the threshold of the worst holdout, when it was well and is due."""
    with visit(browser, f"{night}/", size=WIDE) as seen:
        row = seen.page.locator(".jobs tr", has=seen.page.get_by_text("digits", exact=True))
        cells = row.locator("td").all_inner_texts()
        drawn = row.get_by_role("img").get_attribute("aria-label")
        below = row.locator(".whisker.below").count()
    assert [cell.split("\n") for cell in cells] == [
        ["partial"],
        [""],
        ["1,010"],
        ["12.62"],
        ["0.866", "0.85–0.88, needs 0.9, labelled"],
        ["31 h ago"],
        ["in 16 h", "Mon 02:15 UTC"],
        [
            "critical:",
            "accuracy 0.866 is below the threshold of 0.9 on holdout labelled",
            "warning:",
            "23 rows of 1,033 could not be scored",
            "and 2 more",
        ],
    ]
    assert drawn == "The last 13 runs: 1 failed, 2 partial, 1 skipped, 9 success"
    assert below == 1


def test_the_page_says_what_the_scheduler_is_doing(night: str, browser: Browser) -> None:
    """The queue in its order, what runs and retrains, when all was in sync, and which files are broken."""
    with visit(browser, f"{night}/", size=WIDE) as seen:
        lists = seen.page.locator(".doing .card").all_inner_texts()
        lines = dict(line.split("\n") for line in seen.page.locator(".lines > div").all_inner_texts())
        problems = seen.page.locator(".verdict li").all_inner_texts()
    assert lists[0].split("\n") == ["Running (2)", "busy for 2 h 30 min, 34,000 rows so far", "fraud starting"]
    assert lists[1].split("\n") == ["Waiting (2)", "basket for 5 min", f"{SLASHED} for 60 s"]
    assert lists[2].split("\n") == ["Retraining (1)", "credit-limit for 21 min"]
    assert lines == {
        "Running": "2 of at most 4",
        "Waiting": "2",
        "Last in sync": "12 s ago",
        "Scheduling": "9 jobs, for 3 days",
    }
    assert "its last good definition stays in force" in problems[0]
    assert "tmp.toml: not TOML" in problems[1]


def test_without_jobs_the_page_says_what_to_do(browser: Browser, ledger: Ledger) -> None:
    """The first thing that anybody sees of it."""
    with World(ledger).served() as url, visit(browser, f"{url}/") as seen:
        assert seen.page.inner_text(".verdict h2") == "There are no jobs yet."
        assert "Put a job file" in seen.page.inner_text(".empty")
        assert seen.page.locator("form, .choices").count() == 0


def test_a_ledger_that_cannot_be_read_is_said_first_and_what_was_known_stays(ledger: Ledger) -> None:
    """Never "there are no jobs", and never "all is well"."""
    report_jobs.register(ledger, definition("job"))
    world = World(ledger)
    with world.served() as url:
        assert "All well" not in httpx.get(url).text
        with closing(sqlite3.connect(ledger.location)) as connection, connection:
            connection.execute("ALTER TABLE jobs RENAME TO lost")
        world.now = NOW + 90
        page = httpx.get(url).text
        assert "The ledger can&#39;t be read: how the jobs are is not known." in page
        assert "What follows is from Sun 22 Nov 2026, 09:30 UTC." in page
        assert 'href="jobs/job"' in page
        answer = httpx.get(f"{url}/jobs/job")
        assert (answer.status_code, "no such table: jobs" in answer.text) == (503, True)
    with World(ledger).served() as url:
        page = httpx.get(url).text
        assert "The ledger has never been read: how the jobs are is not known." in page
        assert "How a job gets here" not in page


# What is chosen.


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?state=failed", ["ads-conversion"]),
        ("?state=missed", ["monthly-close"]),
        ("?state=waiting", [SLASHED, "basket"]),
        ("?state=running&q=FRA", ["fraud"]),
        ("?q=EU/", [SLASHED]),
        ("?state=nonsense&q=dig&page=x&refresh=soon&other=1", ["digits"]),
    ],
)
def test_the_list_is_narrowed(query: str, found: list[str], night: str, browser: Browser) -> None:
    """By state and by a part of the name, in whatever case; what makes no sense is left out."""
    with visit(browser, f"{night}/{query}", size=WIDE) as seen:
        assert jobs_on(seen.page) == found


def test_a_filter_is_a_form_and_a_choice_is_a_link(night: str, browser: Browser) -> None:
    """Each keeps what the other has chosen; the counts are those of the names that match."""
    with visit(browser, f"{night}/", size=WIDE) as seen:
        seen.page.get_by_role("searchbox").fill("a")
        seen.page.get_by_role("button", name="Find").click()
        choices = [" ".join(choice.split()) for choice in seen.page.locator(".choices a").all_inner_texts()]
        assert choices == ["all 5", "attention 2", "running 1", "waiting 2", "failed 1", "partial 1", "success 2"]
        seen.page.get_by_role("link", name="failed 1").click()
        assert seen.page.url == f"{night}/?state=failed&q=a"
        assert jobs_on(seen.page) == ["ads-conversion"]
        assert seen.page.locator("[aria-current]").inner_text().split() == ["failed", "1"]
        seen.page.get_by_role("searchbox").fill("nothing like it")
        seen.page.keyboard.press("Enter")
        assert seen.page.inner_text(".card.lead") == "No job matches failed and nothing like it. Show all jobs"
        seen.page.get_by_role("link", name="Show all jobs").click()
        assert (seen.page.url, len(jobs_on(seen.page))) == (f"{night}/", 10)


@pytest.mark.parametrize(("asked", "header"), [("60", "60"), ("1", "5"), ("99999", "3600"), ("", None), ("-", None)])
def test_a_page_reloads_when_it_is_asked_to(asked: str, header: str | None, night: str) -> None:
    """Within bounds: nobody's open page may be a load, and one that never reloads is no use."""
    assert httpx.get(f"{night}/?refresh={asked}").headers.get("refresh") == header


def test_more_jobs_than_fit_have_more_pages(ledger: Ledger) -> None:
    """With the counts of all, and a way on."""
    for number in range(MOST_ROWS + 2):
        report_jobs.register(ledger, replace(definition(f"job-{number:04}"), schedule=None), next_expected_at=None)
    with World(ledger).served() as url:
        first, second, third = (httpx.get(f"{url}/?page={page}").text for page in (1, 2, 3))
    assert (first.count('scope="row"'), second.count('scope="row"'), third.count('scope="row"')) == (MOST_ROWS, 2, 0)
    assert f"1 to {MOST_ROWS} of {MOST_ROWS + 2} jobs" in first
    assert 'href="?page=2"' in first
    assert f"{MOST_ROWS + 1} to {MOST_ROWS + 2} of {MOST_ROWS + 2} jobs" in second
    assert 'href="./">Before' in second
    assert "Has not run yet <b>502</b>" in second


# A job's report.


def test_a_name_leads_to_the_report_and_back(night: str, browser: Browser) -> None:
    """The report is the one that `batchgauge report` writes, with one link more."""
    with visit(browser, f"{night}/", size=WIDE) as seen:
        seen.page.locator(".jobs").get_by_role("link", name=SLASHED).click()
        assert seen.page.url == f"{night}/jobs/eu%2Fchurn%20%22beta%22"
        assert seen.page.inner_text("h1") == SLASHED
        assert seen.messages == []
        assert seen.violations() == []
        seen.page.get_by_role("link", name="All jobs").click()
        assert seen.page.url == f"{night}/"


def test_a_report_that_is_a_file_has_no_way_back(ledger: Ledger, night: str) -> None:
    """Else the same page."""
    served = httpx.get(f"{night}/jobs/digits").text
    without_link = re.sub(r'  <nav class="home">.*</nav>\n', "", served)
    assert without_link != served
    assert without_link == report(gather(ledger, "digits", now=NOW))


def test_a_job_of_any_name_has_a_report(ledger: Ledger) -> None:
    """Its link works, and leads back to the page of all jobs; also when slashes are not encoded."""
    for name in NAMES:
        report_jobs.register(ledger, definition(name))
    with World(ledger).served() as url:
        page = httpx.get(url).text
        for name in NAMES:
            assert f'href="{link(name)}"' in page
            answer = httpx.get(f"{url}/{link(name)}")
            assert answer.status_code == 200
            assert str(httpx.URL(f"{url}/{link(name)}").join(_home(answer.text))) == f"{url}/"
        plain = httpx.get(f"{url}/jobs/a/b")
        assert str(httpx.URL(f"{url}/jobs/a/b").join(_home(plain.text))) == f"{url}/"


def _home(page: str) -> str:
    found = re.search(r'<nav class="home"><a href="([^"]*)">', page)
    assert found is not None
    return found[1]


def test_no_such_job_is_a_page_that_repeats_nothing(night: str) -> None:
    """Nobody's words stand on a page of ours because they stood in a link."""
    answer = httpx.get(f"{night}/jobs/{quote('<b>nobody</b>', safe='')}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such job" in answer.text
    assert "nobody" not in answer.text


def test_a_report_is_kept_until_the_job_changes(ledger: Ledger) -> None:
    """Or until its "3 h ago" is no longer so. It costs a second of a processor, and a scraper asks often."""
    report_jobs.register(ledger, definition("job"))
    world = World(ledger)
    with world.served() as url:

        def made() -> str:
            found = re.search(r"Made .* by batchgauge", httpx.get(f"{url}/jobs/job").text)
            assert found is not None
            return found[0]

        world.now = NOW + 50
        first = made()
        world.now = NOW + 70
        assert made() == first
        report_jobs.run_of_night(ledger, "job", TONIGHT, "run-1", parts=(part(),))
        second = made()
        assert second != first
        world.now = NOW + 70 + KEPT_SECONDS + 61
        assert made() != second


def test_a_crowd_costs_no_more_than_its_first() -> None:
    """Those who come while a page is made wait for that one; the oldest makes room for the newest."""
    made: list[str] = []
    crowd = threading.Barrier(4)
    shelf: Shelf[str] = Shelf(room=2, seconds=10, now=lambda: 0.0)

    def make(key: str) -> str:
        made.append(key)
        return f"page {key}"

    def ask() -> str:
        crowd.wait(10)
        return shelf.get("a", lambda: make("a"))

    with ThreadPoolExecutor(4) as threads:
        assert [future.result() for future in [threads.submit(ask) for _ in range(4)]] == ["page a"] * 4
    assert made == ["a"]
    for key in ("b", "c", "b", "a"):
        assert shelf.get(key, partial(make, key)) == f"page {key}"
    assert made == ["a", "b", "c", "a"]


def test_what_could_not_be_made_is_not_kept() -> None:
    """The next one tries again."""
    shelf: Shelf[str] = Shelf(room=2, seconds=10, now=lambda: 0.0)
    with pytest.raises(ZeroDivisionError):
        shelf.get("a", lambda: str(1 / 0))
    assert shelf.get("a", lambda: "page") == "page"


def test_a_page_twice_reads_no_job_twice(ledger: Ledger) -> None:
    """200 jobs: the queue moves, and the ledger is asked one thing."""
    names = fleet(ledger, 200)
    world = World(ledger)
    with world.served() as url:
        assert httpx.get(url).text.count('scope="row"') == len(names)
        world.now = NOW + 30
        world.snapshot = replace(world.snapshot, waiting=(WaitingJob(names[0], NOW),))
        with queries(ledger) as asked:
            assert "waits, is next" in httpx.get(url).text
    assert len(asked) == 1


# The drawing of past runs.


def test_a_strip_draws_the_newest_runs_at_its_right_end() -> None:
    """Bars by rows, hollow ones for partial runs; signs for what has no rows to show."""
    drawn = strip((("success", 50), ("partial", 100), ("failed", 0), ("missed", 0)), "The last 4 runs")
    assert 'aria-label="The last 4 runs"' in drawn
    assert re.findall(r'class="(\w+)" d="M(\S+) ', drawn) == [
        ("ground", "0"),
        ("success", "97"),
        ("partial", "103.5"),
        ("failed", "111"),
        ("missed", "117"),
    ]
    assert re.findall(r"v-([\d.]+)", drawn) == ["11.5", "22.5"]


def test_a_strip_has_room_for_some_and_none_is_nothing() -> None:
    """However many there are; runs without a row are drawn still."""
    full = strip(tuple(("success", 0) for _ in range(PLACES + 5)), "Runs")
    assert full.count("h4v-2.0h-4z") == PLACES
    assert strip((), "Runs") == ""
