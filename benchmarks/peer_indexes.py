"""Approximate indexes of other software, built with equivalent settings if possible."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from peers import Search, lancedb_search, lancedb_table, threads

K = 10
NEIGHBOURS = 16
"""Links of a node (M); 32 in the bottom layer, in FAISS, hnswlib and USearch alike."""
CONSTRUCTION = 100
"""Candidates while building (efConstruction)."""
EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Candidates while searching (efSearch)."""
PROBES = (4, 8, 16, 32, 64, 128)
"""Cells that are searched (nprobe)."""
REFINED = 10
"""Candidates, as a multiple of k, whose distances are computed from the float32 vectors if an index refines."""
SAMPLED = 64
"""Training vectors of a cell; the default of 256 takes four times as long."""
PIECE = 4
"""Numbers of a vector that make a byte of its code."""


faiss: Any = import_module("faiss")  # its stubs lack half of it


@dataclass(frozen=True)
class Index:
    """An index that has been built.

    Attributes:
        name: what a table calls it.
        search: makes a search of a setting.
        settings: efSearch or the number of probed cells, ascending.
        size: bytes of it as it is saved, the vectors included where it holds them.
    """

    name: str
    search: Callable[[int], Search]
    settings: tuple[int, ...]
    size: int


def cells(rows: int) -> int:
    """Return the number of cells of an inverted file."""
    return int(2 * rows**0.5)


def faiss_hnsw(vectors: np.ndarray, folder: Path) -> list[Index]:
    """FAISS IndexHNSWFlat."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS)
    index.hnsw.efConstruction = CONSTRUCTION
    index.add(vectors)

    def search(effort: int) -> Search:
        parameters = faiss.SearchParametersHNSW(efSearch=effort)
        return lambda queries: index.search(queries, K, params=parameters)[1]

    return [Index("FAISS", search, EFFORTS, _faiss_size(index, folder))]


def hnswlib_hnsw(vectors: np.ndarray, folder: Path) -> list[Index]:
    """Hnswlib's Index."""
    import hnswlib  # noqa: PLC0415

    index = hnswlib.Index(space="l2", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=NEIGHBOURS, ef_construction=CONSTRUCTION)
    index.add_items(vectors, num_threads=threads())
    index.save_index(str(folder / "hnswlib"))

    def search(effort: int) -> Search:
        def ask(queries: np.ndarray) -> np.ndarray:
            index.set_ef(effort)
            found: np.ndarray = index.knn_query(queries, k=K, num_threads=threads())[0]
            return found

        return ask

    return [Index("hnswlib", search, EFFORTS, (folder / "hnswlib").stat().st_size)]


def usearch_hnsw(vectors: np.ndarray, folder: Path) -> list[Index]:
    """USearch's Index, in float32."""
    from usearch.index import Index as Graph  # noqa: PLC0415

    index = Graph(
        ndim=vectors.shape[1], metric="l2sq", dtype="f32", connectivity=NEIGHBOURS, expansion_add=CONSTRUCTION
    )
    index.add(np.arange(len(vectors)), vectors, threads=threads())
    index.save(str(folder / "usearch"))

    def search(effort: int) -> Search:
        def ask(queries: np.ndarray) -> np.ndarray:
            index.expansion_search = effort
            keys = index.search(queries, K, threads=threads()).keys
            return np.asarray(keys).reshape(len(queries), K)

        return ask

    return [Index("USearch", search, EFFORTS, (folder / "usearch").stat().st_size)]


def faiss_ivfpq(vectors: np.ndarray, folder: Path) -> list[Index]:
    """FAISS IndexIVFPQ, which ranks by the distances of codes, alone and in an IndexRefineFlat, which refines them."""
    dimension = vectors.shape[1]
    coarse = faiss.IndexFlatL2(dimension)
    index = faiss.IndexIVFPQ(coarse, dimension, cells(len(vectors)), dimension // PIECE, 8)
    index.cp.max_points_per_centroid = SAMPLED
    index.pq.cp.niter = 10  # of 25
    index.train(vectors)
    index.add(vectors)
    refined = faiss.IndexRefineFlat(index, faiss.swig_ptr(vectors))

    def search(probes: int) -> Search:
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        return lambda queries: index.search(queries, K, params=parameters)[1]

    def refine(probes: int) -> Search:
        inner = faiss.SearchParametersIVF(nprobe=probes)
        parameters = faiss.IndexRefineSearchParameters(k_factor=REFINED, base_index_params=inner)
        return lambda queries: refined.search(queries, K, params=parameters)[1]

    size = _faiss_size(index, folder)
    return [Index("FAISS", search, PROBES, size), Index("FAISS, refined", refine, PROBES, size + vectors.nbytes)]


def lancedb_ivfpq(vectors: np.ndarray, folder: Path) -> list[Index]:
    """LanceDB's IVF-PQ index over a table on disk, which refines the best candidates."""
    table = lancedb_table(vectors, folder)
    pieces = vectors.shape[1] // PIECE
    table.create_index(
        metric="l2",
        num_partitions=cells(len(vectors)),
        num_sub_vectors=pieces,
        vector_column_name="vector",
        max_iterations=10,  # of 50
        sample_rate=SAMPLED,
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return [Index("LanceDB, refined", lambda probes: lancedb_search(table, K, probes, REFINED), PROBES, size)]


def _faiss_size(index: Any, folder: Path) -> int:  # noqa: ANN401 -- as above
    path = folder / "faiss"
    faiss.write_index(index, str(path))
    size = path.stat().st_size
    path.unlink()
    return size
