"""Measure how many copies of images match them by their pixels, and how many different images do.

    python benchmarks/copies.py IMAGES [--count 200] [--encoder copies] [--json]

The benchmark makes 17 kinds of copies of images of a folder. For each kind it counts the copies within the radius of the
encoder's calibration, the copies with matching pixels (`lookalike.duplicates.pixels`), and the copies with both, which are
duplicates. It also counts the pairs of the folder's own images within the radius, and the duplicates among them; show these
with `lookalike duplicates IMAGES --out page.html`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lookalike import duplicates, encoders, images
from lookalike.collection import Collection
from lookalike.duplicates import SearchRadius, Tier
from lookalike.duplicates.candidates import CandidatePairs, confirm_by_pixels
from lookalike.errors import LookalikeError, NotFoundError
from lookalike.evaluation import copies
from lookalike.metric import paired


def measure(folder: Path, count: int, encoder: str = "copies") -> dict[str, Any]:
    """Measure copies of images, and the images themselves.

    Args:
        folder: of the images.
        count: images to copy, evenly from all.
        encoder: a bundled name, or a folder.

    Returns:
        ``name``, ``images``, ``radius``; ``kinds``: for each the shares ``near``, ``agree`` and ``duplicates`` of its copies;
        ``pairs`` within the radius in the folder itself, and ``duplicates`` among them.

    Raises:
        NotFoundError: there are no images.
    """
    model = encoders.load(encoder)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Collection.create(Path(scratch) / "c.lookalike", model) as collection,
    ):
        collection.add(folder)
        files = sorted(collection.folder.file(item) for item in collection.store.scan())
        if not files:
            raise NotFoundError(f"There is no image in {folder}.")
        chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, count).astype(int))]
        radius = SearchRadius.from_calibration(collection.embedder, len(files))
        kinds = {kind: _measure(collection, chosen, kind, radius.distance, Path(scratch)) for kind in copies.CHANGES}
        found = duplicates.find_duplicates(collection, radius)
    return {
        "name": model.card.name,
        "images": len(files),
        "radius": radius.distance,
        "kinds": kinds,
        "pairs": len(found.pairs),
        "duplicates": sum(pair.tier is Tier.NEAR_DUPLICATE for pair in found.pairs),
    }


def _measure(collection: Collection, files: list[Path], kind: str, radius: float, scratch: Path) -> dict[str, float]:
    rng, changed = np.random.default_rng(0), []
    for i, file in enumerate(files):
        changed.append(scratch / f"{i}.png")
        copies.CHANGES[kind](images.open_image(file), rng).save(changed[-1])
    distances = paired(
        collection.embedder.embed(files), collection.embedder.embed(changed), collection.store.space.metric
    )
    near = np.asarray(distances) <= radius
    rows = np.arange(len(files))
    same, unconfirmed = np.zeros(len(rows), np.uint8), np.zeros(len(rows), bool)
    pairs = CandidatePairs(rows, rows, distances.astype(np.float32), same, unconfirmed)
    agree = confirm_by_pixels(pairs, files, changed)[0].confirmed
    return {"near": float(near.mean()), "agree": float(agree.mean()), "duplicates": float((near & agree).mean())}


def table(result: Mapping[str, Any]) -> Table:
    """Make a table of the result."""
    shown = Table(
        "copies", "within radius", "agree", "duplicates", title=f"{result['images']:,} images, {result['name']}"
    )
    for kind, shares in result["kinds"].items():
        shown.add_row(kind, *(f"{shares[name]:.0%}" for name in ("near", "agree", "duplicates")))
    shown.add_row("pairs of the folder", f"{result['pairs']:,}", "", f"{result['duplicates']:,}")
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a folder")
    parser.add_argument("--count", type=int, default=200, help="images to copy")
    parser.add_argument("--encoder", default="copies")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    try:
        result = measure(chosen.images, chosen.count, chosen.encoder)
    except LookalikeError as e:
        sys.exit(f"Error: {e}")
    if chosen.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        Console().print(table(result))


if __name__ == "__main__":
    main()
