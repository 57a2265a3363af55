"""The report in a browser: all of it is drawn, nothing leaves the page, nothing sticks out."""

import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

import analysis

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
WIDTHS, SCHEMES = (1280, 400), ("light", "dark")
SETTLED = """async () => {
    document.querySelectorAll('details').forEach(d => d.open = true);
    await Promise.all([...document.images].map(i => i.decode().catch(() => {})));
}"""
UNDRAWN = """() => [...document.images]
    .filter(i => !(i.complete && i.naturalWidth > 0 && i.getBoundingClientRect().width > 0))
    .map(i => i.alt || i.src.slice(0, 60))"""
SIZES = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is here")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # No sandbox: Chromium has none as root, which a container's user often is.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def faults(browser: Browser, file: Path, width: int, scheme: str) -> list[str]:
    """What is wrong with a page at a viewport of this width, one line each; [] if nothing."""
    found: list[str] = []
    url = file.as_uri()
    with browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    ) as context:
        page = context.new_page()
        page.on(
            "request",
            lambda r: (
                r.url == url or r.url.startswith("data:") or found.append(f"request: {r.url}")
            ),
        )
        page.on("console", lambda m: m.type == "error" and found.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: found.append(f"page error: {e}"))
        page.goto(url, wait_until="load")
        page.evaluate(SETTLED)
        found += [f"not drawn: {name}" for name in page.evaluate(UNDRAWN)]
        inner, outer = page.evaluate(SIZES)
        if inner > outer:
            found.append(f"scrolls sideways: {inner} > {outer}")
    return found


def whole(browser: Browser, page: Path) -> None:
    for width, scheme in product(WIDTHS, SCHEMES):
        assert faults(browser, page, width, scheme) == [], (width, scheme)


def test_the_report_is_whole_in_a_browser(browser: Browser, ragged_out: Path) -> None:
    whole(browser, ragged_out / "report.html")


@pytest.mark.slow
@pytest.mark.parametrize("study", ["nb201", "darts"])
def test_more_reports_are_whole_in_a_browser(
    study: str, browser: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole(browser, Path(analysis.write_report(request.getfixturevalue(study), tmp_path)))


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<img alt="broken" src="data:image/png;base64,AAAA">', "not drawn: broken"),
        (
            '<details><summary>x</summary><img alt="inside" src="data:image/png;base64,AAAA">'
            "</details>",
            "not drawn: inside",
        ),
        (
            f'<img alt="hidden" src="data:image/gif;base64,{PIXEL}" style="display: none">',
            "not drawn: hidden",
        ),
        ("<script>console.error('said')</script>", "console: said"),
        ("<script>throw new Error('thrown')</script>", "page error: thrown"),
        ('<link rel="stylesheet" href="http://example.invalid/">', "request: http://example.inv"),
        ('<div style="width: 2000px">wide</div>', "scrolls sideways: 2"),
        (
            '<details><summary>x</summary><div style="width: 2000px">wide</div></details>',
            "scrolls sideways: 2",
        ),
    ],
)
def test_a_bad_page_is_caught(body: str, fault: str, browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    head = '<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">'
    page.write_text(f"{head}<body>{body}</body>")
    for width, scheme in zip(WIDTHS, SCHEMES, strict=True):
        assert any(line.startswith(fault) for line in faults(browser, page, width, scheme))


def test_a_good_page_has_no_fault(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "good.html"
    page.write_text(f'<!DOCTYPE html><img alt="" src="data:image/gif;base64,{PIXEL}">')
    assert faults(browser, page, 400, "light") == []
