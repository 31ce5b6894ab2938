"""A night of 559 simulated clips, its report, and a real browser to open it in."""

import csv
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import forked
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    sync_playwright,
)

JOBS = 559
HOSTILE = (
    "</script><script>window.owned=1</script><img src=x onerror=window.owned=1> \u202ereversed"
)
_SUBJECTS = (
    "a fox in fresh snow",
    "two herons at a lake",
    "an old harbor",
    "a red tram",
    "a market",
)
_MOVES = ("pans left", "pans right", "tilts up", "zooms in", "zooms out", "stays still", "orbits")
_FAULTS = {
    40: " [[fault:generation=SAFETY.INPUT.TEXT]]",
    120: " [[fault:generation=SAFETY.INPUT.TEXT]]",
    200: " [[fault:generation=INTERNAL.BAD_OUTPUT.CODE01]]",
    300: " [[fault:invalid]]",
    400: " [[fault:drop_after]]",
}
CLIPS = JOBS - len(_FAULTS)
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass(frozen=True)
class Night:
    """The folder of a finished run: its job database, clips and reports."""

    folder: Path

    @property
    def report(self) -> Path:
        """The report with pictures."""
        return self.folder / "report.html"

    @property
    def plain(self) -> Path:
        """The report without."""
        return self.folder / "plain.html"


@dataclass
class Seen:
    """What a browser did and said that it should not."""

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def watch(self, page: Page, folder: Path) -> None:
        """Note errors, and requests for anything but the page and its clips."""

        def hear(message: ConsoleMessage) -> None:
            self.said.append(f"{message.type}: {message.text}")

        def look(request: Request) -> None:
            if not request.url.startswith(("data:", folder.as_uri())):
                self.asked.append(request.url)

        page.on("console", hear)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", look)


def _manifest(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", "image", "client", "move", "note"])
        for number in range(JOBS):
            move = _MOVES[number % len(_MOVES)]
            prompt = f"{_SUBJECTS[number % len(_SUBJECTS)]}, camera {move}, take {number}"
            prompt = HOSTILE if number == 17 else prompt + _FAULTS.get(number, "")
            image = f"https://images.example.com/{number % 9}.jpg?sig=a-secret-signature"
            client = ("acme", "globex", "initech")[number % 3]
            writer.writerow([f"c{number:03d}", prompt, image, client, move, f"note {number}"])


def _batchgen(folder: Path, *words: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("BATCHGEN_")}
    env["HOME"] = str(folder / "home")
    for name in [name for name in env if name.startswith("XDG_")]:
        del env[name]
    started = forked.Piped([*forked.BATCHGEN, *words], env, folder)
    _, err = started.communicate()
    assert started.returncode in (0, 3, 10), err


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A finished night, made once for all workers of a test session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "night"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            _manifest(folder / "night.csv")
            fast = ("--poll-interval", "0", "-j", "150", "--download-jobs", "32", "--no-log", "-q")
            _batchgen(folder, "run", "night.csv", "--simulate", *fast)
            broken = folder / "clips-simulated" / "night" / "c005.mp4"
            broken.write_bytes(broken.read_bytes()[:100])
            (folder / "clips-simulated" / "night" / "c006.mp4").unlink()
            _batchgen(folder, "report", "--simulate")
            _batchgen(folder, "report", "--simulate", "-o", "plain.html", "--no-posters")
            (folder / "made").touch()
    return Night(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium. Of a module only: while it is there, its thread runs an event loop."""
    if _CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A window of its own, with nothing kept from another test."""
    made = browser.new_context(viewport={"width": 1600, "height": 1000}, reduced_motion="reduce")
    yield made
    made.close()


@pytest.fixture
def seen(context: BrowserContext, night: Night) -> Iterator[Seen]:
    """What went wrong in any page of the context; nothing may."""
    found = Seen()
    context.on("page", lambda page: found.watch(page, night.folder))
    yield found
    assert found == Seen()


@pytest.fixture
def page(context: BrowserContext, seen: Seen, night: Night) -> Page:
    """The report, opened as a file."""
    opened = context.new_page()
    opened.goto(night.report.as_uri())
    return opened


def axe_source() -> str:
    """Return the checker of accessibility, as a script."""
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def serious(page: Page) -> list[str]:
    """Return what axe-core finds on a page that is serious or critical."""
    page.evaluate(axe_source())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{it['id']}: {json.dumps([node['target'] for node in it['nodes']][:3])}"
        for it in found["violations"]
        if it["impact"] in ("serious", "critical")
    ]
