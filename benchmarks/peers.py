"""Searches of the same vectors by other software, each by its documentation.

Each function takes vectors and returns a search, which takes queries ``(q, d)`` and returns rows ``(q, k)``. A missing
package raises `ModuleNotFoundError`, and its contender is skipped. Searches keep their files in `workplace`.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from data import CACHE

Search = Callable[[np.ndarray], np.ndarray]


@contextmanager
def workplace() -> Iterator[Path]:
    """Make a temporary folder on the disk of the repository rather than in memory."""
    CACHE.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=CACHE))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def limit_threads(threads: int) -> None:
    """Limit this process and its children to a number of cores and threads.

    Called before anything is measured. Packages that look at the number of cores at import see the environment.
    """
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "LANCE_CPU_THREADS",
        "RAYON_NUM_THREADS",
    ):
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import faiss  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    threadpool_limits(threads)
    faiss.omp_set_num_threads(threads)


def faiss_flat(vectors: np.ndarray, k: int) -> Search:
    """FAISS IndexFlatL2: the exact index that its guide begins with."""
    import faiss  # noqa: PLC0415

    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    return lambda queries: index.search(queries, k)[1]


def faiss_binary(codes: np.ndarray, k: int) -> Search:
    """FAISS IndexBinaryFlat."""
    import faiss  # noqa: PLC0415

    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(codes)
    return lambda queries: index.search(queries, k)[1]


def sklearn_brute(vectors: np.ndarray, k: int) -> Search:
    """Scikit-learn NearestNeighbors by brute force, which ``auto`` chooses for more than 15 numbers: what R1 used."""
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415

    model = NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=-1).fit(vectors)
    return lambda queries: model.kneighbors(queries, return_distance=False)


def hnswlib_brute(vectors: np.ndarray, k: int) -> Search:
    """Hnswlib's BFIndex."""
    import hnswlib  # noqa: PLC0415

    index = hnswlib.BFIndex(space="l2", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors))
    index.add_items(vectors)
    return lambda queries: index.knn_query(queries, k=k, num_threads=threads())[0]


def usearch_exact(vectors: np.ndarray, k: int) -> Search:
    """USearch's exact search, over float32 or over packed bits."""
    from usearch.index import MetricKind, ScalarKind, search  # noqa: PLC0415

    bits = vectors.dtype == np.uint8
    metric, kind = (MetricKind.Hamming, ScalarKind.B1) if bits else (MetricKind.L2sq, ScalarKind.F32)

    def ask(queries: np.ndarray) -> np.ndarray:
        found = search(vectors, queries, k, metric=metric, exact=True, threads=threads(), dtype=kind)
        return np.asarray(found.keys).reshape(len(queries), k)

    return ask


def lancedb_table(vectors: np.ndarray, folder: Path) -> Any:  # noqa: ANN401 -- the package has no types
    """A LanceDB table on disk."""
    os.environ.setdefault("LANCE_LOG", "error")
    os.environ.setdefault("RUST_LOG", "error")
    import lancedb  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    ids = pa.array(np.arange(len(vectors)))
    return lancedb.connect(folder).create_table("vectors", pa.table({"id": ids, "vector": column}))


def lancedb_search(table: Any, k: int, probes: int = 0, refine: int = 0) -> Search:  # noqa: ANN401
    """LanceDB's search: flat without probes, else by its IVF-PQ index, which refines ``refine`` times k candidates."""

    def ask(queries: np.ndarray) -> np.ndarray:
        query = table.search(queries[0] if len(queries) == 1 else queries).select(["id", "_distance"]).limit(k)
        query = query.nprobes(probes).refine_factor(refine) if probes else query.bypass_vector_index()
        found = query.to_arrow()
        rows = found["id"].to_numpy()
        if len(queries) > 1:
            rows = rows[np.argsort(found["query_index"].to_numpy(), kind="stable")]
        return np.asarray(rows.reshape(len(queries), k))

    return ask


def numpy_floats(vectors: np.ndarray, k: int) -> Search:
    """NumPy as R4 and R5 wrote it: a query at a time, all differences, all distances sorted."""

    def ask(queries: np.ndarray) -> np.ndarray:
        return np.stack([np.argsort(np.linalg.norm(vectors - query, axis=1))[:k] for query in queries])

    return ask


def numpy_bits(codes: np.ndarray, k: int) -> Search:
    """NumPy as R4 wrote it: a byte for each bit."""
    unpacked = np.unpackbits(codes, axis=1).astype(bool)

    def ask(queries: np.ndarray) -> np.ndarray:
        asked = np.unpackbits(queries, axis=1).astype(bool)
        return np.stack([np.argsort(np.count_nonzero(unpacked != query, axis=1))[:k] for query in asked])

    return ask


def threads() -> int:
    """Count the threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
