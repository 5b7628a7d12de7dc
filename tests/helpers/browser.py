"""Debian's Chromium without a window, as tests of pages use it: what goes wrong in it is kept."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
# CI sets this, so that a missing browser fails there.
IS_NEEDED = "HF_BNVAE_NEEDS_BROWSER" in os.environ

# In milliseconds: a busy machine may take long to draw a tab.
_TIMEOUT = 30_000
_OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@dataclass
class Opened:
    """
    A page in a browser.

    Args:
        page (`Page`): The page.
        problems (`list[str]`): What stood in the console, errors of scripts, and refused answers.
        strangers (`list[str]`): Addresses on other machines that the page asked for.
    """

    page: Page
    problems: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def fill(self, box: str, text: str) -> None:
        self.page.locator(f"#{box} textarea, #{box} input").first.fill(text)

    def read(self, box: str) -> str:
        return self.page.locator(f"#{box} textarea, #{box} input").first.input_value()

    def wait_for(self, box: str, text: str) -> None:
        """Wait until a box holds a text. Otherwise the error shows what it holds."""
        try:
            self.page.wait_for_function(
                "([box, text]) => document.querySelector(`#${box} textarea`).value === text", arg=[box, text]
            )
        except Exception as error:
            raise AssertionError(f"#{box} holds {self.read(box)!r}, not {text!r}") from error

    def wait_for_words(self, element: str, words: str) -> None:
        self.page.locator(f"#{element}", has_text=words).wait_for()

    def wait_for_count(self, selector: str, count: int) -> None:
        expect(self.page.locator(selector)).to_have_count(count, timeout=_TIMEOUT)

    def wait_for_message(self, words: str) -> None:
        """Wait for a message of the page, and close it."""
        self.page.locator(".toast-body", has_text=words).first.wait_for()
        self.page.locator(".toast-close").first.click()


@contextmanager
def browser(address: str, width: int = 1100, count: int = 1) -> Iterator[list[Opened]]:
    """Open an address in several windows of people who have nothing to do with each other."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS)
        try:
            yield [
                _open(chromium.new_context(viewport={"width": width, "height": 900}), address) for _ in range(count)
            ]
        finally:
            chromium.close()


def _open(context, address: str) -> Opened:
    opened = Opened(context.new_page())
    page = opened.page
    page.set_default_timeout(_TIMEOUT)
    page.on("console", lambda message: opened.problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: opened.problems.append(str(error)))
    page.on(
        "response", lambda answer: answer.status >= 400 and opened.problems.append(f"{answer.status} {answer.url}")
    )
    own = (address.rstrip("/"), "data:", "blob:")
    page.on("request", lambda asked: asked.url.startswith(own) or opened.strangers.append(asked.url))
    page.goto(address)
    page.get_by_role("tab").first.wait_for()
    return opened
