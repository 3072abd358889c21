"""The house rules: who may import whom, what an import drags in, and what modules are called."""

import subprocess
import sys
from pathlib import Path

import pytest

import lookalike

ROOT = Path(__file__).parent.parent


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_imports_keep_to_the_contracts_in_pyproject() -> None:
    lint = "from importlinter.cli import lint_imports_command as lint; lint()"
    run = python(lint, "--config", str(ROOT / "pyproject.toml"), "--no-cache")
    assert run.returncode == 0, run.stdout


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


def test_no_module_has_a_name_that_says_nothing() -> None:
    modules = {path.stem for path in Path(lookalike.__file__).parent.rglob("*.py")}
    assert modules.isdisjoint({"utils", "util", "base", "common", "helpers", "helper", "misc"})
