"""Documentation that cannot lie. Commands are checked in test_cli.py, routes in test_server.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from lookalike.learn import recipe, study

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_setting_of_recipes_and_studies_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")
    parts = [m for m in vars(recipe).values() if isinstance(m, type) and issubclass(m, BaseModel)]
    assert len(parts) > 10
    models: list[type[BaseModel]] = [*parts, study.Study, study.Measure]
    for model in models:
        for name in model.model_fields:
            assert re.search(rf"`(\w+\.)?{name}[`:]", text), f"{model.__name__}.{name}"


@pytest.mark.slow
def test_the_page_of_bad_input_says_what_it_gives() -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "bad_input.py", "--check"], check=True)


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo\nmake test\n" in text
