"""Compare sparse descriptors of whole maps with dense ones, with their principal components, and with pooled maps.

    python benchmarks/sparse_descriptors.py data/sketchy/photo --classes bat,cabin
    python benchmarks/sparse_descriptors.py --rows 10000

With images, the descriptors are the last map of EfficientNet-Lite0 with ImageNet weights (7 × 7 × 1,280 numbers after ReLU6; the extras ``learn`` and
``imagenet``), and each image is a query among the others. Without images, they are random: of the size and the share of zeros of VGG-16's last
map in R5, 7 × 7 × 512 numbers, 90 % zeros. All are compared by cosine distance. The 256 principal
components are fitted on the same vectors. Times are those of the processor.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from lookalike import datasets, search
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric
from lookalike.search import Hits
from lookalike.search import sparse as sparse_search

NUMBERS, ZEROS, COMPONENTS, NEIGHBOURS, QUERIES = 25_088, 0.9, 256, 10, 32


def describe(data: datasets.Dataset, size: int = 224) -> np.ndarray:
    """Compute the last maps of EfficientNet-Lite0, flattened channel by channel."""
    import torch  # noqa: PLC0415 -- random descriptors do not need it

    from lookalike.learn.networks import imagenet  # noqa: PLC0415 -- likewise
    from lookalike.learn.networks.efficientnet_lite import EfficientNetLite  # noqa: PLC0415 -- likewise

    kind = "efficientnet_lite0"
    network = EfficientNetLite(kind, grid=7).eval()
    network.load_state_dict({k: v for k, v in imagenet.read(kind).items() if not k.startswith("_fc.")})
    parts = []
    with torch.inference_mode():
        for batch in datasets.decode_batches(data, size, "squash", 32):
            pixels = torch.from_numpy(batch.images).float().permute(0, 3, 1, 2)
            parts.append(network((pixels - 127) / 128).numpy())
    return np.concatenate(parts)


def random_descriptors(rows: int) -> csr_array:
    """Make random descriptors of R5's size: each has a tenth of the numbers, and shares half of them with a class of its own."""
    rng = np.random.default_rng(0)
    count = round(NUMBERS * (1 - ZEROS))
    classes = rng.random((max(1, rows // 20), NUMBERS)).argsort(axis=1)[:, : count // 2].astype(np.int32)
    columns = np.empty((rows, count), np.int32)
    for row in range(rows):
        known = classes[row % len(classes)]
        others = np.setdiff1d(rng.choice(NUMBERS, count, replace=False), known)[: count - len(known)]
        columns[row] = np.sort(np.concatenate([known, others]))
    values = rng.exponential(size=columns.size).astype(np.float32)
    ends = np.arange(0, columns.size + 1, count, dtype=np.int32)
    return csr_array((values, columns.ravel(), ends), shape=(rows, NUMBERS))


def project(vectors: np.ndarray, count: int) -> np.ndarray:
    """Project vectors on their principal components, which span the rows of few vectors of many numbers."""
    centred = vectors - vectors.mean(axis=0)
    values, rotation = np.linalg.eigh(centred @ centred.T)
    kept = np.argsort(values)[::-1][:count]
    return np.ascontiguousarray(rotation[:, kept] * np.sqrt(np.maximum(values[kept], 0)), np.float32)


def measure(descriptors: csr_array, labels: np.ndarray | None, cells: int) -> dict[str, dict[str, float]]:
    """Measure memory and the milliseconds of a query by representation; with labels also top-1 and mAP.

    Args:
        descriptors: one row an image.
        labels: of the images.
        cells: of a map, next to each other.
    """
    dense = descriptors.toarray()
    pooled = np.ascontiguousarray(dense.reshape(len(dense), -1, cells).mean(axis=2))
    forms = {"dense": dense, f"{COMPONENTS} components": project(dense, COMPONENTS), "pooled": pooled}
    found = {}
    for name, vectors in forms.items():
        found[name] = {"numbers": vectors.shape[1], "bytes": vectors.nbytes, **_times(_dense_search(vectors))}
        if labels is not None:
            scores = retrieval.leave_one_out(LabelledVectors(vectors, labels), Metric.COSINE)
            found[name] |= {"top_1": scores.top_1, "map": scores.map}
    gallery = sparse_search.prepare(descriptors)
    _check(sparse_search.knn(descriptors[:4], gallery, NEIGHBOURS, Metric.COSINE), dense)
    size = descriptors.data.nbytes + descriptors.indices.nbytes + descriptors.indptr.nbytes
    times = _times(lambda n: sparse_search.knn(descriptors[:n], gallery, NEIGHBOURS, Metric.COSINE))
    quality = {key: found["dense"][key] for key in ("top_1", "map") if labels is not None}
    return {"sparse": {"numbers": dense.shape[1], "bytes": size, **times, **quality}, **found}


def _dense_search(vectors: np.ndarray) -> Callable[[int], object]:
    gallery = search.prepare(vectors, Metric.COSINE)
    return lambda count: search.knn(vectors[:count], gallery, NEIGHBOURS, Metric.COSINE)


def _check(hits: Hits, dense: np.ndarray) -> None:
    expected = search.knn(dense[:4], dense, NEIGHBOURS, Metric.COSINE)
    if not (np.array_equal(hits.rows, expected.rows) and np.array_equal(hits.distances, expected.distances)):
        raise SystemExit("Sparse and dense search differ.")


def _times(run: Callable[[int], object]) -> dict[str, float]:
    """Measure the processor's milliseconds of a single query, and of a query in a batch: the least of five."""
    found = {}
    for name, count in (("query_ms", 1), ("batched_ms", QUERIES)):
        times = []
        for _ in range(5):
            begun = time.process_time()
            run(count)
            times.append((time.process_time() - begun) / count * 1e3)
        found[name] = min(times)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", type=Path, nargs="?", help="labelled images: a folder of a folder for each class, a CSV or an npz"
    )
    parser.add_argument("--classes", help="only these, separated by commas")
    parser.add_argument("--limit", type=int, help="largest number of images of a class")
    parser.add_argument("--rows", type=int, default=10_000, help="random descriptors, without images")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.data is None:
        descriptors, labels = random_descriptors(args.rows), None
    else:
        classes = tuple(args.classes.split(",")) if args.classes else None
        data = datasets.open_dataset(datasets.infer_source(args.data, classes=classes, limit=args.limit))
        descriptors, labels = csr_array(describe(data)), data.labels
    found = measure(descriptors, labels, 49)
    if args.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    rows, zeros = descriptors.shape[0], 1 - descriptors.nnz / np.prod(descriptors.shape)
    sys.stdout.write(f"{rows:,} vectors, {zeros:.1%} zeros\n")
    for name, it in found.items():
        quality = f"  top-1 {it['top_1']:.3f}  mAP {it['map']:.3f}" if "map" in it else ""
        sys.stdout.write(
            f"{name:16} {it['numbers']:7,} numbers {it['bytes'] / 1e6:9.1f} MB {it['query_ms']:8.2f} ms a query"
            f" {it['batched_ms']:8.2f} in a batch{quality}\n"
        )


if __name__ == "__main__":
    main()
