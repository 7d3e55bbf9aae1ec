"""A page as what reads it: a parser, and a real browser where one is installed."""

import html
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Tags with their attributes, all text, and the rows of tables as lists of their cells' texts."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text.append(data)
        if self.in_cell:
            self.rows[-1][-1] += data

    @property
    def all_text(self) -> str:
        return " ".join(" ".join(self.text).split())


def browse(chromium: str, page: str, folder: Path, then: str, width: int = 1300) -> tuple[str, list[str]]:
    """The page in a frame of this width, after the script `then` of a page around it; and what the console has."""
    framed = html.escape(page)  # a window cannot be as narrow as a phone, a frame can
    frame = f'<iframe style="width: {width}px; border: 0" srcdoc="{framed}" onload="{html.escape(then)}"></iframe>'
    (folder / "frame.html").write_text(f"<title></title><pre></pre>{frame}", encoding="utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
               f"--user-data-dir={folder / 'profile'}", "--dump-dom", "--window-size=1400,900",
               (folder / "frame.html").as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = html.unescape(re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)[1])
    return said, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
