"""Decide whether two images show the same thing.

python examples/verify.py [IMAGE IMAGE]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import lookalike as la
from lookalike import sample


def main() -> None:
    """Compare two images with an encoder that is calibrated on copies of images."""
    with TemporaryDirectory() as temporary:
        if len(sys.argv) > 1:
            images = [Path(image) for image in sys.argv[1:]]
        else:
            mug, ball = sample.CLASSES.index("mug"), sample.CLASSES.index("ball")
            products = sample.catalogue(32)
            images = [Path(temporary, name) for name in ("mug.png", "copy.jpg", "ball.jpg")]
            products[mug].photo().save(images[0])
            products[mug].photo(200).save(images[1], quality=70)  # smaller, and compressed
            products[ball].photo().save(images[2])
        for other in images[1:]:
            print(f"{images[0].name} and {other.name}: {la.verify(images[0], other, encoder='copies')}")


if __name__ == "__main__":
    main()
