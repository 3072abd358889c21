"""The command demo: draw the toy shop, index it, search it and serve it."""

import time
from pathlib import Path
from typing import Annotated

import typer

from lookalike import sample
from lookalike.cli import answers, output, serve
from lookalike.collection import Collection, Entry, open_collection

commands = typer.Typer()

_SEED = 0
_QUERY_SEED = 1  # a photo of a product that the shop does not have


@commands.command()
def demo(
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the shop.")] = Path("demo"),
    count: Annotated[int, typer.Option(min=1, help="Number of products.")] = 320,
    open_page: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the web page at the end.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the web page; 0 takes a free one.")] = 8000,
) -> None:
    """Draw a toy shop, index it, search it by photo and by sketch, and serve it; download nothing."""
    began = time.monotonic()
    _print_heading("The shop")
    output.stdout.print(f"Drawing {count:,} products, each as a photo and as a sketch …")
    with output.progress_bar() as progress:
        products = sample.write(to, count, _SEED, progress)
    output.stdout.print(f"{count:,} products drawn in {time.monotonic() - began:.1f} s: {to}/photos, {to}/sketches")
    path = to / "shop.lookalike"
    with open_collection(path, "toyshop") as collection:
        _index(collection, [_entry(product, to) for product in products])

        catalogue = sample.catalogue(len(sample.CLASSES), _QUERY_SEED)
        photo = to / "query-photo.jpg"
        catalogue[sample.CLASSES.index("mug")].photo().save(photo, quality=92)
        product = products[len(products) // 2]
        sketch = to / "query-sketch.png"
        product.sketch(variant=1).save(sketch)

        _print_heading(f"A photo of a mug that the shop does not have: {photo}")
        _print_nearest(collection, photo)
        _print_heading(f"A sketch of {product.title} ({product.id}): {sketch}")
        _print_nearest(collection, sketch, is_sketch=True)
        output.stdout.print()
        output.stdout.print(f"Try: lookalike search {path} {photo} -k 3")
        if open_page:
            serve.run([collection], serve.Settings(port=port))


def _index(collection: Collection, entries: list[Entry]) -> None:
    began = time.monotonic()
    with output.progress_bar() as progress:
        added = collection.add(entries, progress)
    output.print_skipped([reason for _, reason in added.failures])
    took = time.monotonic() - began
    output.stdout.print(f"{added.total:,} photos indexed in {took:.1f} s: {collection.path}")


def _print_nearest(collection: Collection, query: Path, *, is_sketch: bool = False) -> None:
    answers.print_answer(collection, collection.search(query, k=5, sketch=is_sketch), query)


def _print_heading(text: str) -> None:
    output.stdout.print()
    output.stdout.print(text, style="bold")


def _entry(product: sample.Product, shop: Path) -> Entry:
    path = shop / "photos" / product.label / f"{product.id}.jpg"
    return Entry(path, product.label, {"title": product.title, **product.attributes})
