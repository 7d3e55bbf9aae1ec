"""Hooks of mkdocs: the README as the first page, a page of all settings, and links to files that are not in docs/."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from survey_jax.config import settings

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*src=["']?https?:[^>]*>|<link[^>]*stylesheet[^>]*https?:[^>]*>"""
)
_FREE = "A training that is resumed may change it."


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made of other files."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, text in {"index.md": _moved(readme, ROOT), "settings.md": settings_page()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links to files outside of docs/ as their paths."""
    return markdown if page.file.src_uri in ("index.md", "settings.md") else _moved(markdown, ROOT / "docs")


def on_post_build(config: MkDocsConfig) -> None:
    """Refuses a site of which a browser would fetch a part from elsewhere."""
    for file in Path(config.site_dir).rglob("*.html"):
        if found := _FETCHED.search(file.read_text(encoding="utf-8")):
            raise PluginError(f"{file}: would be fetched when it is read: {found[0]}")


def settings_page() -> str:
    """Every setting with its type, default and meaning, from survey_jax/config.py."""
    lines = [
        "# Settings",
        "",
        "`--config.optim.lr=1e-4` on the command line, or `OptimConfig(lr=1e-4)` in a config file.",
    ]
    section = ""
    for setting in settings():
        name, _, own = setting.name.removeprefix("config.").rpartition(".")
        if name != section:
            lines += ["", f"## {name}", "", "| setting | default | meaning |", "|---|---|---|"]
            section = name
        choices = f" One of {', '.join(map(repr, setting.choices))}." if setting.choices else ""
        meaning = f"{setting.comment}{'.' if setting.comment[-1:].isalnum() else ''}{choices}"
        meaning = " ".join(f"{meaning} {_FREE if setting.may_change else ''}".split()).replace("|", "\\|")
        lines.append(f"| `{own}` | `{setting.default!r}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _moved(markdown: str, folder: Path) -> str:
    """Markdown of a file in `folder` as that of a page in docs/."""

    def link(match: re.Match[str]) -> str:
        image, text, path, anchor = match[1], match[2], match[3], match[4] or ""
        if not path or "://" in path:
            return match[0]
        place = posixpath.relpath((folder / path).resolve().as_posix(), ROOT.resolve().as_posix())
        if place == "README.md":
            return f"[{text}](index.md{anchor})"
        if place.startswith("docs/"):
            return f"{image}[{text}]({place.removeprefix('docs/')}{anchor})"
        return text if place in text else f"{text} (`{place}`)"

    return _LINK.sub(link, markdown)
