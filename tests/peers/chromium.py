"""Chromium without a window, for the checks of pages."""

import json
import shutil

from selenium import webdriver
from selenium.webdriver.common.by import By


def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def requests(driver):
    """Addresses that were requested since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def resized(driver, width):
    """Gives the window another width, and waits until the page is laid out for it."""
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)))")


def check_widths(driver, also=lambda width: None):
    """No width makes the page itself scroll sideways; at each, `also` checks more."""
    for width in (400, 1000, 1900):
        resized(driver, width)
        page = driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert page <= 0, f"at {width} the page scrolls sideways by {page}"
        also(width)
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def check_quiet(driver, page):
    """The page has asked for nothing but itself, and its script has met no error."""
    outside = [url for url in requests(driver) if url != page.as_uri() and not url.startswith("data:")]
    assert not outside, f"the page asks for {outside}"
    errors = driver.get_log("browser")
    assert not errors, errors


def coloured(driver, scheme):
    """Gives the page the colours of a scheme, `light` or `dark`."""
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})


def section(driver, title):
    return driver.find_element(By.XPATH, f"//section[h2='{title}']")
