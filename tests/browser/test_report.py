import json
import re
from pathlib import Path

import pytest
from browser.conftest import CLIPS, HOSTILE, JOBS, Night, Seen, serious
from cli.commands import ok, rows, write
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

CARDS = "#cards .card"


def result(page: Page) -> str:
    return page.locator("#result").inner_text()


def loaded(video: Locator) -> bool:
    """Whether a video knows its length and size, as soon as it does or cannot be read."""
    found: bool = video.evaluate(
        "it => it.readyState >= 1 || new Promise((done) => { "
        "it.addEventListener('loadedmetadata', () => done(true)); "
        "it.addEventListener('error', () => done(false)); })"
    )
    return found


def focused(page: Page) -> str:
    said: str = page.evaluate("document.activeElement.querySelector('.name b')?.textContent || ''")
    return said


def test_it_opens_with_everything_told_and_no_video_loaded(page: Page) -> None:
    assert page.title() == "night · batchgen report"
    expect(page.locator(".lede")).to_contain_text(f"{CLIPS} of {JOBS} clips are ready.")
    expect(page.locator(".lede")).to_contain_text(f"{JOBS - CLIPS} jobs wait for your decision.")
    assert result(page) == f"{JOBS} jobs"
    assert page.locator("video").count() == 0
    assert page.locator(CARDS).count() < 200  # the rest comes when it is scrolled to
    assert page.locator("#plot path").count() >= 5

    for title in ("Refused by moderation", "Generation failed", "Input not accepted", "In doubt"):
        matter = page.locator(".matter", has=page.get_by_role("heading", name=title))
        expect(matter.locator(".line code").first).to_contain_text("batchgen ")
    page.get_by_role("button", name="1 in doubt").click()
    assert result(page) == f"1 of {JOBS} jobs"


def test_scrolling_shows_every_job_at_last(page: Page) -> None:
    for _ in range(20):
        page.locator("#more").scroll_into_view_if_needed()
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        if page.locator(CARDS).count() == JOBS:
            break

    assert page.locator(CARDS).count() == JOBS
    assert page.locator("video").count() < 5  # of the broken clip at most


def test_everything_is_done_by_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the clips"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#clips"

    page.keyboard.press("/")
    page.keyboard.type("HERONS zooms")
    page.keyboard.press("Enter")
    found = [number for number in range(JOBS) if number % 5 == 1 and number % 7 in (3, 4)]
    assert result(page) == f"{len(found)} of {JOBS} jobs"
    assert focused(page) == f"c{found[0]:03d}"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert focused(page) == f"c{found[1]:03d}"
    page.keyboard.press("End")
    assert focused(page) == f"c{found[-1]:03d}"
    page.keyboard.press("Home")

    page.keyboard.press("Enter")
    viewer = page.locator("#viewer")
    expect(viewer.get_by_role("heading")).to_have_text(f"c{found[0]:03d}")
    page.keyboard.press("ArrowRight")
    expect(viewer.get_by_role("heading")).to_have_text(f"c{found[1]:03d}")
    page.keyboard.press("Escape")
    expect(viewer).not_to_be_visible()
    assert focused(page) == f"c{found[1]:03d}"
    assert page.locator("video").count() == 0  # it has stopped

    page.keyboard.press("/")
    page.keyboard.press("Escape")
    assert result(page) == f"{JOBS} jobs"
    box = page.get_by_role("checkbox", name="acme")
    box.focus()
    page.keyboard.press("Space")
    acme = (JOBS + 2) // 3
    assert result(page) == f"{acme} of {JOBS} jobs"
    expect(page.locator("fieldset", has_text="client").locator(".n")).to_have_text(
        [str(acme), str(acme - 1), str(acme - 1)]
    )


def test_the_columns_to_choose_from_are_those_of_few_values(page: Page) -> None:
    names = page.locator("#facets legend").all_inner_texts()

    # Neither ids, prompts and notes of their own, nor addresses.
    assert names == ["State", "Reason", "client", "move"]


def test_jobs_are_sorted_and_listed(page: Page) -> None:
    page.get_by_label("Sort").select_option("Without a clip first")
    first = page.locator(".card .chip").all_text_contents()[: JOBS - CLIPS]
    page.get_by_role("button", name="List", exact=True).click()

    assert sorted(set(first)) == ["failed", "in doubt"]
    widths = page.locator("#cards > li").first.bounding_box()
    assert widths is not None
    assert widths["width"] > 1000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_the_way_of_anybody(
    browser: Browser, night: Night, scheme: str
) -> None:
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(night.report.as_uri())
    page.evaluate("for (const it of document.querySelectorAll('details')) it.open = true")
    page.locator("#search").fill("herons orbits")  # a dozen cards tell as much as hundreds
    expect(page.locator(CARDS)).to_have_count(16)

    assert serious(page) == []
    page.locator(CARDS).first.click()
    assert serious(page) == []
    context.close()


def test_the_colours_can_be_chosen_and_are_kept(page: Page) -> None:
    def background() -> str:
        said: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return said

    light = background()
    page.get_by_role("button", name="Switch to dark colours").click()
    dark = background()
    page.reload()

    assert dark != light
    assert background() == dark


@pytest.mark.parametrize("width", [400, 640, 900, 1100, 1600])
def test_nothing_stands_out_of_the_page(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("for (const it of document.querySelectorAll('.matter details')) it.open = true")

    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator(CARDS).nth(17).click()
    assert page.locator("#viewer").evaluate("it => it.scrollWidth - it.clientWidth") <= 0
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_small_report_fits_a_phone_and_heads_nothing_that_is_not_there(
    context: BrowserContext,
) -> None:
    ok("add", write("night.csv", rows("a", "b")))
    ok("report", "-o", "small.html")
    page = context.new_page()
    page.set_viewport_size({"width": 400, "height": 900})
    page.goto(Path("small.html").resolve().as_uri())

    name = page.locator("#money tbody th")
    assert name.evaluate("it => it.querySelector('bdi').getClientRects().length") == 1
    expect(page.locator("#filters")).to_be_hidden()
    expect(page.locator(CARDS).first).to_be_visible()


def test_a_clip_plays(page: Page) -> None:
    page.locator(CARDS).first.click()
    video = page.locator("#viewer video")

    assert loaded(video)
    assert video.get_attribute("src") == "clips-simulated/night/c000.mp4"
    # It goes on by itself: a moment of it is shown after the first one.
    assert video.evaluate(
        "it => it.play().then(() => new Promise((done) => { "
        "it.addEventListener('timeupdate', () => it.currentTime > 0 && done(true)); }))"
    )
    facts = page.locator("#viewer .side").inner_text()
    for told in (
        "acme",
        "pans left",
        "note 0",
        "$0.25",
        "320 \N{MULTIPLICATION SIGN} 180",
        "2.0 s",
    ):
        assert told in facts


def test_a_clip_that_is_broken_or_gone_says_so(context: BrowserContext, night: Night) -> None:
    page = context.new_page()  # the browser itself says on its console that it cannot play it
    page.goto(night.report.as_uri())
    gone = page.locator(CARDS).nth(6)
    expect(gone).to_contain_text("Not where it was put on this disk")
    matter = page.locator(".matter", has_text="Not on this disk")
    expect(matter.locator("code")).to_contain_text("batchgen download --refresh")

    page.locator(CARDS).nth(5).click()
    expect(page.locator("#viewer .stage")).to_contain_text("The clip cannot be played from here")


def test_what_is_hostile_is_only_text(page: Page, seen: Seen) -> None:
    card = page.locator(CARDS).nth(17)
    expect(card.locator(".words")).to_have_text(HOSTILE)
    card.click()
    expect(page.locator("#viewer .prompt")).to_have_text(HOSTILE)

    assert page.evaluate("window.owned") is None
    assert page.locator("img[onerror]").count() == 0
    # And if the page had such a hole, the policy would close it.
    refused = page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return ''; } "
        "catch (error) { return error.name; } })()"
    )
    assert refused == "TypeError"
    assert ["TrustedHTML" in said for said in seen.said] == [True]
    seen.said.clear()


def test_commands_are_copied(context: BrowserContext, page: Page) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    title = page.get_by_role("heading", name="Generation failed")
    matter = page.locator(".matter", has=title)
    line = matter.locator(".line")

    line.get_by_role("button").click()
    expect(line.get_by_role("button")).to_contain_text("Copied")

    said = page.evaluate("navigator.clipboard.readText()")
    assert said == line.locator("code").inner_text()
    assert re.fullmatch("batchgen retry j[0-9a-f]{20} --simulate", said)


def test_the_timeline_says_what_was_when(page: Page) -> None:
    page.locator("#plot").scroll_into_view_if_needed()
    page.locator("#plot").hover(position={"x": 300, "y": 60})

    expect(page.locator("#readout")).to_contain_text(re.compile(r"\d+ in flight, \d+ finished"))
    expect(page.locator("#zone")).to_contain_text("UTC")


def test_without_pictures_first_frames_come_and_go(
    context: BrowserContext, seen: Seen, night: Night
) -> None:
    page = context.new_page()
    page.goto(night.plain.as_uri())
    page.locator(CARDS).first.scroll_into_view_if_needed()
    first = page.locator(CARDS).first.locator("video")

    expect(first).to_have_attribute("src", re.compile(r"c000\.mp4#t=0\.1$"))
    assert loaded(first)
    on_screen = page.locator("video").count()
    page.locator(CARDS).last.scroll_into_view_if_needed()
    expect(first).to_have_count(0)

    assert on_screen < 40
    seen.said = [it for it in seen.said if "ERR_FILE_NOT_FOUND" not in it]


def test_without_scripts_the_figures_are_there(browser: Browser, night: Night) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(night.report.as_uri())

    expect(page.locator(".lede")).to_contain_text(f"{CLIPS} of {JOBS} clips are ready.")
    expect(page.get_by_text("The gallery needs the page's own script")).to_be_visible()
    assert page.locator(".line code").count() >= 4
    context.close()


def test_print_leaves_out_what_only_a_screen_needs(page: Page) -> None:
    page.emulate_media(media="print")

    for name in (".tools", ".filters", ".bar", ".copy"):
        expect(page.locator(name).first).not_to_be_visible()
    expect(page.locator(".lede")).to_be_visible()


def test_no_secret_is_in_it(night: Night) -> None:
    text = night.report.read_text(encoding="utf-8")

    assert "a-secret-signature" not in text
    assert "sim-" not in text  # neither request ids nor raw answers
    assert json.dumps(HOSTILE)[1:20] not in text
