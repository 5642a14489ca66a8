"""A real Chromium for pages: what it shows, what it asks the network for, and what axe-core thinks of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from monitoring import servers

DESKTOP, PHONE = (1180, 900), (390, 844)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A real Chromium. Raises `MissingServer`, with the command that installs it, where there is none."""
    found = servers.find("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page as a browser sees it. `requests` and `messages` (console, errors) are kept from before it was opened."""

    page: Page
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def sideways(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def violations(self) -> list[str]:
        """What axe-core finds against the page, a line each."""
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


@contextmanager
def visit(
    browser: Browser, target: Path | str, *, size: tuple[int, int] = DESKTOP, dark: bool = False, bypass_csp: bool = False
) -> Iterator[Visit]:
    """Open a file or a URL. `bypass_csp` takes the page's own policy away, so that only its escaping protects it."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", bypass_csp=bypass_csp
    )
    seen = Visit(context.new_page())
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.on("console", lambda message: seen.messages.append(message.text))
    seen.page.on("pageerror", lambda error: seen.messages.append(str(error)))
    seen.page.goto(target if isinstance(target, str) else target.as_uri())
    try:
        yield seen
    finally:
        context.close()
