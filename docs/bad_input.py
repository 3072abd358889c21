"""Try bad input on the real command line and the real server, and write what each gave to docs/bad-input.md.

python docs/bad_input.py            # write the page
python docs/bad_input.py --check    # exit 1 if the page says something else
"""

import contextlib
import io
import json
import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path

from fastapi.testclient import TestClient
from PIL import Image

from lookalike import encoders, sample
from lookalike.cli import main as cli
from lookalike.collection import Collection, entries
from lookalike.server import create_app

PAGE = Path(__file__).parent / "bad-input.md"

HEAD = """# Bad input, and what it gives

Every line was tried by `python docs/bad_input.py` on the real command line and the real server; a test checks that the page
is what that gives. None of the bad pictures gets into a collection, and no line shows a path that the asker did not give.
"""

# What `index`, `search` and the server are given as pictures: name → (what it is, bytes).
Pictures = dict[str, tuple[str, bytes]]


def bad_pictures() -> Pictures:
    """Files that are not what they seem."""
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
    }


def command(line: str) -> tuple[int, str]:
    """Exit code and last words of a command."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["lookalike", *line.split()]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli()
            code = 0
        except SystemExit as e:
            code = int(e.code or 0)
    words = err.getvalue().strip() or out.getvalue().strip()
    if "╭" in words:  # Typer frames what it says of usage
        inside = [line.strip("│ ") for line in words.splitlines() if line.startswith("│")]
        words = " ".join(inside)
    return code, words


COMMANDS = (
    "search shop none.jpg",
    "search shop photos",
    "search shop photos/cup.png -k 0",
    "search shop photos/cup.png -k many",
    "search shop photos/cup.png --within -1",
    "search shop photos/cup.png --within nan",
    "search shop photos/cup.png --within 120%",
    "search shop photos/cup.png --within 1 -k 2",
    "search shop photos/cup.png --metric hamming",
    "search nowhere photos/cup.png",
    "search torn photos/cup.png",
    "search newer photos/cup.png",
    "search swapped photos/cup.png",
    "index nowhere --to shop",
    "index photos --to shop --encoder nobody",
    "index photos --to shop --encoder cifar10-triplet",
    "index photos --to shop --labels strange.csv",
    "join shop",
    "join shop -k 1 --out pairs.xlsx",
    "remove shop nothing",
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
    "train photos",
    "study nowhere.yaml",
    "study recipe.yaml",
    "serve shop shop",
)


def labelled_pictures() -> None:
    """Pictures in folders that are classes: two of them, a single one, two with a picture each, and none."""
    products = sample.catalogue(32)
    for folder, pictures in (("classes", 2), ("single", 1)):
        for name in ("cups", "hats"):
            (Path(folder) / name).mkdir(parents=True)
            for i in range(pictures):
                products.pop().photo(64).save(f"{folder}/{name}/{i}.png")
    Path("one/cups").mkdir(parents=True)
    products.pop().photo(64).save("one/cups/0.png")
    Path("empty").mkdir()
    Path("torn.npz").write_bytes(b"PK\x03\x04 and no more")


def rows_of_commands() -> list[tuple[str, str, str]]:
    """What the command line says."""
    rows = []
    for name, (what, data) in bad_pictures().items():
        Path(name).write_bytes(data)
        code, words = command(f"search shop {name}")
        rows.append((f"`search shop {name}`: {what}", f"exit {code}", words))
    for line in COMMANDS:
        code, words = command(line)
        rows.append((f"`{line}`", f"exit {code}", words))
    Path("mixed").mkdir()
    for name, (_, data) in bad_pictures().items():
        (Path("mixed") / name).write_bytes(data)
    sample.catalogue(1)[0].photo().save("mixed/good.jpg")
    code, words = command("index mixed --to mixed --json")
    rows.append(("`index mixed`: the seven files above and one good picture", f"exit {code}", words))
    Path("classes/hats/broken.png").write_bytes(b"no picture")
    for line in ("datasets classes", "evaluate toyshop --data classes --on retrieval --no-report"):
        code, words = command(line)
        rows.append((f"`{line}`: one picture of five is broken", f"exit {code}", words))
    return rows


def rows_of_requests(client: TestClient) -> list[tuple[str, str, str]]:
    """What the server says."""
    rows = []
    search = "/api/collections/shop/search"

    def told(what: str, response: object) -> None:
        status, text = response.status_code, response.text  # type: ignore[attr-defined]  # httpx's, either kind
        try:
            body = json.loads(text)
            words = body.get("detail", text)
        except ValueError:
            words = text
        rows.append((what, str(status), str(words)))

    for name, (what, data) in bad_pictures().items():
        told(f"search by {what}", client.post(search, files={"image": (name, data)}))
    told("search by what is no Base64", client.post(search, json={"image": "?!"}))
    told("search by nothing", client.post(search, json={}))
    told("search by JSON that is none", client.post(search, content=b"{", headers={"content-type": "application/json"}))
    told("search by an item that is not there", client.post(search, json={"item": "../../etc/passwd"}))
    item = client.get("/api/collections/shop/items").json()["items"][0]["id"]
    for what in ({"k": 0}, {"k": "many"}, {"within": -1}, {"k": 1, "within": 1}, {"metric": "manhattan"}, {"cake": 1}):
        told(f"search with `{json.dumps(what)}`", client.post(search, json={"item": item, **what}))
    told("a collection that is not there", client.get("/api/collections/none/items"))
    told("an image by path", client.get("/api/collections/shop/items/..%2F..%2Fmanifest.json/image"))
    told("a body of 40 MB", client.post("/search", content=b"A" * 40_000_000))
    told("`POST /search` with an empty body", client.post("/search", content=b""))
    told("a method that is not there", client.put("/api/collections/shop"))
    return rows


def page() -> str:
    """The page, from trying everything in a folder of its own."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("photos").mkdir()
            sample.catalogue(21)[20].photo().save("photos/cup.png")
            for name in ("shop", "torn", "newer", "swapped"):
                with Collection.create(f"{name}.lookalike", encoders.load("toyshop")) as collection:
                    collection.add(entries(Path("photos")))
            Path("torn.lookalike/catalog.sqlite").write_bytes(b"not a database at all, but long enough to be one" * 99)
            manifest = Path("newer.lookalike/manifest.json")
            manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 9'))
            network = Path("swapped.lookalike/encoder/photo.onnx")
            network.write_bytes(network.read_bytes() + b"\0")
            Path("strange.csv").write_text("picture,label\ncup.png,cup\n")
            Path("recipe.yaml").write_text("name: x\ncolour: blue\n")
            labelled_pictures()
            commands = rows_of_commands()
            with Collection.open("shop.lookalike") as collection, TestClient(create_app([collection])) as client:
                requests = rows_of_requests(client)
        finally:
            os.chdir(home)
    parts = [HEAD]
    for title, rows in (("On the command line", commands), ("Over HTTP", requests)):
        parts.append(f"\n## {title}\n\n| tried | gave | in these words |\n|---|---|---|\n")
        for tried, gave, words in rows:
            text = words.replace(folder, "…").replace("|", "\\|").replace("\n", "<br>")
            parts.append(f"| {tried} | {gave} | {text} |\n")
    return "".join(parts)


if __name__ == "__main__":
    made = page()
    if "--check" in sys.argv:
        sys.exit(made != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(made, encoding="utf-8")
