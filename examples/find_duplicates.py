"""Find duplicates: identical files, and copies of an image.

python examples/find_duplicates.py [FOLDER]
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import lookalike as la
from lookalike import sample


def main() -> None:
    """Index a folder with an encoder that is calibrated on copies of images, and group the duplicates."""
    with TemporaryDirectory() as temporary:
        home = Path(temporary)
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else make_folder(home / "photos")
        with la.open(home / "mine", encoder="copies") as mine:
            mine.add(folder)
            print(mine.duplicates())


def make_folder(folder: Path) -> Path:
    """Draw products, copy one file and save a smaller copy of another one."""
    folder.mkdir()
    for product in sample.catalogue(32):
        product.photo().save(folder / f"{product.id}.jpg", quality=92)
    first, second, *_ = sorted(folder.iterdir())
    shutil.copy(first, folder / f"copy of {first.name}")
    with Image.open(second) as image:
        image.resize((160, 160)).save(folder / f"small {second.name}", quality=80)
    return folder


if __name__ == "__main__":
    main()
