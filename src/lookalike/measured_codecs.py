"""Measured codecs and the chosen one: a table and a chart for terminals, a page, and values for JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lookalike.codecs import Codec
from lookalike.evaluation import report
from lookalike.evaluation.report import CodecPage, CodecPoint
from lookalike.tables import text_table

_WIDTH, _HEIGHT = 64, 12
"""Characters of a chart, without its axes: it fits into 80 columns."""

_LEAST_SPAN = 0.02
"""Minimum range of the shares on the vertical axis: less would show noise as mountains."""

_TICKS = 9
"""Maximum number of labels below the horizontal axis."""


@dataclass(frozen=True, eq=False)
class MeasuredCodec:
    """A codec with its measured quality.

    Attributes:
        name: the codec's name and settings, see `lookalike.compress.parse_codec`.
        codec: the codec, fitted to the sample without the queries.
        bytes_per_item: bytes of a code, and the item's share of the codec's files.
        quality: mAP, or the share of neighbours found.
        kept: the quality as a share of that of the embeddings.
    """

    name: str
    codec: Codec
    bytes_per_item: float
    quality: float
    kept: float


@dataclass(frozen=True, eq=False)
class CodecChoice:
    """Measured codecs, and the chosen one. It prints as a table and a chart.

    Attributes:
        collection: the name of the collection.
        items: of the collection.
        measure: ``"mAP"`` or ``"recall@10"``.
        queries: number of queries.
        gallery: number of items that they searched.
        base: the quality of the embeddings.
        base_bytes: bytes of an embedding.
        rule: how the codec was chosen, in words.
        measured: the codecs, by ascending bytes.
        chosen: one of them.
    """

    collection: str
    items: int
    measure: str
    queries: int
    gallery: int
    base: float
    base_bytes: int
    rule: str
    measured: tuple[MeasuredCodec, ...]
    chosen: MeasuredCodec

    @property
    def codec(self) -> Codec:
        """The chosen codec, which `Collection.compress` takes."""
        return self.chosen.codec

    def __str__(self) -> str:
        """Return a table with the choice marked, a chart, and how it was measured."""
        rows = [(*cells, "chosen" * chosen) for *cells, chosen in self._rows()]
        table = text_table(("codec", "bytes an item", self.measure, "kept", ""), rows)
        points = [(one.bytes_per_item, one.kept) for one in self.measured]
        chart = text_chart(
            [*points, (self.base_bytes, 1.0)],
            points[self.measured.index(self.chosen)],
            f"{self.measure} kept, by bytes an item",
        )
        legend = f"● {self.chosen.name} (chosen)   ○ other codecs   □ original vectors"
        return "\n".join((table, "", chart, legend, "", *self.protocol))

    def _rows(self) -> list[tuple[str, str, str, str, bool]]:
        return [
            *(
                (one.name, f"{one.bytes_per_item:,.1f}", f"{one.quality:.3f}", f"{one.kept:.1%}", one is self.chosen)
                for one in self.measured
            ),
            ("original vectors", f"{self.base_bytes:,.1f}", f"{self.base:.3f}", "100.0%", False),
        ]

    @property
    def protocol(self) -> tuple[str, ...]:
        """How the codecs were measured and the choice was made, in sentences."""
        qualities = {
            "mAP": "The quality is the mAP of these queries by their labels.",
            "recall@10": "The quality is the share of the 10 exact neighbours of a query, by the original vectors, that"
            " are among the 10 nearest by the codes.",
        }
        return (
            f"{self.queries:,} held-out items searched {self.gallery:,} others; no codec was fitted to the queries.",
            qualities[self.measure],
            f"The bytes of an item include its share of the codec's files, among {self.items:,} items.",
            self.rule,
        )

    def write(self, path: Path) -> None:
        """Write a page with chart, table and protocol, one self-contained HTML file.

        Raises:
            MissingExtraError: the extra “report” is not installed.
            StorageError: the file cannot be written.
        """
        points = [CodecPoint(*row) for row in self._rows()]
        values = [(one.bytes_per_item, one.kept, one is self.chosen) for one in self.measured]
        report.write_codecs(
            CodecPage(self.collection, self.measure, points, values, self.base_bytes, self.protocol), path
        )

    def to_dict(self) -> dict[str, object]:
        """Return values for JSON."""
        return {
            "measure": self.measure,
            "queries": self.queries,
            "gallery": self.gallery,
            "base": self.base,
            "base_bytes": self.base_bytes,
            "rule": self.rule,
            "chosen": self.chosen.name,
            "measured": [
                {
                    "codec": one.name,
                    "bytes_per_item": one.bytes_per_item,
                    "quality": one.quality,
                    "kept": one.kept,
                }
                for one in self.measured
            ],
        }


def text_chart(points: Sequence[tuple[float, float]], marked: tuple[float, float], title: str) -> str:
    """Draw points (bytes, share) in characters, over a logarithmic axis of bytes.

    Args:
        points: the last one is the original.
        marked: one of the points.
        title: of the chart.
    """
    sizes, shares = zip(*points, strict=True)
    left, right = math.log2(min(sizes)), math.log2(max(sizes))
    top = max(*shares, 1.0)
    bottom = min(*shares, top - _LEAST_SPAN)

    def column(size: float) -> int:
        return int(0.5 + (math.log2(size) - left) / ((right - left) or 1) * (_WIDTH - 1))

    def row(share: float) -> int:
        return int(0.5 + (top - share) / (top - bottom) * (_HEIGHT - 1))

    cells = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    cells[row(1.0)] = ["·"] * _WIDTH
    for mark, drawn in (("○", points[:-1]), ("□", points[-1:]), ("●", [marked])):
        for size, share in drawn:
            cells[row(share)][column(size)] = mark
    labels = {0: f"{top:.0%}", row(1.0): "100%", _HEIGHT - 1: f"{bottom:.0%}"}
    lines = [f"{labels.get(i, ''):>6} │{''.join(line).rstrip()}" for i, line in enumerate(cells)]
    axis, names = ["─"] * _WIDTH, [" "] * (_WIDTH + 8)
    powers = range(math.ceil(left), math.floor(right) + 1)
    for power in powers[:: -(-len(powers) // _TICKS)]:
        place, name = column(2.0**power), f"{2.0**power:,g}"
        axis[place] = "┴"
        names[place : place + len(name)] = name
    below = f"{' ' * 7}└{''.join(axis)}\n{' ' * 8}{''.join(names).rstrip()}"
    return f"{title}\n" + "\n".join(lines) + f"\n{below}"
