"""Hold the pages together: every link and picture of the README and of docs is a file of this tree."""

import re

import pytest
from conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    lost = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not lost


def test_the_readme_and_the_front_page_lead_to_every_page():
    front = (ROOT / "README.md").read_text() + (ROOT / "docs/index.md").read_text().replace("](", "](docs/")
    assert [p.name for p in (ROOT / "docs").glob("*.md") if f"](docs/{p.name})" not in front] == []
