"""Clicks through the pages of `slotstorm serve` in headless Chromium, as a person would, and looks at each.

Usage: browser_clicks.py URL

A storm is running or about to; there are a campaign `clicks` with two nights, and two single runs. Ends with an error at the
first thing that is not as it should be. SLOTSTORM_SCREENSHOTS: a folder for a picture of every page, light and dark.
"""

import os
import sys
import tempfile
from urllib.parse import unquote

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

WIDTH = 900
URL = sys.argv[1].rstrip("/")
PICTURES = os.environ.get("SLOTSTORM_SCREENSHOTS")


def browser(profile):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-proxy-server",
        f"--user-data-dir={profile}",
        f"--window-size={WIDTH},1000",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


class Person:
    def __init__(self, driver):
        self.driver = driver
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": WIDTH, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
        )

    def wait(self, what, holds, seconds=20):
        WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: holds(), what)

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css="body"):
        return self.find(css).text

    def texts(self, css):
        """All at one moment: the live view replaces what it shows twice a second."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return self.driver.execute_script(script, css)

    def click(self, element):
        """A real click, and the page that it leads to is there."""
        before = self.driver.current_url
        element.click()
        self.wait(f"a click leads away from {before}", lambda: self.driver.current_url != before)

    def follow(self, words):
        self.click(self.driver.find_element(By.LINK_TEXT, words))

    def look(self, name):
        """What must hold on every page; and its picture, light and dark."""
        wide = self.driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= WIDTH, f"{name}: {wide} pixels wide"
        assert self.driver.title.endswith("Slotstorm"), f"{name}: the title is {self.driver.title!r}"
        assert len(self.all("h1")) == 1, f"{name}: one heading of the first order"
        unnamed = self.driver.execute_script(UNNAMED)
        assert not unnamed, f"{name}: without a name for a screen reader: {unnamed}"
        wrong = self.driver.get_log("browser")
        assert not wrong, f"{name}: {wrong}"
        paper = {}
        for scheme in ("light", "dark"):
            self.driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            )
            paper[scheme] = self.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            weak = self.driver.execute_script(WEAK)
            assert not weak, f"{name}, {scheme}: text that is hard to read: {weak}"
            if PICTURES:
                self.picture(f"{name}-{scheme}")
        assert paper["light"] != paper["dark"], f"{name}: {paper}"

    def picture(self, name):
        import base64

        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": min(size["height"], 6000), "scale": 1}
        shot = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip}
        )
        with open(os.path.join(PICTURES, f"{name}.png"), "wb") as file:
            file.write(base64.b64decode(shot["data"]))


# Links, buttons and fields without words, and pictures without a description.
UNNAMED = """
const named = e => (e.textContent || e.getAttribute("aria-label") || e.getAttribute("alt") || "").trim();
const fields = [...document.querySelectorAll("input, select")].filter(e => !e.labels.length);
const things = [...document.querySelectorAll("a, button, svg[role=img], img, figure")].filter(
    e => !named(e) && !e.getAttribute("aria-label"));
return [...fields, ...things].map(e => e.outerHTML.slice(0, 80));
"""

# Visible text whose contrast with its background is below WCAG's 4.5 (1.4.3).
WEAK = """
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => { const f = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length && (c.length < 4 || c[3] > 0)) return c; } return [255, 255, 255]; };
const weak = [];
for (const e of document.querySelectorAll("body *")) {
    if (e.closest("svg") || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    if (!e.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) weak.push(e.tagName + " " + e.textContent.trim().slice(0, 30) + " " + ratio.toFixed(1));
}
return weak.slice(0, 5);
"""


def live(person):
    """The storm as it happens."""
    person.driver.get(URL + "/live")
    person.wait("the storm is seen", lambda: person.text("h1").startswith("live on embedded"))
    person.wait("six nodes with roles", lambda: roles(person)["master"] >= 3 and sum(roles(person).values()) == 6)
    # While it is cut off, an old master claims its slots beside the new one.
    person.wait("the slots have owners", lambda: len(person.all("#slots rect")) >= 3)
    person.wait("operations are counted", lambda: " 0 ok/s" not in person.text("#line"))
    person.wait("a cut link is listed", lambda: len(person.all("#links tr")) > 0)
    assert "isolate" in person.text("#happened")
    person.look("live")
    person.wait("a dead node is marked", lambda: any("killed" in text for text in person.texts("#nodes li.bad")))
    person.wait("another node has taken over", lambda: "is master with epoch" in person.text("#happened"))


def roles(person):
    words = person.texts("#nodes li")
    return {role: sum(f"{role}," in text for text in words) for role in ("master", "replica")}


def campaign(person):
    """From the overview to a night, and to the page of one of its runs."""
    person.follow("Overview")
    assert "clicks" in person.text()
    assert len(person.all("table td.heat")) >= 2
    person.look("home")
    person.click(person.all("#main section table a")[0])
    assert "Failures" in person.text() and "Numbers" in person.text()
    person.look("night")
    person.find("details summary").click()
    person.wait("the list of runs opens", lambda: person.all("details[open] tbody a"))
    person.click(person.all("details[open] tbody a")[0])
    person.wait("a run's report", lambda: "See it again" in person.text())
    person.look("report")


def one_run(person):
    """A run, its history, and one key of it through the faults."""
    person.driver.get(URL + "/")
    runs = [link for link in person.all("a") if "/run/" in (link.get_attribute("href") or "")]
    person.click(runs[0])
    person.look("run")
    person.follow("History")
    person.look("history")
    key = person.find("tbody a").text
    person.click(person.find("tbody a"))
    assert f"key={key}" in unquote(person.driver.current_url)
    keys = {row.text for row in person.all("tbody td:nth-child(6)")}
    assert keys <= {key, ""} and key in keys, keys
    assert any(row.text in ("fault", "phase") for row in person.all("tbody td:nth-child(5)")), "faults stay in sight"
    Select(person.find("select[name=kind]")).select_by_value("ok")
    person.click(person.find("form button"))
    assert {row.text for row in person.all("tbody td:nth-child(3)")} == {"ok"}
    person.look("history-of-a-key")


def compare(person):
    person.follow("Overview")
    Select(person.find("select[name=b]")).select_by_index(1)
    person.click(person.find("form button"))
    assert "differs" in person.text("table")
    person.look("compare")


def files(person):
    person.follow("Files")
    person.look("files")
    person.follow("runs/")
    person.click(person.all("tbody a")[1])
    person.follow("This run")
    assert "/run/runs/" in person.driver.current_url


def keyboard(person):
    """The first stop of the tabulator key leads past the navigation."""
    person.driver.get(URL + "/")
    person.find("body").send_keys(Keys.TAB)
    first = person.driver.switch_to.active_element
    assert first.text == "To the content", first.text
    first.send_keys(Keys.ENTER)
    assert person.driver.current_url.endswith("#main")


def main():
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        try:
            person = Person(driver)
            for part in (live, campaign, one_run, compare, files, keyboard):
                part(person)
        finally:
            driver.quit()


main()
