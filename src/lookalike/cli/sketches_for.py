"""The option --sketches-for of train: fit a sketch branch to the images of a collection."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from lookalike.cli import output
from lookalike.tables import plural

if TYPE_CHECKING:
    from lookalike.learn.recipe import SketchRecipe
    from lookalike.learn.sketch_run import SketchRun


def fit_sketches(recipe: "SketchRecipe", folder: Path, *, resume: bool, json: bool) -> None:
    """Fit a sketch branch, and print what it gains."""
    from lookalike.learn.sketch_run import resume_sketches, train_sketches  # noqa: PLC0415 -- importing torch takes a second

    with output.stoppable(f"Resume with: lookalike train {quote(str(folder))}"), output.progress_bar() as progress:
        run = (resume_sketches if resume else train_sketches)(recipe, folder, progress)
    if json:
        output.write_json(run.to_dict())
    else:
        _print(run)


def _print(run: "SketchRun") -> None:
    rows = [("MRR", str(run.mrr)), ("first", str(run.top_1)), ("among ten", str(run.top_10))]
    output.print_table(rows, ("its own image", "before → after"))
    output.stdout.print(
        f"Measured with pseudo-sketches of {plural(run.held_out, 'image')} that were held out; then fitted to all {run.images:,}."
    )
    if run.mrr.after <= run.mrr.before:
        output.stderr.print(
            f"The new encoder in {run.encoder} finds images no better. Keep the present one.", style="yellow"
        )
        return
    output.stdout.print(
        f"The encoder is in {run.encoder}. To use it: lookalike reindex {quote(str(run.collection))} --encoder"
        f" {quote(str(run.encoder))}. The vectors stay."
    )
