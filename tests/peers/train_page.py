"""Checks the page of `lorakit train --html` in Chromium, of a run that was interrupted and went on: curves, hover, keys,
samples, settings, narrow and wide windows; no errors, nothing loaded.

Usage: train_page.py LORAKIT [FOLDER]; FOLDER receives screenshots in light and dark, and of a narrow window.
Needs chromium, chromium-driver and selenium.
"""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from chromium import browser, check_quiet, check_widths, coloured, resized, section
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTILE = '</script><script>document.title="taken"</script><img src=x onerror=document.title="taken">'
STEPS = 120


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_curves(driver, output):
    rows = lines(output / "metrics.jsonl")
    losses = {row["step"]: row["loss"] for row in rows if row["loss"] is not None}
    validations = [row for row in rows if row["eval_loss"] is not None]
    assert sorted(losses) == list(range(1, STEPS + 1)), "the run was interrupted, and has all its steps"
    charts = section(driver, "Curves").find_elements(By.CSS_SELECTOR, "svg[role=slider]")
    assert [chart.get_attribute("aria-label").split(",")[0] for chart in charts] == \
        ["Loss", "Learning rate by step", "Gradient norm", "Tokens a second by step", "Memory by step"]
    loss = charts[0]
    assert len(loss.find_elements(By.CSS_SELECTOR, "path.curve")) == 1
    assert len(loss.find_elements(By.CSS_SELECTOR, "circle.point")) == len(validations) >= 3
    path = loss.find_element(By.CSS_SELECTOR, "path.curve").get_attribute("d")
    assert path.count("L") == STEPS - 1 and "NaN" not in path

    card = driver.find_element(By.ID, "card")
    assert not card.is_displayed()
    webdriver.ActionChains(driver).move_to_element(loss).perform()
    assert card.is_displayed() and "gradient norm" in card.text
    step = int(card.find_element(By.TAG_NAME, "h3").text.removeprefix("step "))
    assert f"{losses[step]:.4f}" in card.text, card.text
    assert loss.find_element(By.CSS_SELECTOR, ".cursor").get_attribute("d"), "nothing marks the step"
    webdriver.ActionChains(driver).move_to_element(driver.find_element(By.TAG_NAME, "h1")).perform()
    assert not card.is_displayed(), "the card stays"

    # By the keyboard.
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    focused = driver.switch_to.active_element
    assert focused == loss, "the first chart is the first stop of the tab key"
    for keys, step in ((Keys.HOME, 1), (Keys.ARROW_RIGHT, 2), (Keys.END, STEPS), (Keys.ARROW_LEFT, STEPS - 1)):
        webdriver.ActionChains(driver).send_keys(keys).perform()
        assert card.find_element(By.TAG_NAME, "h3").text == f"step {step}"
        assert focused.get_attribute("aria-valuetext").startswith(f"step {step}: loss {losses[step]:.4f}, ")
    webdriver.ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    assert not card.is_displayed()
    box = section(driver, "Curves").find_element(By.CSS_SELECTOR, "input[type=checkbox]")
    driver.execute_script("arguments[0].focus()", box)
    webdriver.ActionChains(driver).send_keys(Keys.SPACE).perform()
    bent = loss.find_element(By.CSS_SELECTOR, "path.curve").get_attribute("d")
    assert bent != path and "NaN" not in bent


def check_samples(driver, output):
    samples = lines(output / "samples.jsonl")
    articles = section(driver, "Samples").find_elements(By.TAG_NAME, "article")
    assert len(articles) == len({sample["sample"] for sample in samples}) == 2
    for article, number in zip(articles, (1, 2)):
        own = [sample for sample in samples if sample["sample"] == number]
        text = article.get_attribute("textContent")
        for sample in own:
            assert sample["answer"].strip() in text, sample
        assert own[0]["expected"] in text and "step 0" in text
    assert driver.title.endswith("lorakit train") and not driver.find_elements(By.TAG_NAME, "img")
    assert HOSTILE in articles[0].text, "prompts are no markup"


def check_settings(driver):
    changed = {node.text for node in section(driver, "Settings").find_elements(By.TAG_NAME, "strong")}
    assert {str(STEPS), "0.005"} <= changed and "64" not in changed, changed
    assert "all steps are done" in section(driver, "Result").text


def screenshots(driver, folder):
    driver.refresh()
    driver.set_window_size(1280, 2600)
    for scheme in ("light", "dark"):
        coloured(driver, scheme)
        loss = driver.find_element(By.CSS_SELECTOR, "svg[role=slider]")
        webdriver.ActionChains(driver).move_to_element(loss).perform()
        driver.save_screenshot(str(folder / f"train-{scheme}.png"))
    resized(driver, 400)
    driver.save_screenshot(str(folder / "train-400.png"))


def main():
    lorakit = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = [json.loads(line) for line in (ROOT / "fixtures/tiny-json/heldout.jsonl").read_text().splitlines()[:2]]
        rows[0]["messages"][0]["content"] += HOSTILE
        (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        output, page = folder / "out", folder / "page.html"
        line = [lorakit, "train", "--model", ROOT / "fixtures/tiny-orders", "--data", ROOT / "fixtures/tiny-json/train.jsonl", "-o", output,
                "--max-steps", str(STEPS), "--lr", "5e-3", "--batch-size", "4", "--seq-len", "128", "--val", "0.02", "--eval-every", "20", "--save-every", "10",
                "--sample-prompts", folder / "prompts.jsonl", "--sample-every", "40", "-t", "2", "-q", "--html", page, "--resume"]
        run = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not (output / "checkpoint-30").exists():
            assert run.poll() is None, "the run has ended"
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        _, stderr = run.communicate()
        assert run.returncode == 130, stderr.decode()
        assert "interrupted" in page.read_text(), "an interrupted run has a page"
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        driver = browser()
        try:
            driver.get(page.as_uri())
            check_curves(driver, output)
            check_samples(driver, output)
            check_settings(driver)
            check_widths(driver)
            check_quiet(driver, page)
            if len(sys.argv) > 2:
                screenshots(driver, pathlib.Path(sys.argv[2]))
        finally:
            driver.quit()
    print("peers: the page of a run works in Chromium and loads nothing")


main()
