"""Write docs/reference/python.md from the docstrings of the public names.

python docs/python_reference.py            # write the page
python docs/python_reference.py --check    # exit 1 if the page is out of date
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import lookalike as la
from lookalike.compare import RankedClass, Ranking, Verdict
from lookalike.search_options import SearchOptions
from lookalike.stores import Answer, Hit, Item

PAGE = Path(__file__).parent / "reference" / "python.md"

HEAD = """# Python

`make docs` writes this page from the docstrings, and a test runs its examples. Six longer examples are in
[examples/](../../examples).

```python
import lookalike as la

shop = la.open("shop", encoder="toyshop")
shop.add("photos", labels="folder")
hits = shop.search("mug.jpg", k=10)
```

`import lookalike` loads nothing; a name is loaded when you first use it. An image is a path, the content of a file
(`bytes`), a Pillow image, or a uint8 array of shape `(h, w)`, `(h, w, 3)` or `(h, w, 4)`. Functions that take an image
also take a list of images, and then return a list of answers.
"""

RESULTS: tuple[type, ...] = (SearchOptions, Answer, Hit, Item, Verdict, Ranking, RankedClass)
"""Types that the public functions return or take."""

_SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Yields", "Example")


def page() -> str:
    """Make the page."""
    functions = [name for name in la.__all__ if inspect.isroutine(getattr(la, name))]
    errors = [name for name in la.__all__ if name.endswith("Error")]
    parts = [HEAD, "## Functions\n"]
    parts += [_entry(f"la.{name}", getattr(la, name)) for name in functions]
    parts += ["## Collection\n", _entry("la.Collection", la.Collection)]
    parts += [_entry(f"Collection.{name}", member) for name, member in _members(la.Collection)]
    parts.append("## Results\n")
    for cls in RESULTS:
        parts.append(_entry(cls.__name__, cls))
        parts += [_entry(f"{cls.__name__}.{name}", member) for name, member in _members(cls) if _is_listed(cls, name)]
    tree = inspect.getdoc(la.errors) or ""
    parts += ["## Errors\n", "```" + tree.split("::\n")[1].rstrip() + "\n```\n"]
    parts += [_entry(f"la.{name}", getattr(la, name)) for name in errors]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def public_objects() -> Iterator[tuple[str, object]]:
    """Yield the name and the object of each entry of the page."""
    for name in la.__all__:
        yield f"la.{name}", getattr(la, name)
    for cls in (la.Collection, *RESULTS):
        yield cls.__name__, cls
        yield from ((f"{cls.__name__}.{name}", member) for name, member in _members(cls))


def _members(cls: type) -> Iterator[tuple[str, object]]:
    for name, member in vars(cls).items():
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
            yield name, member


def _is_listed(cls: type, name: str) -> bool:
    return not (issubclass(cls, tuple | dict) or name in ("count", "index"))


def _entry(name: str, thing: object) -> str:
    return f"### `{name}`\n\n{_signature(name, thing)}{_body(thing)}"


def _signature(name: str, thing: object) -> str:
    function = thing.__func__ if isinstance(thing, classmethod) else thing
    if not inspect.isfunction(function):
        return ""
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    shown, starred = [], False
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        text = str(parameter.replace(annotation=inspect.Parameter.empty))
        text = re.sub(r"<lookalike\.progress\.Silent object at 0x[0-9a-f]+>", "SILENT", text)
        shown.append(re.sub(r"=(<function .*|\w+\(.*\))$", "=…", text).replace("'", '"'))
    return f"```python\n{name}({', '.join(shown)})\n```\n\n"


def _body(thing: object) -> str:
    lines = (inspect.getdoc(thing) or "").splitlines()
    out: list[str] = []
    section, code = "", False
    for line in lines:
        if line.endswith(":") and line[:-1] in _SECTIONS:
            section, code = line[:-1], line == "Example:"
            out += ["", "```pycon" if code else f"{section}:", *([] if code else [""])]
            continue
        if code:
            out.append(line.removeprefix("    "))
        elif section:
            out.append(_list_line(line))
        else:
            out.append(line)
    text = "\n".join(out).rstrip() + ("\n```" if code else "")
    return re.sub(r"(?<!`)``(?!`)", "`", _code_blocks(text)) + "\n"


def _list_line(line: str) -> str:
    item = line.removeprefix("    ")
    if match := re.match(r"([\w, *]+?): (.*)", item):
        return f"- `{match[1]}`: {match[2]}"
    return f"  {item.strip()}" if item.strip() else ""


def _code_blocks(text: str) -> str:
    """Turn the literal blocks of a docstring (``::``) into fenced ones."""

    def fence(match: re.Match[str]) -> str:
        code = "\n".join(line.removeprefix("    ") for line in match[1].splitlines())
        return f"\n```python\n{code.strip()}\n```\n"

    return re.sub(r"\n::\n\n((?: {4}.*\n|\n)+)", fence, text)


def main() -> None:
    """Write the page, or check it."""
    new = page()
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == new else f"{PAGE} is out of date: run make docs.")
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
