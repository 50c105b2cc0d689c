"""Reports in a real browser, without a network: light and dark, on a desk and on a phone.

Pictures of what was seen are left in `tests/artefacts`, or where SEQCELLS_ARTEFACTS says.
"""

import base64
import dataclasses
import io
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from experiments import studies
from experiments.lab import Study, discover, load, restore
from tests.experiments.studies.test_horizon_report import TWO, write
from tests.support.studies import worlds

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]

ROOT = Path(__file__).parents[2]
ARTEFACTS = Path(os.environ.get("SEQCELLS_ARTEFACTS", ROOT / "tests" / "artefacts"))
SCREENS = {
    "desk": {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    "phone": {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
}
TALLEST = 8000  # pixels of a page that a picture of it shows

FACTS = """
const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
const light = colour => colour.slice(0, 3).map(c => c / 255)
  .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const blend = ([r, g, b, a = 1], under) => [r, g, b].map((c, i) => a * c + (1 - a) * under[i]);
const back = element => element
  ? blend(numbers(getComputedStyle(element).backgroundColor), back(element.parentElement))
  : [255, 255, 255];
const contrast = element => {
  const under = back(element), text = numbers(getComputedStyle(element).color);
  const [high, low] = [light(under), light(blend(text, under))].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const texts = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) if (walk.currentNode.data.trim()) texts.push(walk.currentNode);
const judged = [...document.querySelectorAll("table")].flatMap(table => {
  const at = [...table.tHead.rows[0].cells].findIndex(cell => cell.innerText == "verdict");
  return at < 0 ? [] : [...table.tBodies[0].rows].map(row =>
    [row.cells[at].innerText, row.cells[at].getBoundingClientRect().right]);
});
return {
  contrasts: texts.map(text => [contrast(text.parentElement), text.data.trim()]),
  pictures: [...document.images].map(image => image.complete ? image.naturalWidth : 0),
  verdicts: judged,
  dark: light(back(document.body)) < 0.2,
  size: [document.documentElement.scrollWidth, document.documentElement.scrollHeight],
};
"""


class Seen(NamedTuple):
    """What a browser reports of a page."""

    claims: int  # that the page judges
    scheme: str
    width: int  # of the screen
    complaints: list[str]  # of the console
    requests: list[str]
    facts: dict


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for name in ("headless=new", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"):
        options.add_argument(f"--{name}")
    options.add_argument("--disable-background-networking")
    options.add_argument("--disable-component-update")
    if os.geteuid() == 0:  # Chromium has no sandbox for root
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=discover(studies))
def page(request, tmp_path_factory):
    """The report of a study, of the kept results or else of invented ones, and its claims."""
    name, out = request.param, tmp_path_factory.mktemp("report")
    _, study = load(name, studies, Study)
    kept = ROOT / "experiments/results"
    settings = {"settings": dataclasses.asdict(study.quick)}
    if (kept / name / "results.csv").exists():
        shutil.copytree(kept / name, out, dirs_exist_ok=True)
        settings = json.loads((out / "run.json").read_text("utf-8"))
    elif name == "horizon":
        write(out, TWO, **settings)
    else:
        worlds(study, study.quick)[-1].to_csv(out / "results.csv", index=False)
        (out / "run.json").write_text(json.dumps(settings), encoding="utf-8")
    study.report(out, Console(file=io.StringIO()))
    ran = restore(study.settings, settings["settings"])
    return name, out / "report.html", len(study.claims(ran))


@pytest.fixture(scope="module", params=itertools.product(("light", "dark"), SCREENS), ids="-".join)
def seen(request, browser, page):
    (name, path, claims), (scheme, screen) = page, request.param
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREENS[screen])
    for log in ("browser", "performance"):
        browser.get_log(log)  # what went before is forgotten
    browser.get(path.as_uri())
    facts = browser.execute_script(FACTS)
    _keep(browser, f"{name}-{scheme}-{screen}.png", facts["size"])
    log = [entry for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    asked = [params["request"]["url"] for params in sent]
    assert path.as_uri() in asked  # or else nothing would be known of the others
    others = [url[:200] for url in asked if url != path.as_uri() and not url.startswith("data:")]
    complaints = [entry["message"] for entry in log]
    return Seen(claims, scheme, SCREENS[screen]["width"], complaints, others, facts)


def _keep(browser, name, size):
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], TALLEST), "scale": 1}
    shot = {"captureBeyondViewport": True, "clip": clip}
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    data = browser.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
    (ARTEFACTS / name).write_bytes(base64.b64decode(data))


def test_the_page_asks_for_nothing(seen):
    assert seen.requests == []


def test_the_browser_has_no_complaint(seen):
    assert seen.complaints == []


def test_the_picture_is_there(seen):
    assert len(seen.facts["pictures"]) == 1
    assert seen.facts["pictures"][0] > 0


def test_the_page_is_no_wider_than_the_screen(seen):
    assert seen.facts["size"][0] <= seen.width


def test_every_text_can_be_read_on_its_ground(seen):
    assert seen.facts["dark"] == (seen.scheme == "dark")
    assert len(seen.facts["contrasts"]) > 20
    assert [text for text in seen.facts["contrasts"] if text[0] < 4.5] == []


def test_every_claim_has_its_verdict_in_a_word_and_a_mark(seen):
    words, ends = zip(*seen.facts["verdicts"], strict=True) if seen.claims else ((), ())
    assert len(words) == len(seen.facts["verdicts"]) == seen.claims
    assert set(words) <= {"✓ holds", "✗ does not hold", "? not measured"}
    assert all(end <= seen.width for end in ends)  # in sight, without moving the table
