"""Classify an image from one example per class; the encoder needs no training on these classes.

python examples/classify.py [EXAMPLES IMAGE]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import lookalike as la
from lookalike import sample


def main() -> None:
    """Rank the classes of a folder of examples by their distance from an image."""
    with TemporaryDirectory() as temporary:
        if len(sys.argv) > 1:
            examples, image = map(Path, sys.argv[1:])
        else:
            sample.write(Path(temporary), count=32)  # one product per class
            examples, image = Path(temporary, "photos"), Path(temporary, "mug.jpg")
            sample.catalogue(32, seed=1)[sample.CLASSES.index("mug")].photo().save(image)
        ranking = la.classify(image, examples, encoder="toyshop")
        print(f"{image.name} is a {ranking.label}. The nearest classes:")
        print(ranking[:5])


if __name__ == "__main__":
    main()
