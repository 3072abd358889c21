"""Embed images by a baseline of ``encoders.py`` into a file like those of ``lookalike embed``.

    python benchmarks/embed_baseline.py data data/fashion-300 --model "MobileNetV2, int8, pooled" --out mobilenet.npz

``data`` has the baseline's files, see ``encoders.py``.
"""

import argparse
from pathlib import Path

import encoders as models
import numpy as np

from lookalike import images

_CHUNK = 64


def main() -> None:
    """Embed the images, in the order of their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("images", type=Path, help="a folder, and the folders in it")
    parser.add_argument("--model", required=True, help="the name of a row")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    embed = models.models(chosen.data)[chosen.model](chosen.model).embed
    paths = sorted(path for path in chosen.images.rglob("*") if path.suffix in {".jpg", ".png"})
    parts = [embed([images.open_image(path) for path in paths[i : i + _CHUNK]]) for i in range(0, len(paths), _CHUNK)]
    np.savez(chosen.out, paths=np.array([str(path) for path in paths]), embeddings=np.concatenate(parts))


if __name__ == "__main__":
    main()
