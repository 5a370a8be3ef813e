"""Checks the pages of `lorakit inspect --html` in Chromium: figures, hover, keys, sorting, narrow and wide windows; no
errors, nothing loaded.

Usage: report_page.py LORAKIT [FOLDER]; FOLDER receives screenshots in light and dark, and of three widths.
Needs chromium, chromium-driver and selenium.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from chromium import browser, check_quiet, check_widths, coloured, requests, resized
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ADAPTER = ROOT / "fixtures/smollm2-orders-lora"
HOSTILE = 'x</script><script>document.title="taken"</script><img src=x onerror=document.title="taken">'


def column(driver, index):
    cells = driver.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({index})")
    return [cell.text for cell in cells]


def check_trained(driver, report):
    modules = report["reports"][0]["modules"]
    assert "No problems found" in driver.find_element(By.CSS_SELECTOR, "p.good").text
    figures = driver.find_elements(By.CSS_SELECTOR, "svg")
    assert len(figures) == 2 + 7, f"{len(figures)} figures"
    assert all(figure.get_attribute("aria-label") for figure in figures), "a figure has no name"
    cells = driver.find_elements(By.CSS_SELECTOR, "rect.cell")
    assert len(cells) == 2 * len(modules)
    assert all(cell.get_attribute("aria-label") for cell in cells), "a cell has no name"
    assert len({cell.value_of_css_property("fill") for cell in cells}) > 5, "the heat maps are flat"

    card = driver.find_element(By.ID, "card")
    assert not card.is_displayed()
    webdriver.ActionChains(driver).move_to_element(cells[40]).perform()
    assert card.is_displayed() and "effective rank" in card.text and card.find_elements(By.CSS_SELECTOR, "svg path.median")
    webdriver.ActionChains(driver).move_to_element(driver.find_element(By.TAG_NAME, "h1")).perform()
    assert not card.is_displayed(), "the card stays"

    stops = [cell for cell in cells if cell.get_attribute("tabindex") == "0"]
    assert len(stops) == 2, "one stop of the tab key for each heat map"
    driver.execute_script("arguments[0].focus()", stops[0])
    webdriver.ActionChains(driver).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN).perform()
    focused = driver.switch_to.active_element
    assert ", layer 1: norm " in focused.get_attribute("aria-label"), focused.get_attribute("aria-label")
    assert card.is_displayed(), "the focus shows no card"
    webdriver.ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    assert not card.is_displayed()

    heads = driver.find_elements(By.CSS_SELECTOR, "thead th")
    names = [head.text for head in heads]
    norm = names.index("norm") + 1
    for order, sign in (("descending", -1), ("ascending", 1)):
        heads[norm - 1].find_element(By.TAG_NAME, "button").click()
        assert heads[norm - 1].get_attribute("aria-sort") == order
        values = [float(text) for text in column(driver, norm)]
        assert len(values) == len(modules) and values == sorted(values, key=lambda v: sign * v), order
    heads[0].find_element(By.TAG_NAME, "button").click()
    layers = [int(text) for text in column(driver, 2)]
    assert layers == sorted(layers), "names are sorted by their numbers"
    driver.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("q_proj")
    shown = [row for row in driver.find_elements(By.CSS_SELECTOR, "tbody tr") if row.is_displayed()]
    assert len(shown) == 30, f"{len(shown)} modules are shown"


def check_maps(driver, width):
    """A map that must scroll says so, and keeps its names in view."""
    maps = driver.find_elements(By.CSS_SELECTOR, ".scroll:has(.map)")
    assert len(maps) == 2
    for place in maps:
        clipped = driver.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", place)
        assert clipped == (width == 400), f"at {width} the map is {'' if clipped else 'not '}clipped"
        hint = place.find_element(By.XPATH, "preceding-sibling::p")
        assert hint.is_displayed() == clipped, f"at {width}: {hint.text}"
        names = place.find_element(By.CLASS_NAME, "kinds")
        before = names.location["x"]
        driver.execute_script("arguments[0].scrollLeft = 150", place)
        moved = driver.execute_script("return arguments[0].scrollLeft", place)
        assert (moved > 0) == clipped and names.location["x"] == before, "the names scroll away"
    side_by_side = maps[0].location["y"] == maps[1].location["y"]
    assert side_by_side == (width == 1900), f"at {width} the maps are {'' if side_by_side else 'not '}side by side"
    used = driver.find_element(By.TAG_NAME, "main").size["width"] / width
    assert used > 0.9, f"at {width} the page uses {used:.0%}"
    for cell in driver.find_elements(By.CSS_SELECTOR, "h1, h2, h3, dd, dt, .findings li"):
        box = cell.rect
        assert box["x"] + box["width"] <= width, f"at {width} `{cell.text}` is cut off"


def check_hostile(driver):
    assert driver.title != "taken" and not driver.find_elements(By.TAG_NAME, "img")
    assert HOSTILE in driver.find_element(By.TAG_NAME, "dl").text


def check_listing(driver, report):
    assert driver.title != "taken" and not driver.find_elements(By.TAG_NAME, "img")
    entries = {entry["path"]: entry for entry in report["entries"]}
    heads = driver.find_elements(By.CSS_SELECTOR, "thead th")
    names = [head.text for head in heads]
    paths = column(driver, 1)
    assert len(paths) == len(entries) == 3, paths
    size = heads[names.index("size")]
    for order, sign in (("descending", -1), ("ascending", 1)):
        size.find_element(By.TAG_NAME, "button").click()
        assert size.get_attribute("aria-sort") == order
        values = [sign * entries[path]["bytes"] for path in column(driver, 1)]
        assert values == sorted(values), order
    findings = heads[names.index("findings")]
    findings.find_element(By.TAG_NAME, "button").click()
    assert column(driver, 1)[0] == "broken", "the gravest come first"
    details = driver.find_element(By.TAG_NAME, "details")
    assert "error unreadable" in details.text and "not valid" not in details.text
    details.find_element(By.TAG_NAME, "summary").click()
    assert entries["broken"]["findings"][0]["message"] in details.text, details.text
    driver.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("host")
    shown = [row for row in driver.find_elements(By.CSS_SELECTOR, "tbody tr") if row.is_displayed()]
    assert len(shown) == 1 and HOSTILE in shown[0].text, shown


def screenshots(driver, folder):
    driver.refresh()
    driver.set_window_size(1280, 2600)
    title, cell = driver.find_element(By.TAG_NAME, "h1"), driver.find_elements(By.CSS_SELECTOR, "rect.cell")[40]
    for scheme in ("light", "dark"):
        coloured(driver, scheme)
        webdriver.ActionChains(driver).move_to_element(title).move_to_element(cell).perform()
        driver.save_screenshot(str(folder / f"{scheme}.png"))
    for width in (400, 1000, 1900):
        resized(driver, width)
        driver.save_screenshot(str(folder / f"{width}.png"))


def main():
    lorakit = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        hostile = folder / "zoo/hostile"
        shutil.copytree(ADAPTER, hostile)
        config = json.loads((hostile / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = HOSTILE
        (hostile / "adapter_config.json").write_text(json.dumps(config))
        shutil.copytree(ROOT / "fixtures/tiny-json-lora", folder / "zoo/tiny")
        (folder / "zoo/broken").mkdir()
        (folder / "zoo/broken/adapter_config.json").write_text("{")
        driver = browser()
        try:
            for adapter in (ADAPTER, hostile, folder / "zoo"):
                page = folder / f"{adapter.name}.html"
                line = [lorakit, "inspect", adapter, "--html", page, "--json"]
                listing = adapter.name == "zoo"
                run = subprocess.run(line + ["--recursive"] * listing, check=True, stdout=subprocess.PIPE)
                driver.get(page.as_uri())
                if adapter == hostile:
                    check_hostile(driver)
                else:
                    (check_listing if listing else check_trained)(driver, json.loads(run.stdout))
                    if not listing:
                        check_widths(driver, lambda width: check_maps(driver, width))
                check_quiet(driver, page)
                if len(sys.argv) > 2 and adapter == ADAPTER:
                    screenshots(driver, pathlib.Path(sys.argv[2]))
                    requests(driver)
        finally:
            driver.quit()
    print("peers: the report pages work in Chromium and load nothing")


main()
