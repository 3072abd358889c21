"""The files that a server shows, and those that it does not, whatever a catalogue names."""

import base64
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from PIL import Image

from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import UsageError
from lookalike.server import create_app, files
from lookalike.server.files import FileAccess
from lookalike.state import roots
from lookalike.stores import Item
from pocket_server import serving

ITEMS = "/api/collections/shop/items"


def png(colour: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def place(tmp_path: Path, pocket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A collection of a stranger, and a folder of images beside it that the user named or has indexed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    (tmp_path / "photos" / "deep" / "mug.png").write_bytes(png())
    (tmp_path / "photos2").mkdir()
    for secret in ("secret.png", "photos2/secret.png"):
        (tmp_path / secret).write_bytes(png("blue"))
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(pocket)) as shop:

        def add(uri: str | Path, sha256: str = "") -> str:
            """Add an item with any uri, and return its id."""
            ident = f"item{len(shop)}"
            vector = np.zeros((1, shop.store.space.dimension), np.float32)
            shop.store.upsert([Item(ident, str(uri), sha256=sha256)], vector)
            return ident

        yield SimpleNamespace(path=tmp_path, photos=tmp_path / "photos", shop=shop, add=add)


@contextmanager
def client(shop: Collection, *named: Path, **options: bool) -> Iterator[httpx.Client]:
    with serving(create_app([shop], roots=named, **options)) as url, httpx.Client(base_url=url) as client:  # type: ignore[arg-type]
        yield client


def statuses(client: httpx.Client, ident: str) -> list[int]:
    """The statuses of an item, its image and its thumbnail; answers contain no path."""
    answers = [client.get(f"{ITEMS}/{ident}{part}") for part in ("", "/image", "/thumbnail")]
    assert not any(b"secret" in answer.content or b"/photos" in answer.content for answer in answers[1:])
    for answer in answers:
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
    return [answer.status_code for answer in answers]


# ---- roots


def test_an_absolute_path_is_shown_only_below_a_named_root(place: SimpleNamespace) -> None:
    mug = place.add(place.photos / "deep" / "mug.png")
    with client(place.shop) as unnamed:
        assert statuses(unnamed, mug) == [200, 403, 403]
        assert "--root" in unnamed.get(f"{ITEMS}/{mug}/image").json()["detail"]
        assert unnamed.get(f"{ITEMS}/{mug}").json()["missing"] is None
    for root in (place.photos, place.photos / "deep", place.photos / "deep" / "mug.png", place.path):
        with client(place.shop, root) as named:
            assert statuses(named, mug) == [200, 200, 200]
            assert named.get(f"{ITEMS}/{mug}").json()["missing"] is False


def test_a_folder_that_the_user_indexed_is_a_root_also_while_the_server_runs(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(place.shop) as http:
        assert not list(place.shop)
        monkeypatch.setattr(files, "_REFRESH", 0.0)
        place.shop.add(place.photos)
        (ident,) = [item.id for item in place.shop]
        assert statuses(http, ident) == [200, 200, 200]
        assert statuses(http, place.add(place.path / "secret.png")) == [200, 403, 403]
    shutil.copytree(place.shop.path, place.path / "copy" / "shop.lookalike")
    with Collection.open(place.path / "copy" / "shop.lookalike") as copy, client(copy) as http:
        assert statuses(http, ident) == [200, 403, 403]  # as one that a stranger sent


def test_an_uploaded_image_needs_no_root(place: SimpleNamespace) -> None:
    with client(place.shop) as http:
        item = http.post(ITEMS, files={"image": png("green")}).json()
        assert statuses(http, item["id"]) == [200, 200, 200]
        assert (item["missing"], item["path"]) == (False, None)


def links(place: SimpleNamespace) -> dict[str, Path | str]:
    """Ways out of the root, by name."""
    inside = place.photos
    (inside / "link.png").symlink_to(place.path / "secret.png")
    (inside / "folder").symlink_to(place.path / "photos2")
    (inside / "up").symlink_to("..")
    (inside / "chain.png").symlink_to("link.png")
    (place.path / "entry").symlink_to(inside)
    return {
        "beside": place.path / "secret.png",
        "same beginning": place.path / "photos2" / "secret.png",
        "dots": f"{inside}/../secret.png",
        "dots after a folder": f"{inside}/deep/../../secret.png",
        "a link": inside / "link.png",
        "a link to a link": inside / "chain.png",
        "a link to a folder": inside / "folder" / "secret.png",
        "a link upwards": inside / "up" / "secret.png",
        "a link from outside": place.path / "entry" / "link.png",
        "the link of a process": f"/proc/{os.getpid()}/cwd/../{place.path}/secret.png",
    }


def test_no_path_leads_out_of_a_root(place: SimpleNamespace) -> None:
    paths = links(place)
    with client(place.shop, place.photos) as http:
        for name, path in paths.items():
            assert statuses(http, place.add(path))[1:] == [403, 403], name
        good = place.photos / "deep" / "good.png"
        good.symlink_to("mug.png")  # a link that stays inside
        assert statuses(http, place.add(good)) == [200, 200, 200]
        assert statuses(http, place.add(place.path / "entry" / "deep" / "mug.png")) == [200, 200, 200]


@pytest.mark.parametrize(
    "uri",
    [
        "images/../../secret.png",
        "../secret.png",
        "secret.png",
        "images/secret.png",
        f"images/{'0' * 64}.png/../../../secret.png",
        "file:///etc/passwd",
        "",
        ".",
        "C:\\secret.png",
        "//secret.png",
        "/",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "~/secret.png",
        f"/{'x' * 5000}",
        f"/{'x/' * 3000}",
        "a\nb",
    ],
)
def test_a_hostile_uri_shows_no_file(place: SimpleNamespace, uri: str) -> None:
    ident = place.add(uri)
    with client(place.shop, place.photos) as http:
        item, *others = statuses(http, ident)
        assert item == 200
        assert set(others) <= {403, 404, 422}
        assert http.get(ITEMS).status_code == 200
        found = http.post("/api/collections/shop/search", files={"image": png()})
        assert [hit["id"] for hit in found.json()["hits"]] == [ident]


def test_images_in_the_folder_are_not_links(place: SimpleNamespace) -> None:
    name = f"images/{'ab' * 32}.png"
    (place.shop.path / "images").mkdir(exist_ok=True)
    (place.shop.path / name).symlink_to(place.path / "secret.png")
    ident = place.add(name)
    with client(place.shop, place.photos) as http:
        assert set(statuses(http, ident)[1:]) <= {403, 404}
        (place.shop.path / name).unlink()
        (place.shop.path / "images").rmdir()
        (place.shop.path / "images").symlink_to(place.path / "photos2")
        (place.path / "photos2" / f"{'ab' * 32}.png").write_bytes(png("blue"))
        assert set(statuses(http, ident)[1:]) <= {403, 404}


def test_only_regular_files_are_opened(place: SimpleNamespace) -> None:
    os.mkfifo(place.photos / "pipe.png")
    (place.photos / "folder.png").mkdir()
    (place.photos / "empty.png").touch()
    (place.photos / "text.png").write_text("root:x:0:0")
    (place.photos / "zero.png").symlink_to("/dev/zero")
    with client(place.shop, place.photos) as http:
        for name in ("pipe.png", "folder.png", "empty.png", "text.png"):
            assert statuses(http, place.add(place.photos / name))[1:] == [422, 422], name
        assert statuses(http, place.add(place.photos / "zero.png"))[1:] == [403, 403]
        gone = place.add(place.photos / "gone.png")
        assert statuses(http, gone)[1:] == [404, 404]
        assert http.get(f"{ITEMS}/{gone}").json()["missing"] is True
        assert statuses(http, place.add(place.photos / "deep" / "mug.png" / "x.png"))[1:] == [404, 404]


@pytest.mark.parametrize("part", ["deep", "deep/mug.png"])
def test_a_link_that_takes_the_place_of_a_file_meanwhile_is_not_followed(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    (place.path / "photos2" / "mug.png").write_bytes(png("blue"))
    ident = place.add(place.photos / "deep" / "mug.png")
    original: Callable[[str, str], int] = files._open_below

    def swap_and_open(root: str, real: str) -> int:
        target = place.photos / part
        target.rename(place.path / "moved")
        target.symlink_to(place.path / ("photos2" if part == "deep" else "secret.png"))
        return original(root, real)

    monkeypatch.setattr(files, "_open_below", swap_and_open)
    with client(place.shop, place.photos) as http:
        assert http.get(f"{ITEMS}/{ident}/image").status_code in {403, 404, 422}


def test_a_root_may_be_a_link_or_relative(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.path / "entry").symlink_to(place.photos)
    direct = place.add(place.photos / "deep" / "mug.png")
    linked = place.add(place.path / "entry" / "deep" / "mug.png")
    monkeypatch.chdir(place.path)
    for root in ("entry", "photos", "./photos/../entry"):
        with client(place.shop, Path(root)) as http:
            assert statuses(http, direct) == statuses(http, linked) == [200, 200, 200]


def test_a_root_must_exist(place: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match="--root"):
        create_app([place.shop], roots=[place.path / "nothing"])


def test_a_server_says_which_images_it_cannot_show(place: SimpleNamespace) -> None:
    assert FileAccess(place.shop).describe_outside() is None
    place.add(place.photos / "deep" / "mug.png")
    place.add(place.photos / "my images" / "x.png")
    text = FileAccess(place.shop).describe_outside()
    assert text
    assert "2 of the 2 images of shop" in text
    assert f"--root {place.photos}" in text
    assert FileAccess(place.shop, [place.photos]).describe_outside() is None
    place.add("/etc/x.png")
    place.add("/x.png")
    place.add("../x.png")
    assert "3 of the 5 images" in (FileAccess(place.shop, [place.photos]).describe_outside() or "")


def test_a_server_names_relocate_for_a_folder_that_is_gone(place: SimpleNamespace) -> None:
    place.shop.add(place.photos)
    new = place.path / "new"
    new.mkdir()
    place.shop.close()
    for name in (place.photos.name, place.shop.path.name):
        (place.path / name).rename(new / name)
    with Collection.open(new / place.shop.path.name) as moved:
        text = FileAccess(moved).describe_outside() or ""
    assert f"lookalike relocate {moved.path} {place.photos}" in text
    assert text.endswith(" NEW")
    assert "--root" not in text


def test_the_folder_that_holds_nearly_all_images_is_suggested() -> None:
    many = [f"/home/ann/photos/{label}/{i}.jpg" for label in ("mug", "cup", "hat") for i in range(20)]
    assert files._suggest([*many, "/etc/passwd", "/x.jpg", "relative.jpg"]) == ["/home/ann/photos"]
    others = [f"/srv/more/{i}.jpg" for i in range(40)]
    assert files._suggest([*many, *others, "/etc/secret/x"])[0] == "/srv/more"
    assert files._suggest(["/x.jpg", "/etc/x.jpg", "x.jpg"]) == []
    assert files._suggest([]) == []


# ---- names and paths


def test_names_are_shown_and_paths_only_as_a_setting(place: SimpleNamespace) -> None:
    place.shop.add(place.photos)
    (item,) = place.shop
    with client(place.shop) as http:
        shown = http.get(f"{ITEMS}/{item.id}")
        assert (shown.json()["name"], shown.json()["size"], shown.json()["path"]) == ("mug.png", len(png()), None)
        assert shown.json()["modified"].startswith("20")
        assert str(place.path) not in shown.text
        hit = http.post("/api/collections/shop/search", files={"image": png()}).json()["hits"][0]
        assert {key: hit[key] for key in shown.json()} == shown.json()
    hostile = place.add("images/../../secret.png")
    with client(place.shop, show_paths=True) as http:
        assert http.get(f"{ITEMS}/{item.id}").json()["path"] == str(place.photos / "deep" / "mug.png")
        assert http.get(f"{ITEMS}/{hostile}").json()["path"] is None


def test_an_id_with_any_characters_has_an_address(place: SimpleNamespace) -> None:
    idents = ["a b", "a#b?c=d&e", "käse", "100%", "a/b", "%2F", '"<x>', "a;b"]
    vectors = np.zeros((len(idents), place.shop.store.space.dimension), np.float32)
    path = place.photos / "deep" / "mug.png"
    place.shop.store.upsert([Item(ident, str(path)) for ident in idents], vectors)
    with client(place.shop, place.photos) as http:
        items = http.get(ITEMS).json()["items"]
        assert {item["id"] for item in items} == set(idents)
        for item in items:
            assert http.get(item["uri"]).content == path.read_bytes(), item["id"]
            assert http.get(item["thumbnail"]).status_code == 200
            assert item["uri"].isascii()
            assert " " not in item["uri"]
        results = http.post("/search", content=base64.b64encode(png())).json()["results"]
        assert [httpx.get(url).status_code for url in results] == [200] * len(idents)


# ---- changed files


def test_a_changed_file_has_another_etag_and_thumbnail(place: SimpleNamespace) -> None:
    path = place.photos / "deep" / "mug.png"
    place.shop.add(place.photos)
    (item,) = place.shop
    with client(place.shop) as http:
        for part in ("image", "thumbnail"):
            path.write_bytes(png("red"))
            address = f"{ITEMS}/{item.id}/{part}"
            red = http.get(address)
            tag = {"if-none-match": red.headers["etag"]}
            assert http.get(address, headers=tag).status_code == 304
            path.write_bytes(png("lime"))
            lime = http.get(address, headers=tag)
            assert (lime.status_code, lime.headers["etag"] == red.headers["etag"]) == (200, False)
            assert dominant(lime.content)[1] > 200
            replaced = path.with_name("new.png")
            replaced.write_bytes(png("blue"))
            os.utime(replaced, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
            replaced.replace(path)
            blue = http.get(address, headers={"if-none-match": lime.headers["etag"]})
            assert dominant(blue.content)[2] > 200
            path.write_bytes(png("red"))
            assert dominant(http.get(address).content)[0] > 200


def dominant(content: bytes) -> tuple[int, int, int]:
    pixel = Image.open(io.BytesIO(content)).convert("RGB").getpixel((5, 5))
    assert isinstance(pixel, tuple)
    return pixel  # type: ignore[return-value]


def test_a_thumbnail_comes_from_the_cache_while_the_file_is_unchanged(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.photos / "deep" / "mug.png"
    os.utime(path, (1e9, 1e9))
    place.shop.add(place.photos)
    (item,) = place.shop
    with client(place.shop) as http:
        first = http.get(f"{ITEMS}/{item.id}/thumbnail").content
        monkeypatch.setattr(place.shop.folder.__class__, "make_thumbnail", lambda *_: b"made again")
        assert http.get(f"{ITEMS}/{item.id}/thumbnail").content == first


def test_the_known_roots_of_a_collection_are_those_of_its_user(place: SimpleNamespace) -> None:
    place.shop.add(place.photos)
    assert roots.known_roots(place.shop.path) == (place.photos,)
