"""Find all images that are similar enough to an image.

python examples/within.py [FOLDER IMAGE]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import lookalike as la
from lookalike import sample


def main() -> None:
    """Index a folder and search it within ranges of distances."""
    with TemporaryDirectory() as temporary:
        home = Path(temporary)
        if len(sys.argv) > 1:
            folder, image = map(Path, sys.argv[1:])
        else:
            products = sample.write(home, count=64)
            folder = home / "photos"
            image = folder / products[7].label / f"{products[7].id}.jpg"
        with la.open(home / "shop", encoder="toyshop") as shop:
            shop.add(folder, labels="folder")
            for within in ("60%", "50%..60%", 0.35):
                print(f"within {within}:")
                print(shop.search(image, within=within), end="\n\n")


if __name__ == "__main__":
    main()
