"""The sections that need files of images: indexing them, and finding near-duplicates among them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import duplicates
import indexing
from data import say

from lookalike import encoders
from lookalike.errors import LookalikeError

JUDGED = "duplicates_cifar10_test_paths.csv"
PHOTOS = "fashion-300/images"
FASTDUP = ".venv-fastdup/bin/python"
ENCODERS = ("copies", "cifar10-triplet")
ROUNDS = 1

INDEX = (
    "ImageFiles of three sizes are decoded (files looked up, read, fingerprinted, decoded, fitted), embedded from memory, and"
    f" indexed, one after the other, {ROUNDS} round, all cores. See benchmarks/indexing.py, which makes what it is not given."
)
DUPLICATES = (
    "The closest 50, 100 and 1,000 of the 50 million pairs of CIFAR-10's test images, against the 30 that people judged to be"
    " near-duplicates (ciFAIR: Barz and Denzler 2020). Seconds from the files to the groups, decoding and embedding included."
    " See benchmarks/duplicates.py."
)


@dataclass(frozen=True)
class ImageFiles:
    """The image files for the benchmarks, and the Python of a peer.

    Attributes:
        data: CIFAR-10, or another folder of images.
        judged: pairs that people judged, paths relative to the data.
        photos: images of about 300 pixels.
        fastdup: the Python of the environment that has fastdup.
    """

    data: Path | None = None
    judged: Path | None = None
    photos: Path | None = None
    fastdup: Path | None = None

    @classmethod
    def of(cls, data: Path | None, judged: Path | None, photos: Path | None, fastdup: Path | None) -> Self:
        """Use the given paths; for others, use their usual places if they exist."""

        def usual(named: Path | None, place: Path) -> Path | None:
            return named if named is not None or not place.exists() else place

        if data is not None:
            judged, photos = usual(judged, data.parent / JUDGED), usual(photos, data.parent / PHOTOS)
        return cls(data, judged, photos, usual(fastdup, Path(__file__).parent.parent / FASTDUP))

    @property
    def available(self) -> list[str]:
        """List the names of the available files."""
        return [name for name in ("data", "judged", "photos", "fastdup") if getattr(self, name) is not None]


def index(given: ImageFiles) -> dict[str, Any]:
    """Measure indexing in images a second, and its upper limits."""
    tiny = given.data / "test" if given.data is not None and (given.data / "test").is_dir() else given.data
    figures = dict(indexing.measure(tiny, given.photos, ROUNDS))
    return {**figures, "drawn": [name for name, path in (("32 px", tiny), ("300 px", given.photos)) if path is None]}


def near_duplicates(given: ImageFiles) -> dict[str, Any]:
    """Count the near-duplicates among the closest pairs, and measure the time."""
    if given.data is None or given.judged is None or not (given.data / "test").is_dir():
        missing = f"This section needs CIFAR-10 (--data) and the pairs that people judged ({JUDGED}, --judged)."
        say(f"  {missing}")
        return {"missing": missing, "finders": []}
    bundled = encoders.bundled()
    finders = [duplicates.measure(given.data, given.judged, name) for name in ENCODERS if name in bundled]
    try:
        if given.fastdup is not None:
            finders += duplicates.measure_fastdup(given.data, given.judged, given.fastdup)
    except LookalikeError as e:
        say(f"  without fastdup: {e}")
    return {"finders": finders}
