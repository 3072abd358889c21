"""Find the images that are nearest to an image and to a sketch.

python examples/nearest.py [FOLDER IMAGE]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import lookalike as la
from lookalike import sample


def main() -> None:
    """Index a folder and search it."""
    with TemporaryDirectory() as temporary:
        home = Path(temporary)
        if len(sys.argv) > 1:
            folder, image = map(Path, sys.argv[1:])
        else:
            products = sample.write(home, count=64)
            folder, image = home / "photos", home / "mug.jpg"
            sample.catalogue(32, seed=1)[sample.CLASSES.index("mug")].photo().save(image)
        with la.open(home / "shop", encoder="toyshop") as shop:
            shop.add(folder, labels="folder")
            print(shop.search(image, k=5))
            if len(sys.argv) == 1:
                print(f"\nA sketch of {products[7].title}:")
                print(shop.search(products[7].sketch(variant=1), sketch=True, k=5))


if __name__ == "__main__":
    main()
