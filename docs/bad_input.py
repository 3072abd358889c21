"""Try bad input on the command line and the server, and write the results to docs/bad-input.md.

python docs/bad_input.py            # write the page
python docs/bad_input.py --check    # exit 1 if the page is out of date
"""

import contextlib
import difflib
import io
import json
import os
import shutil
import sqlite3
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.numpy import save_file

from lookalike import encoders, sample
from lookalike.cli import main as cli
from lookalike.collection import Collection
from lookalike.server import create_app

PAGE = Path(__file__).parent / "bad-input.md"

HEAD = """# Bad input, and the errors that it causes

`make docs` tries each line on the command line and on the server, and a test checks that this page is up to date. A bad image never gets into a
collection, and no message shows a path that the user did not give.
"""

# Image files for `index`, `search` and the server: name → (description, bytes).
BadImages = dict[str, tuple[str, bytes]]


def bad_images() -> BadImages:
    """Return files that are not valid images of the format in their names."""
    good = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(good, "PNG")
    png = good.getvalue()
    photo = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(photo, "JPEG")
    size = struct.pack(">II", 60_000, 60_000) + b"\x08\x02\0\0\0"
    bomb = png[:16] + size + struct.pack(">I", zlib.crc32(b"IHDR" + size)) + png[33:]
    return {
        "empty.jpg": ("an empty file", b""),
        "text.jpg": ("text named .jpg", b"once upon a time"),
        "half.png": ("half a PNG", png[: len(png) // 2]),
        "half.jpg": ("half a JPEG", photo.getvalue()[:400]),
        "bomb.png": ("a PNG that claims 60,000 × 60,000 pixels", bomb),
        "page.png": ("a PostScript file named .png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "vector.png": ("an SVG named .png", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        "movie.jpg": ("a video named .jpg", b"\0\0\0\x14ftypisom\0\0\0\0isom"),
        "huge.webp": ("an animated WebP of 204 bytes that claims 16,384 × 16,384 pixels", animation(16_384)),
    }


def animation(side: int) -> bytes:
    """Make an animated WebP whose canvas is a square, and whose frames are small."""
    file = io.BytesIO()
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    canvas = (side - 1).to_bytes(3, "little") * 2
    return file.getvalue()[:24] + canvas + file.getvalue()[30:]


def command(line: str) -> tuple[int, str]:
    """Run a command, and return its exit code and its message."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["lookalike", *line.split()]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli()
            code = 0
        except SystemExit as e:
            code = int(e.code or 0)
    words = err.getvalue().strip() or out.getvalue().strip()
    return code, words


COMMANDS = (
    "search shop none.jpg",
    "verify photos photos/cup.png",
    "search shop photos/cup.png -k 0",
    "search shop photos/cup.png -k many",
    "search shop photos/cup.png --within -1",
    "search shop photos/cup.png --within nan",
    "search shop photos/cup.png --within 120%",
    "search shop photos/cup.png --within 1 -k 2",
    "search shop photos/cup.png --metric hamming",
    "search shop photos/cup.png --expand 0",
    "search shop photos/cup.png --expand 3 --far 0.01",
    "search shop drawings",
    "search shop drawings --sketch",
    "search shop",
    "search shop --text mug",
    "search shop photos/cup.png --text mug",
    "search nowhere photos/cup.png",
    "search torn photos/cup.png",
    "search endless photos/cup.png",
    "search linked photos/cup.png",
    "search newer photos/cup.png",
    "search swapped photos/cup.png",
    "index nowhere --to shop",
    "index photos --to shop --encoder nobody",
    "index photos --to shop --encoder cifar10-triplet",
    "index photos --to shop --labels strange.csv",
    "join shop",
    "join shop -k 1 --out pairs.xlsx",
    "remove shop nothing",
    "reindex shop --encoder toyshop",
    "reindex shop --encoder nobody",
    "compress shop",
    "compress shop --codec zip",
    "compress shop --codec scalar:5",
    "compress shop --undo",
    "encoders --fetch nobody",
    "encoders --fetch hf://org",
    "encoders --fetch sscd",
    "encoders --fetch padded",
    "encoders --fetch outside",
    "encoders --accept-licence",
    "datasets nowhere",
    "datasets strange.csv",
    "datasets torn.npz",
    "datasets one",
    "datasets single",
    "datasets classes --split test",
    "evaluate toyshop",
    "evaluate nobody --data classes",
    "evaluate toyshop --data empty",
    "evaluate toyshop --data one",
    "evaluate toyshop --data single",
    "evaluate toyshop --data classes --classes mugs",
    "evaluate toyshop --data classes --on cooking",
    "evaluate toyshop --data classes --ways 5,many",
    "evaluate toyshop --data classes --pairs 1",
    "evaluate toyshop --data classes --on few-shot --no-report",
    "evaluate toyshop --data classes --out recipe.yaml",
    "evaluate toyshop --runs recipe.yaml",
    "evaluate cifar10-triplet --data classes --sketches classes --no-report",
    "calibrate toyshop",
    "calibrate toyshop --data classes",
    "calibrate toyshop --data classes --to photos",
    "calibrate toyshop --data one --to copy",
    "calibrate shop",
    "verify photos/cup.png none.jpg",
    "verify photos/cup.png photos/cup.png --far 0.01",
    "verify photos/cup.png photos/cup.png --far 2",
    "verify photos/cup.png photos/cup.png --within -1",
    "verify photos/cup.png photos/cup.png --within 1 --far 0.1",
    "verify photos/cup.png photos/cup.png --metric hamming",
    "verify photos/cup.png photos/cup.png --sketch --encoder cifar10-triplet",
    "classify photos/cup.png --support nowhere",
    "classify photos/cup.png --support photos",
    "classify photos/cup.png --support shop",
    "classify photos/cup.png --support classes -k 0",
    "train nowhere.yaml",
    "train strange.csv",
    "train recipe.yaml",
    "train pickled.yaml",
    "train unpublished.yaml",
    "train torn.yaml",
    "train other.yaml",
    "train --from toyshop nowhere",
    "train --from nobody classes",
    "train --from toyshop one",
    "train --from toyshop single",
    "train --from toyshop classes",
    "train --from toyshop classes --whole",
    "train --from toyshop photos",
    "train classes --labels strange.csv",
    "train photos",
    "train --sketches-for nowhere",
    "train --sketches-for shop",
    "train --sketches-for blank",
    "train --sketches-for shop --to photos",
    "train --sketches-for shop --whole",
    "train --sketches-for shop -o drawings=0",
    "export nowhere.safetensors --to new",
    "export resnet18.pth --to new",
    "export torn.safetensors --to new",
    "export other.safetensors --to new",
    "export other.safetensors --to new --network resnet18",
    "export other.safetensors --to new --network resnet19",
    "export other.safetensors --to new -o size=64",
    "export other.safetensors --to new --int8 static",
    "export other.safetensors --to photos",
    "study nowhere.yaml",
    "study recipe.yaml",
    "study compression nowhere --to codes",
    "study compression shop --to codes",
    "study compression shop --to codes --sketch",
    "study compression shop --to codes --methods opqs",
    "study compression torn.npz --to codes",
    "serve shop shop",
    "serve shop other/shop",
)


def write_labelled_images() -> None:
    """Write folders with two classes, with one class, with two classes of one image each, and with no class."""
    products = sample.catalogue(32)
    for folder, count in (("classes", 2), ("single", 1)):
        for name in ("cups", "hats"):
            (Path(folder) / name).mkdir(parents=True)
            for i in range(count):
                products.pop().photo(64).save(f"{folder}/{name}/{i}.png")
    Path("one/cups").mkdir(parents=True)
    products.pop().photo(64).save("one/cups/0.png")
    Path("empty").mkdir()
    Path("torn.npz").write_bytes(b"PK\x03\x04 and no more")


def write_blank_images() -> None:
    """Write white images of different sizes, as many as a sketch branch needs."""
    Path("blank").mkdir()
    for i in range(50):
        Image.new("RGB", (64 + i, 64), "white").save(f"blank/{i}.png")


RECIPE = """
name: mugs
data: {{sources: [{{path: classes}}], size: 64}}
network: {{backbone: resnet18, weights: {weights}}}
losses: [{{kind: cross_entropy}}]
sampler: {{classes: 2, items: 2}}
optimiser: {{learning_rate: 0.1}}
schedule: {{kind: constant}}
train: {{epochs: 1}}
"""


def write_drawings() -> None:
    """Write a folder with drawings that are invalid."""
    Path("drawings").mkdir()
    for name, stroke in (("far", "[9000, 0, 0.5]"), ("flat", "[1, 2]"), ("nan", "[NaN, 0, 0.5]")):
        Path(f"drawings/{name}.json").write_text(f'{{"strokes": [{{"points": [{stroke}]}}]}}')


def write_recipes() -> None:
    """Write a recipe that is invalid, and recipes that name unusable weights."""
    Path("recipe.yaml").write_text("name: x\ncolour: blue\n")
    Path("torn.safetensors").write_bytes(b"once upon a time")
    save_file({"conv1.weight": np.zeros((64, 3, 3, 3), np.float32)}, "other.safetensors")
    weights = {
        "pickled": "resnet18.pth",
        "unpublished": "imagenet",
        "torn": "torn.safetensors",
        "other": "other.safetensors",
    }
    for name, file in weights.items():
        Path(f"{name}.yaml").write_text(RECIPE.format(weights=file))


def try_commands() -> list[tuple[str, str, str]]:
    """Return a row for each command: the command, its exit code and its message."""
    rows = []
    for name, (description, data) in bad_images().items():
        Path(name).write_bytes(data)
        code, words = command(f"search shop {name}")
        rows.append((f"`search shop {name}`: {description}", f"exit {code}", words))
    for line in COMMANDS:
        code, words = command(line)
        rows.append((f"`{line}`", f"exit {code}", words))
    Path("mixed").mkdir()
    for name, (_, data) in bad_images().items():
        (Path("mixed") / name).write_bytes(data)
    sample.catalogue(1)[0].photo().save("mixed/good.jpg")
    Path("mixed/drawing.jpg").write_text('{"strokes": [{"points": [[0, 0, 0.5], [1000, 1000, 0.5]]}]}')
    for name in ("clip.mov", "logo.svg", "paper.pdf", "notes.txt"):
        (Path("mixed") / name).write_bytes(b"text")
    code, words = command("index mixed --to mixed --json")
    rows.append(
        (
            "`index mixed`: the nine files above, a drawing named .jpg, one good image, a video, an SVG, a PDF and a text",
            f"exit {code}",
            words,
        )
    )
    Path("classes/hats/broken.png").write_bytes(b"text")
    for line in ("datasets classes", "evaluate toyshop --data classes --on retrieval --no-report"):
        code, words = command(line)
        rows.append((f"`{line}`: one image of five is broken", f"exit {code}", words))
    return rows


def try_requests(client: TestClient) -> list[tuple[str, str, str]]:
    """Return a row for each request: its description, the status and the message."""
    rows = []
    search = "/api/collections/shop/search"

    def add_row(request: str, response: object) -> None:
        status, text = response.status_code, response.text  # type: ignore[attr-defined]  # of httpx or httpx2
        try:
            body = json.loads(text)
            words = body.get("detail", text)
        except ValueError:
            words = text
        rows.append((request, str(status), str(words)))

    for name, (description, data) in bad_images().items():
        add_row(f"search by {description}", client.post(search, files={"image": (name, data)}))
    add_row("search by an image that is not Base64", client.post(search, json={"image": "?!"}))
    add_row("search by a text, with an encoder for images alone", client.post(search, json={"text": "red mug"}))
    add_row("search by a text of 1,001 characters", client.post(search, json={"text": "x" * 1001}))
    add_row("search by an empty text", client.post(search, json={"text": ""}))
    add_row("search without an image", client.post(search, json={}))
    add_row("search by invalid JSON", client.post(search, content=b"{", headers={"content-type": "application/json"}))
    add_row("search by an item that does not exist", client.post(search, json={"item": "../../etc/passwd"}))
    item = client.get("/api/collections/shop/items").json()["items"][0]["id"]
    for options in (
        {"k": 0},
        {"k": "many"},
        {"within": -1},
        {"within": "3..2"},
        {"within": "near"},
        {"k": 1, "within": 1},
        {"metric": "manhattan"},
        {"cake": 1},
        {"expand": "ten"},
        {"branch": "sketch"},
    ):
        add_row(f"search with `{json.dumps(options)}`", client.post(search, json={"item": item, **options}))
    cup = Path("photos/cup.png").read_bytes()
    add_row("search by an image and a sketch", client.post(search, files={"image": cup, "sketch": cup}))
    add_row("search by a drawing without strokes", client.post(search, files={"sketch": b'{"strokes": 3}'}))
    add_row("a collection that does not exist", client.get("/api/collections/none/items"))
    add_row("an image by path", client.get("/api/collections/shop/items/..%2F..%2Fmanifest.json/image"))
    add_row("a body of 40 MB", client.post("/search", content=b"A" * 40_000_000))
    add_row("`POST /search` with an empty body", client.post("/search", content=b""))
    add_row("a method that the address does not answer", client.put("/api/collections/shop"))
    return rows


def write_public_encoders() -> None:
    """Write configurations of public encoders that lookalike does not follow."""
    for folder, name, tree in (
        ("padded", "preprocessor_config.json", {"do_pad": True, "size": {"height": 224, "width": 224}}),
        ("outside", "lookalike.json", {"network": "../model.onnx", "size": 224, "mean": [0, 0, 0], "std": [1, 1, 1]}),
    ):
        Path(folder).mkdir()
        Path(folder, name).write_text(json.dumps(tree))
        Path(folder, "model.onnx").touch()


def render() -> str:
    """Try everything in a temporary folder, and return the page."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["XDG_STATE_HOME"] = os.environ["XDG_CACHE_HOME"] = folder  # and not in this user's own
        try:
            Path("photos").mkdir()
            sample.catalogue(21)[20].photo().save("photos/cup.png")
            for name in ("shop", "torn", "endless", "linked", "newer", "swapped"):
                with Collection.create(f"{name}.lookalike", encoders.load("toyshop")) as collection:
                    collection.add(Path("photos"))
            Path("torn.lookalike/catalog.sqlite").write_bytes(b"not a database at all, but long enough to be one" * 99)
            with contextlib.closing(sqlite3.connect("endless.lookalike/catalog.sqlite")) as sql:
                numbers = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT i, '' FROM n"
                sql.executescript(f"DROP TABLE generation; CREATE VIEW generation (number, token) AS {numbers}")
            Path("linked.lookalike/catalog.sqlite").unlink()
            Path("linked.lookalike/catalog.sqlite").symlink_to(Path("shop.lookalike/catalog.sqlite").absolute())
            manifest = Path("newer.lookalike/manifest.json")
            manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 9'))
            network = Path("swapped.lookalike/encoder/photo.onnx")
            network.write_bytes(network.read_bytes() + b"\x32\0")  # an empty doc_string
            Path("other").mkdir()
            shutil.copytree("shop.lookalike", "other/shop.lookalike")
            write_blank_images()
            with Collection.create("blank.lookalike", encoders.load("toyshop")) as collection:
                collection.add(Path("blank"))
            Path("strange.csv").write_text("image,label\ncup.png,cup\n")
            write_recipes()
            write_drawings()
            write_labelled_images()
            write_public_encoders()
            commands = try_commands()
            with (
                Collection.open("shop.lookalike") as collection,
                TestClient(create_app([collection]), base_url="http://localhost") as client,
            ):
                requests = try_requests(client)
        finally:
            os.chdir(home)
    parts = [HEAD]
    for title, rows in (("On the command line", commands), ("Over HTTP", requests)):
        parts.append(f"\n## {title}\n\n| input | result | message |\n|---|---|---|\n")
        for tried, result, words in rows:
            text = words.replace(folder, "…").replace("|", "\\|").replace("\n", "<br>")
            parts.append(f"| {tried} | {result} | {text} |\n")
    return "".join(parts)


if __name__ == "__main__":
    check = "--check" in sys.argv[1:]  # `command` replaces the arguments
    page = render()
    if check:
        old = PAGE.read_text(encoding="utf-8").splitlines()
        difference = list(difflib.unified_diff(old, page.splitlines(), str(PAGE), "now", n=0, lineterm=""))
        sys.exit("\n".join([*difference, "Run make docs."]) if difference else 0)
    PAGE.write_text(page, encoding="utf-8")
