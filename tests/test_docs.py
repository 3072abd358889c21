"""Documentation agrees with the code. test_cli.py checks the commands, test_server.py the routes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from lookalike.learn import recipe, study

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lookalike"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_is_valid(page: Path) -> None:
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
def test_the_page_of_bad_input_is_up_to_date() -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "bad_input.py", "--check"], check=True)


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo\nmake test\n" in text


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    questions = re.findall(r"^\| (Where .+\?) \| `(src/.+)` \|$", text, re.MULTILINE)
    assert len(questions) >= 20
    assert [(question, file) for question, file in questions if not (ROOT / file).is_file()] == []


def test_contributing_says_how_to_add_each_kind_of_part() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for part in ("store", "loss", "network", "codec", "metric", "command", "route", "error", "setting", "encoder"):
        assert re.search(rf"^### Add an? {part}", text, re.MULTILINE), part


def test_the_design_lists_every_module() -> None:
    listing = (
        (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("src/lookalike/\n")[2].partition("```")[0]
    )
    named = re.findall(r"([\w]+)(?:\.py|/)(?= )", listing)
    modules = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert modules - {"__main__"} <= set(named)
    assert set(named) <= {path.stem for path in SOURCE.rglob("*")}


def test_the_records_of_decisions_are_numbered_dated_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(folder.glob("0*.md"))
    table = (folder / "README.md").read_text(encoding="utf-8")
    for number, path in enumerate(records, 1):
        text = path.read_text(encoding="utf-8")
        title, date = re.match(r"# (\d+\. .+)\n\nDate: (\d{4}-\d\d-\d\d)", text).groups()  # type: ignore[union-attr]
        assert title.startswith(f"{number}. ")
        assert f"| [{number:04d}]({path.name}) | {date} | {title.partition(' ')[2]} |" in table
        assert re.findall("^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_a_makefile_target_is_what_the_docs_and_ci_call() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    files = [*PAGES, ROOT / ".ci" / "run", ROOT / ".github" / "workflows" / "ci.yml"]
    for path in files:
        called = re.findall(r"(?:^|`|run: )make ([a-z][\w-]*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(called) <= targets, path
