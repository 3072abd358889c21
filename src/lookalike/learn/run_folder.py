"""The files of a training run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lookalike import atomic
from lookalike.errors import AlreadyExistsError, MismatchError, NotFoundError, StorageError, reason_of
from lookalike.learn import checkpoint
from lookalike.learn import recipe as recipes
from lookalike.learn.recipe import Recipe
from lookalike.learn.state import saved_result
from lookalike.untrusted import parsing

RECIPE = "recipe.yaml"
LOG = "metrics.jsonl"
CHECKPOINT = "checkpoint.safetensors"
STAGES = "stages"
ENCODER = "encoder"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a training run.

    ``recipe.yaml`` is the recipe with every default; ``metrics.jsonl`` has a line per epoch; ``checkpoint.safetensors`` is
    the state after the last epoch; ``stages/NAME.safetensors`` are the resulting weights of each stage, if there are several;
    ``encoder/`` is the artefact, and ``report.html`` is beside it. Each file is written atomically.
    """

    path: Path

    @property
    def encoder(self) -> Path:
        """The artefact's folder."""
        return self.path / ENCODER

    def check_new(self) -> None:
        """Check that the folder is free for a new run.

        Raises:
            AlreadyExistsError: the folder is not empty.
            StorageError: no folder can have this path.
        """
        try:
            is_taken = self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir()))
        except OSError as e:
            raise StorageError(f"{self.path} cannot be used: {reason_of(e)}. Choose another folder.") from e
        if is_taken:
            raise AlreadyExistsError(
                f"{self.path} already exists. If it is a run, resume it: lookalike train {self.path}; or choose another "
                "folder."
            )

    def begin(self, recipe: Recipe) -> None:
        """Make the folder and write the recipe."""
        self.path.mkdir(parents=True, exist_ok=True)
        atomic.write_text(self.path / RECIPE, recipe.to_yaml())

    def has_recipe(self) -> bool:
        """Check whether the folder has a run."""
        return (self.path / RECIPE).is_file()

    def has_checkpoint(self) -> bool:
        """Check whether the run has finished an epoch."""
        return (self.path / CHECKPOINT).is_file()

    def read_recipe(self) -> Recipe:
        """Read the run's recipe.

        Raises:
            NotFoundError: there is no run in the folder.
        """
        if not self.has_recipe():
            raise NotFoundError(f"There is no run in {self.path}: it has no {RECIPE}.")
        return recipes.read(self.path / RECIPE)

    def write_checkpoint(self, tree: dict[str, Any]) -> None:
        """Write the state after an epoch."""
        checkpoint.save(self.path / CHECKPOINT, tree)

    def read_checkpoint(self) -> dict[str, Any]:
        """Read the state after the last epoch.

        Raises:
            MismatchError: the file is not a checkpoint.
        """
        return checkpoint.load(self.path / CHECKPOINT)

    def write_log(self, lines: Sequence[Mapping[str, object]]) -> None:
        """Write all lines of ``metrics.jsonl``, so that a resumed run has one line per epoch."""
        atomic.write_text(self.path / LOG, "".join(json.dumps(line) + "\n" for line in lines))

    def write_stage(self, name: str, weights: Mapping[str, Tensor]) -> None:
        """Write the resulting weights of a stage."""
        (self.path / STAGES).mkdir(exist_ok=True)
        checkpoint.save(self.path / STAGES / f"{name}.safetensors", {"weights": dict(weights)})

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn errors of writing files into `StorageError`."""
        try:
            yield
        except OSError as e:
            raise StorageError(
                f"The run in {self.path} cannot be written: {e}. The files written so far are kept."
            ) from e


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl`` of a run: a mapping per epoch; empty before the first epoch.

    Raises:
        MismatchError: the file is not a log.
    """
    try:
        lines = parsing.read_json_lines(folder / LOG)
    except FileNotFoundError:
        return []
    except (OSError, parsing.ParseError) as e:
        raise MismatchError(f"{folder / LOG} is not the log of a run: {e}.") from e
    if not all(isinstance(line, dict) for line in lines):
        raise MismatchError(f"{folder / LOG} is not the log of a run: a line is not a mapping.")
    return lines


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a run's folder, or of a stage's file in it.

    Raises:
        NotFoundError: there is no such folder or file.
        MismatchError: the file is not of a run of lookalike.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    if not file.is_file():
        raise NotFoundError(
            f"The weights to start from, {path}, do not exist; give a run's folder or RUN/stages/NAME.safetensors."
        )
    tree = checkpoint.load(file)
    try:
        weights = saved_result(tree["state"]) if "state" in tree else tree["weights"]
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise MismatchError(f"{file} does not hold the weights of a run.") from e
    return checkpoint.tensors_of(weights, file)
