"""The command demo: the toy shop, made, indexed, searched and served."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.rule import Rule

from lookalike import encoders, sample
from lookalike.cli import output
from lookalike.cli.serving import run
from lookalike.collection import Collection, Entry

commands = typer.Typer()

_SEED = 0
_QUERIES = 1  # the seed of the photo that is searched for: a product that the shop does not have


@commands.command()
def demo(
    to: Annotated[Path, typer.Option(metavar="DIR", help="Where the shop is put.")] = Path("demo"),
    count: Annotated[int, typer.Option(min=1, help="Products in the shop.")] = 320,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the web page in the end.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the web page; 0 takes any that is free.")] = 8000,
) -> None:
    """Draw a toy shop, index it, search it by photo and by sketch, and serve it. Nothing is downloaded."""
    began = time.monotonic()
    output.stdout.print(Rule("The shop", align="left"))
    products = sample.write(to, count, _SEED)
    output.stdout.print(f"{count:,} products drawn in {time.monotonic() - began:.1f} s: {to}/photos, {to}/sketches")
    path = to / "shop.lookalike"
    collection = Collection.open(path) if path.exists() else Collection.create(path, encoders.load(encoders.DEFAULT))
    with collection:
        began = time.monotonic()
        with output.progress("indexing") as tell:
            added = collection.add([_entry(product, to) for product in products], output.adding(tell))
        output.print_failures(added.failures)
        output.stdout.print(f"{added.progress.done:,} photos indexed in {time.monotonic() - began:.1f} s: {path}")

        asked = sample.catalogue(len(sample.CLASSES), _QUERIES)
        photo = to / "query-photo.jpg"
        asked[sample.CLASSES.index("mug")].photo().save(photo, quality=92)
        drawn = products[len(products) // 2]
        sketch = to / "query-sketch.png"
        drawn.sketch(variant=1).save(sketch)

        output.stdout.print(Rule(f"A photo of a mug that the shop does not have: {photo}", align="left"))
        output.print_answer(collection.knn(collection.embed([photo]), 5)[0], collection, photo)
        output.stdout.print(Rule(f"A sketch of {drawn.title} ({drawn.id}): {sketch}", align="left"))
        output.print_answer(collection.knn(collection.embed([sketch], "sketch"), 5)[0], collection, sketch)
        output.stdout.print(Rule(align="left"))
        output.stdout.print(f"Yours to try: lookalike search {path} {photo} -k 3")
        if serve:
            run([collection], "127.0.0.1", port, read_only=False, origins=[])


def _entry(product: sample.Product, shop: Path) -> Entry:
    path = shop / "photos" / product.label / f"{product.id}.jpg"
    return Entry(path, product.label, {"title": product.title, **product.attributes})
