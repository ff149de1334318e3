"""What tests read from web pages."""

import os
import string
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

URL_CHARACTERS = {*string.ascii_letters, *string.digits, *"/-._~%"}


class Nodes(HTMLParser):
    """Counts elements and texts, and collects links and headings."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.count, self.links, self.headings, self.neighbours, self._tag = 0, [], [], {}, ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.count += 1
        self._tag = tag
        given = dict(attrs)
        self.links += [given[name] for name in ("href", "src") if name in given]
        if "rel" in given:
            assert given["rel"] not in self.neighbours  # the script takes the first
            self.neighbours[given["rel"]] = given["href"]

    def handle_data(self, data: str) -> None:
        self.count += 1
        if self._tag == "h2":
            self.headings.append(data)
        self._tag = ""


def assert_links_work(page: Path) -> None:
    links = Nodes(page).links
    assert links
    for link in links:
        assert not link.startswith(("http", "//", "/", "data:")), link  # nothing from elsewhere
        assert set(link) <= URL_CHARACTERS, link
        assert os.path.isfile(os.fsencode(page.parent) + b"/" + unquote_to_bytes(link)), link
