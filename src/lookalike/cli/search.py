"""The command search: find the images of a collection that look like an image, or that a text describes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from lookalike import images
from lookalike.cli import answers, output, queries, results
from lookalike.cli.options import (
    Far,
    Id,
    Json,
    K,
    Label,
    MetricOfCollection,
    Name,
    Where,
    Within,
    check_filter,
    check_range,
    note_distance,
    options,
    parse_filter,
)
from lookalike.cli.queries import Answered, Source
from lookalike.collection import Collection
from lookalike.embedding import Embedder
from lookalike.errors import UsageError
from lookalike.query import Branch, Query, to_branch
from lookalike.search_options import check_expand, check_photos
from lookalike.stores import Answer
from lookalike.tables import plural

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of search."""

    name: Name
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE…", help="Image files or folders of them; - is standard input.", show_default=False
        ),
    ] = None
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Search for what a text describes, such as “red shoe”, instead of an image; needs an encoder for texts.",
        ),
    ] = None
    k: K = None
    within: Within = None
    far: Far = None
    metric: MetricOfCollection = None
    sketch: Annotated[
        bool | None,
        typer.Option(
            "--sketch/--photo",
            help="The images are sketches, or photos. Default: each image that looks like a line drawing is a sketch, if the encoder"
            " has a sketch branch.",
            show_default=False,
        ),
    ] = None
    label: Label = None
    where: Where = None
    id: Id = None
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--approximate",
            help="Search exactly, or by the index. Default: exactly, unless it takes longer than the collection's budget.",
            show_default=False,
        ),
    ] = None
    expand: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Find the K nearest images first, and search for the midpoint of the query and their mean. This finds more images of"
            " a class, and one exact image less often. Try 10.",
        ),
    ] = None
    rescore: Annotated[
        bool,
        typer.Option(
            "--rescore",
            help="Rank the items of a compressed collection by their original vectors, which it keeps beside the codes. With --exact"
            " the answer is that before compression.",
        ),
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the hits to a .csv, .jsonl, .parquet or .html file; .html shows the images."
        ),
    ] = None
    json: Json = False

    def __post_init__(self) -> None:
        """Refuse contradictory options."""
        check_range(self.k, self.within, self.far)
        if not self.images and self.text is None:
            raise UsageError("IMAGE… is missing. Give an image to search for, or a text: --text “red shoe”.")
        if self.images and self.text is not None:
            raise UsageError("Give images or --text, not both.")
        check_expand(self.far, self.expand)


@commands.command()
@options(Options)
def search(given: Options) -> None:
    """Find the images of a collection that look like an image, or that a text describes.

    It answers for each image of a folder, too; --out writes all answers into one file.

    Example: lookalike search shop mug.jpg -k 5
    """
    if given.out is None:
        _search(given)
        return
    with output.stoppable("No file was written. The same command begins again."):
        _search(given)


def _search(given: Options) -> None:
    write = results.find_writer(given.out) if given.out else None
    arguments = given.images or []
    drawings = given.sketch is True
    sources, notes = (
        queries.find(arguments, drawings=drawings) if given.text is None else ([Source(given.text, None)], [])
    )
    for note in notes:
        output.stderr.print(note, style="yellow")
    with Collection.open(given.name) as collection:
        branches = _branches(collection.embedder, given, sources)
        query = _query(collection, given, branches)
        single = given.text is not None or queries.is_single(arguments)
        exactly = query.rescore or collection.searches_exactly(query.exact)
        if single and write is None and query.within is not None and exactly:
            _stream(collection, replace(query, branch=branches[0]), sources[0], given)
            return
        with output.progress_bar() as progress:
            found = queries.answer(collection, query, sources, branches, progress, single=single)
        if found and all(one.answer is None or one.answer.exact for one in found):
            _suggest_index(collection, given)
        if write is not None and given.out is not None:
            with output.progress_bar() as progress:
                written = results.write(write, given.out, collection, found, progress)
            _print_written(written, given)
        elif given.json:
            trees = [answers.to_dict(collection, one) for one in found]
            output.write_json(trees[0] if single else trees)
        else:
            _print(collection, found, single=single)
        if not given.json:
            _suggest_sketch(collection, given, found)
            output.print_scope(collection.embedder)
    if found and all(one.answer is None for one in found):
        raise typer.Exit(1)


def _query(collection: Collection, given: Options, branches: Sequence[Branch]) -> Query:
    """Return the query, still without images and their branches."""
    embedder = collection.embedder_for(rescore=given.rescore).with_metric(given.metric)
    note_distance(given.within, embedder.space)
    where = parse_filter(given.label, given.where, given.id)
    check_filter(collection, where, json=given.json)
    return Query(
        metric=given.metric,
        k=given.k,
        within=embedder.distance_range(given.within, given.far, branches[0]),
        where=where,
        exact=given.exact,
        expand=given.expand,
        rescore=given.rescore and collection.embedder.is_compressed,
    )


def _branches(embedder: Embedder, given: Options, sources: Sequence[Source]) -> list[Branch]:
    """Return the branch of each query; if images decide that they are sketches, say so."""
    by_text = given.text is not None
    if by_text or given.sketch is not None:
        return [to_branch(bool(given.sketch), by_text=by_text)] * len(sources)
    found = [source.image for source in sources if source.image is not None]
    if given.far is not None:
        check_photos(embedder, found)
        return ["photo"] * len(found)
    branches = [embedder.decide_branch(image) for image in found]
    sketches = [image for image, branch in zip(found, branches, strict=True) if branch == "sketch"]
    if sketches:
        output.stderr.print(_describe_sketches(sketches, len(found)), style="yellow")
    return branches


def _describe_sketches(sketches: Sequence[Path | bytes], count: int) -> str:
    """Say that some of the images are searched for as sketches, and why."""
    if count > 1:
        all_are = len(sketches) == count
        which = f"all {count:,} images as sketches" if all_are else f"{len(sketches):,} of {count:,} images as sketches"
        other = "If they are photos, add --photo." if all_are else "For all images alike, add --sketch or --photo."
        return f"Searching for {which}, since they are drawings. {other}"
    if images.is_drawing(images.read_bytes(sketches[0])):
        return "Searching as a sketch, since the file holds the strokes of a drawing."
    return "Searching as a sketch, since it looks like a line drawing. If it is a photo, add --photo."


def _suggest_sketch(collection: Collection, given: Options, found: Sequence[Answered]) -> None:
    """Suggest --sketch on stderr if nothing looks like an image that its content made a photo."""
    if given.sketch is not None or "sketch" not in collection.embedder.encoder.card.branches:
        return
    answers_of_photos = [one.answer for one in found if one.answer is not None and one.answer.branch == "photo"]
    if any(one.no_match and not one.blank for one in answers_of_photos):
        output.stderr.print("Searched as a photo. If it is a drawing, add --sketch.", style="yellow")


def _stream(collection: Collection, query: Query, source: Source, given: Options) -> None:
    """Print an answer that may be too large for memory."""
    parts = collection.stream(source.to_query(query))
    _suggest_index(collection, given)
    if given.json:
        metric = query.metric or collection.embedder_for(rescore=query.rescore).metric
        empty = Answer((), metric, codec=collection.codec_of(query))
        answers.write_json_stream(collection, parts, empty, source.name)
    else:
        answers.print_stream(collection, parts, source.path)
        output.print_scope(collection.embedder)


def _print(collection: Collection, found: list[Answered], *, single: bool) -> None:
    for one in found:
        if not single:
            output.stdout.print()
            output.stdout.print(one.name, style="bold")
        if one.answer is not None:
            answers.print_answer(collection, one.answer, one.path)
        else:
            output.stdout.print(f"Not searched: {one.error}", style="yellow")
    failed = sum(one.answer is None for one in found)
    if failed and len(found) > 1:
        output.stderr.print(f"{failed:,} of {len(found):,} images could not be searched for.", style="yellow")


def _print_written(written: results.Written, given: Options) -> None:
    output.print_skipped([reason for _, reason in written.failures])
    if given.json:
        output.write_json(
            {
                "queries": written.queries,
                "hits": written.hits,
                "failed": [{"query": name, "error": reason} for name, reason in written.failures],
                "out": str(given.out),
            }
        )
    else:
        what = "image" if given.text is None else "text"
        output.stdout.print(f"{written.hits:,} hits of {plural(written.queries, what)} in {given.out}.")


def _suggest_index(collection: Collection, given: Options) -> None:
    """Suggest an index on stderr if the search was exact only for lack of one."""
    if given.rescore or not collection.misses_index(given.exact):
        return
    status = collection.status()
    if given.exact is False or status is None:
        reason = "because there is no index. Build one"
    else:
        reason = (
            f"in about {status.estimate:,.0f} ms a query, over the budget of {status.settings.budget:g} ms. An index is"
            " faster"
        )
    output.stderr.print(f"Searched exactly {reason}: lookalike tune {given.name}", style="yellow")
