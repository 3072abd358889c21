"""Rules of the layout: which module may import which, what an import loads, and how modules are named."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import lookalike

ROOT = Path(__file__).parent.parent
SOURCE = Path(lookalike.__file__).parent

# Third-party packages that any module may import.
ANYWHERE = {"numpy", "pydantic"}

# Third-party package → the modules and packages that may import it. No module may import a package that is not in this table,
# so add each new dependency here.
ALLOWED = {
    "PIL": ("images", "sample", "evaluation.copies", "evaluation.report"),
    "boto3": ("cloud",),
    "click": ("cli",),
    "cv2": ("learn.pseudo_sketches",),
    "faiss": ("search", "ann", "codecs.product"),
    "fastapi": ("server",),
    "h11": ("server.protocol",),
    "huggingface_hub": ("encoders.hub",),
    "jaxtyping": ("shapes",),
    "jinja2": ("compression_study.page", "evaluation.report", "duplicates.page", "cli.results"),
    "kornia": ("learn",),
    "lightning_fabric": ("learn",),
    "markupsafe": ("compression_study.page", "evaluation.report", "duplicates.page"),
    "matplotlib": ("compression_study.figures", "evaluation.report"),
    "onnx": ("learn",),
    "onnxruntime": ("encoders", "learn.quantise"),
    "onnxscript": ("learn",),
    "pandas": ("tables", "joins.pairs", "stores.answer", "duplicates.result"),
    "pgvector": ("stores.postgres",),
    "platformdirs": ("state",),
    "psycopg": ("stores.postgres",),
    "pyarrow": ("joins.formats", "joins.pairs", "tables", "stores.answer", "duplicates.result"),
    "pillow_heif": ("images",),
    "pymilvus": ("stores.milvus",),
    "pytorch_metric_learning": ("learn",),
    "ray": ("scale",),
    "rawpy": ("images",),
    "rich": ("cli",),
    "safetensors": ("codecs", "learn"),
    "scipy": ("search.sparse",),
    "sklearn": ("codecs.sklearn", "evaluation.report"),
    "python_multipart": ("server.forms",),
    "starlette": ("server",),
    "tokenizers": ("encoders.network",),
    "torch": ("learn",),
    "typer": ("cli",),
    "umap": ("codecs.umap",),
    "uvicorn": ("cli", "server.protocol"),
    "yaml": ("learn", "untrusted.parsing"),
}


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@cache
def modules() -> dict[str, ast.Module]:
    """Parse all modules of lookalike: name without the leading ``lookalike.`` → syntax tree."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of each import, at any depth of the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_modules_import_only_from_the_layers_below() -> None:
    lint = "from importlinter.cli import lint_imports_command as lint; lint()"
    run = python(lint, str(ROOT / "pyproject.toml"), "--no-cache")
    assert run.returncode == 0, run.stdout


def test_each_third_party_package_is_imported_only_where_the_table_allows() -> None:
    forbidden = []
    for module, tree in modules().items():
        for line, name in imports(tree):
            package = name.partition(".")[0]
            if package in sys.stdlib_module_names | ANYWHERE | {"lookalike"}:
                continue
            if not any(f"{module}.".startswith(f"{allowed}.") for allowed in ALLOWED.get(package, ())):
                forbidden.append(f"lookalike.{module}, line {line}: {package}")
    assert forbidden == []


def test_only_the_public_api_and_the_command_line_import_lookalike_inside_functions() -> None:
    inside = []
    for module, tree in modules().items():
        if module in {"", "__main__", "api", "cli"} or module.startswith("cli."):
            continue
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [(line, name) for line, name in imports(function) if name.startswith("lookalike")]
                inside += [f"lookalike.{module}, line {line}: {name}" for line, name in names]
    assert inside == []


def test_no_module_imports_the_public_api() -> None:
    submodules = {path.stem for path in SOURCE.iterdir()}
    users = [
        f"lookalike.{module}, line {line}: {name}"
        for module, tree in modules().items()
        for line, name in imports(tree)
        if name.startswith("lookalike.") and name.split(".")[1] not in submodules
    ]
    assert users == []


LEARNING = {"torch", "lightning_fabric", "kornia", "pytorch_metric_learning", "onnx", "safetensors"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("lookalike.server", LEARNING | {"onnxruntime", "typer"}),
        ("lookalike.collection", LEARNING | {"onnxruntime", "fastapi", "starlette", "uvicorn", "typer", "rich"}),
        ("lookalike.cli", LEARNING | {"onnxruntime", "fastapi", "starlette", "uvicorn"}),
        ("lookalike.learn.recipe", LEARNING),
    ],
)
def test_an_import_leaves_the_heavy_modules_out(module: str, heavy: set[str]) -> None:
    run = python(f"import sys, {module}; print(*sys.modules)")
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    assert module in loaded
    assert not loaded & heavy


def test_every_module_name_says_what_it_holds() -> None:
    names = {path.stem for path in SOURCE.rglob("*.py")}
    assert names.isdisjoint({"utils", "util", "base", "common", "helpers", "helper", "misc"})
