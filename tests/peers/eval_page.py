"""Checks the page of `lorakit eval --html` in Chromium: tables, sorting, answers, curves, keys; no errors, nothing loaded.

Usage: eval_page.py LORAKIT [FOLDER]; FOLDER receives screenshots in light and dark, and of a narrow window.
Needs chromium, chromium-driver and selenium.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from chromium import browser, check_quiet, check_widths, coloured, resized, section
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTILE = '</script><script>document.title="taken"</script><img src=x onerror=document.title="taken">'


def check_tables(driver, report):
    verdicts = section(driver, "Verdicts").find_elements(By.CSS_SELECTOR, ".verdicts li")
    judged = [c["verdict"]["outcome"].replace("_", " ") for c in report["candidates"] if c["verdict"]]
    assert [v.find_element(By.CSS_SELECTOR, ".severity").text for v in verdicts] == judged
    assert report["rule"] in section(driver, "Verdicts").text
    table = section(driver, "Figures")
    heads = table.find_elements(By.CSS_SELECTOR, "thead th")
    loss = [head.text for head in heads].index("loss") + 1
    # By the keyboard: the heading is a button.
    button = heads[loss - 1].find_element(By.TAG_NAME, "button")
    for order, sign in (("descending", -1), ("ascending", 1)):
        driver.execute_script("arguments[0].focus()", button)
        webdriver.ActionChains(driver).send_keys(Keys.ENTER).perform()
        assert heads[loss - 1].get_attribute("aria-sort") == order
        values = [float(cell.text) for cell in table.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({loss})")]
        assert len(values) == len(report["candidates"]) and values == sorted(values, key=lambda v: sign * v), values
    items = section(driver, "Regression items")
    assert items.find_element(By.CSS_SELECTOR, "tbody tr th").text == "broken", "the worst item comes first"
    details = items.find_elements(By.TAG_NAME, "details")[-1]
    driver.execute_script("arguments[0].focus()", details.find_element(By.TAG_NAME, "summary"))
    webdriver.ActionChains(driver).send_keys(Keys.ENTER).perform()
    assert details.get_attribute("open") is not None


def check_curves(driver, report):
    figures = section(driver, "Curves").find_elements(By.CSS_SELECTOR, "svg")
    assert len(figures) == 2 + len(report["sweeps"]), len(figures)
    assert all(figure.get_attribute("aria-label") for figure in figures), "a figure has no name"
    assert len(figures[2].find_elements(By.CSS_SELECTOR, "path.line")) == 2
    assert len(figures[2].find_elements(By.CSS_SELECTOR, "circle")) == 2 * len(report["sweeps"][0]["points"])


def check_rows(driver, report):
    rows = lambda: section(driver, "Rows").find_elements(By.CSS_SELECTOR, ".row")
    lines = lambda: [int(row.find_element(By.TAG_NAME, "h3").text.removeprefix("line ")) for row in rows()]
    harm = {row["line"]: row["made"][1]["loss"] - row["made"][0]["loss"] for row in report["rows"]}
    passes = lambda made: made["answer"] is not None and made["answer"]["exact"]
    lost = {row["line"]: passes(row["made"][0]) - passes(row["made"][1]) for row in report["rows"]}
    worst = sorted(harm, key=lambda line: (-lost[line], -harm[line]))
    assert lines() == worst[:20], "the worst come first"
    more = section(driver, "Rows").find_element(By.CSS_SELECTOR, "button.more")
    more.send_keys(Keys.ENTER)
    assert len(rows()) == len(report["rows"]) and not more.is_displayed()
    Select(driver.find_element(By.ID, "order")).select_by_value("line")
    assert lines() == [row["line"] for row in report["rows"][:20]]
    row, shown = report["rows"][0], rows()[0]
    for text in (row["prompt"], row["expected"], row["made"][1]["answer"]["text"]):
        assert text.strip() in shown.get_attribute("textContent"), text
    assert shown.find_elements(By.TAG_NAME, "mark"), "nothing shows where an answer differs"
    assert driver.title != "taken" and not driver.find_elements(By.TAG_NAME, "img")
    assert HOSTILE in rows()[0].text, "names and texts are no markup"


def screenshots(driver, folder):
    driver.refresh()
    driver.set_window_size(1280, 2400)
    driver.execute_script("history.scrollRestoration = 'manual'; scrollTo(0, 0)")
    for scheme in ("light", "dark"):
        coloured(driver, scheme)
        driver.save_screenshot(str(folder / f"eval-{scheme}.png"))
    resized(driver, 400)
    driver.save_screenshot(str(folder / "eval-400.png"))


def main():
    lorakit = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = [json.loads(line) for line in (ROOT / "fixtures/tiny-json/heldout.jsonl").read_text().splitlines()[:24]]
        rows[0]["messages"][0]["content"] += HOSTILE
        (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        items = [dict(name="fine", prompt="a", checks=dict(max_len=10_000)), dict(name="broken", prompt="a", checks=dict(max_len=0), must=True)]
        (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
        page = folder / "page.html"
        line = [lorakit, "eval", "--model", ROOT / "fixtures/tiny-orders", "--adapter", ROOT / "fixtures/tiny-json-lora",
                "--data", folder / "rows.jsonl", "--regression", folder / "items.jsonl", "--max-tokens", "64", "--answers", "6",
                "--scales", "0,0.5,1", "--null", "2", "--html", page, "--json"]
        run = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert run.returncode == 1, run.stderr.decode()
        report = json.loads(run.stdout)
        driver = browser()
        try:
            driver.get(page.as_uri())
            for check in (check_tables, check_curves, check_rows):
                check(driver, report)
            check_widths(driver)
            check_quiet(driver, page)
            if len(sys.argv) > 2:
                screenshots(driver, pathlib.Path(sys.argv[2]))
        finally:
            driver.quit()
    print("peers: the page of an evaluation works in Chromium and loads nothing")


main()
