"""Headless Chromium for tests of web pages; they are skipped where there is none."""

import os
import shutil

import pytest


def dom_nodes(driver) -> int:
    """Nodes of the page that is open, text included."""
    return driver.execute_script(
        "const walk = document.createTreeWalker(document, NodeFilter.SHOW_ALL);"
        "let count = 0; while (walk.nextNode()) count++; return count"
    )


def open_browser():
    """A driver of headless Chromium."""
    if not shutil.which("chromedriver") or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("needs chromium and chromedriver")
    pytest.importorskip("selenium", reason="needs requirements-dev.txt")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for flag in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses root otherwise, as in containers
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
