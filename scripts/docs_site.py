# SPDX-License-Identifier: Apache-2.0
"""Hooks of mkdocs: the navigation by what the folders hold, the root's pages among it, and nothing from elsewhere.

A page's title is its first heading, so that a new page needs no entry anywhere.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# Pages of the root, which people look for there, by their place in the site.
ROOT_PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "explanation/architecture.md",
    "SECURITY.md": "explanation/security-policy.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
}
SECTIONS = {
    "Tutorial": "tutorial",
    "How-to": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
    "Decisions": "decisions",
    "Project": "project",
}
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)]*)?\))")
# What a browser fetches by itself: scripts, styles, pictures, frames. Links that people follow are another matter.
LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//|<link\b(?![^>]*canonical)[^>]*href=\"(?:https?:)?//"
)


def list_pages(folder: str) -> list[str]:
    pages = [path.relative_to(DOCS).as_posix() for path in (DOCS / folder).glob("*.md")]
    return sorted(pages + [place for place in ROOT_PAGES.values() if place.startswith(f"{folder}/")])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav = [
        {"Volant": "index.md"},
        *({title: list_pages(folder)} for title, folder in SECTIONS.items()),
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, place in ROOT_PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links as they are right in the sources, between the root and docs/, become right in the site."""
    place = page.file.src_uri
    source = next((name for name, moved in ROOT_PAGES.items() if moved == place), f"docs/{place}")

    def move(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        if target in ROOT_PAGES:
            moved = ROOT_PAGES[target]
        elif target.startswith("docs/"):
            moved = target.removeprefix("docs/")
        else:
            return link[0]
        if (ROOT / target).is_dir():
            moved = next(iter(list_pages(moved)))
        return link[1] + posixpath.relpath(moved, posixpath.dirname(place) or ".") + link[3]

    return LINK.sub(move, markdown)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from elsewhere: {found[0]}")
    return output
