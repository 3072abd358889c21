"""Find the pairs of two collections that look alike, and write them into a file.

python examples/join.py [FOLDER FOLDER]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import lookalike as la
from lookalike import sample


def main() -> None:
    """Index two folders and join them."""
    with TemporaryDirectory() as temporary:
        home = Path(temporary)
        if len(sys.argv) > 1:
            folders = [Path(folder) for folder in sys.argv[1:]]
        else:
            folders = [home / "spring", home / "autumn"]
            for seed, folder in enumerate(folders):
                sample.write(folder, count=64, seed=seed)
            folders = [folder / "photos" for folder in folders]
        with la.open(home / "a", encoder="toyshop") as a, la.open(home / "b", encoder="toyshop") as b:
            a.add(folders[0])
            b.add(folders[1])
            pairs = a.join(b, within="65%")
            print(pairs)
            written = pairs.write(home / "pairs.csv")
            print(f"{written.pairs} pairs written")


if __name__ == "__main__":
    main()
