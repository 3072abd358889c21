"""The command line, as a user types it."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import typer.main
from PIL import Image

import pocket_encoder
import processes
from lookalike import __version__, encoders, sample
from lookalike.cli import COMMANDS, OPTIONS, main
from lookalike.cli.app import app
from lookalike.collection import Collection

DOCS = Path(__file__).parent.parent / "docs"


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 -- any JSON
        return json.loads(self.out)


class Shell:
    """Runs commands within this process, in a folder of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *args: str) -> Result:
        self._monkeypatch.setattr(sys, "argv", ["lookalike", *args])
        self._capfd.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as e:
            code = e.code
        return Result(code or 0, *self._capfd.readouterr())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, sketches and an encoder."""
    folder = tmp_path_factory.mktemp("shop")
    sample.write(folder, 40, 0)
    pocket_encoder.make(folder / "pocket")
    return folder


@pytest.fixture
def shell(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    shutil.copytree(shop, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capfd)


@pytest.fixture
def indexed(shell: Shell) -> Shell:
    assert shell("index", "photos", "--to", "shop", "--encoder", "pocket", "--labels", "folder").code == 0
    return shell


@pytest.fixture(scope="module")
def image(shop: Path) -> str:
    """The relative path of an image."""
    return str(sorted((shop / "photos").rglob("*.jpg"))[7].relative_to(shop))


def test_an_image_of_the_collection_comes_first_at_distance_zero(indexed: Shell, image: str) -> None:
    answer = indexed("search", "shop", image, "--json").json
    assert list(answer) == [
        "query",
        "hits",
        "metric",
        "exact",
        "complete",
        "recall",
        "no_match",
        "calibrated_on",
        "branch",
        "codec",
        "note",
        "blank",
    ]
    assert (answer["exact"], answer["recall"]) == (True, None)
    assert len(answer["hits"]) == 10
    first = answer["hits"][0]
    assert first["uri"] == str(Path(image).absolute())
    assert first["distance"] == 0
    assert first["similarity"] == 1
    assert first["label"] == Path(image).parent.name
    distances = [hit["distance"] for hit in answer["hits"]]
    assert distances == sorted(distances)


def test_several_queries_give_a_list(indexed: Shell, image: str) -> None:
    answers = indexed("search", "shop", image, image, "-k", "2", "--json").json
    assert len(answers) == 2
    assert answers[0] == answers[1]


def test_a_table_shows_distance_label_and_path(indexed: Shell, image: str) -> None:
    out = indexed("search", "shop.lookalike", image, "-k", "1").out
    assert re.search(rf"0\.00 +{Path(image).parent.name} +{re.escape(image)}", out)
    assert "%" not in out


def test_within_takes_a_distance_or_a_similarity(indexed: Shell, image: str) -> None:
    far = indexed("search", "shop", image, "-k", "5", "--json").json["hits"][-1]
    by_distance = indexed("search", "shop", image, "--within", str(far["distance"]), "--json").json["hits"]
    by_similarity = indexed("search", "shop", image, "--within", f"{far['similarity'] * 100 - 1e-6}%", "--json").json[
        "hits"
    ]
    assert by_distance == by_similarity
    assert len(by_distance) == 5


def test_a_search_is_filtered_by_label_and_takes_a_metric(indexed: Shell, image: str) -> None:
    hits = indexed("search", "shop", image, "--label", "mug", "--metric", "cosine", "--json").json
    assert {hit["label"] for hit in hits["hits"]} == {"mug"}
    assert hits["metric"] == "cosine"


def test_without_calibration_there_is_no_verdict_and_no_probability(indexed: Shell, image: str) -> None:
    done = indexed("verify", image, image, "--encoder", "pocket")
    assert (done.code, "0.00" in done.out) == (0, True)
    assert "verdict" not in done.out
    assert "lookalike calibrate" in done.err
    assert indexed("verify", image, image, "--encoder", "pocket", "--json").json["same"] is None
    assert "the same, by the threshold 0.50" in indexed("verify", image, image, "--within", "0.5").out
    assert {h["probability"] for h in indexed("search", "shop", image, "--json").json["hits"]} == {None}
    assert "same" not in indexed("search", "shop", image).out


@pytest.mark.slow
def test_a_calibrated_collection_gives_probabilities(indexed: Shell, image: str) -> None:
    sample.write(Path("more"), 120, 1)
    indexed("index", "more/photos", "--to", "shop", "--labels", "folder")
    done = indexed("calibrate", "shop")
    assert done.code == 0
    for part in ("false accept rate", "Best threshold", "AUC", "█", "open it again", "Give more images"):
        assert part in done.out + done.err
    hits = indexed("search", "shop", image, "-k", "160", "--json").json["hits"]
    odds = [hit["probability"] for hit in hits]
    assert odds == sorted(odds, reverse=True)
    assert odds[0] > 0.5 > odds[-1]
    assert "%" not in indexed("search", "shop", image, "-k", "1").out
    card = json.loads(Path("shop.lookalike/encoder/encoder.json").read_text(encoding="utf-8"))
    near = indexed("search", "shop", image, "--far", "0.1", "--json").json["hits"]
    assert near == [hit for hit in hits if hit["distance"] <= card["calibrations"][0]["distance_at_far"]["0.1"]]
    assert indexed("search", "shop", image, "--far", "0.00001").code == 2
    result = indexed("calibrate", "shop", "--to", "copy", "--json").json
    assert result["calibration"] == card["calibrations"][0]
    assert 0.5 < result["accuracy"] <= 1
    verdict = indexed("verify", image, image, "--encoder", "copy", "--json").json
    assert (verdict["distance"], verdict["same"]) == (0, True)
    assert verdict["threshold"] == card["calibrations"][0]["threshold"]
    assert (
        "99%, if same and different were equally frequent" in indexed("verify", image, image, "--encoder", "copy").out
    )
    assert indexed("join", "shop", "-k", "1").code == 0  # the encoder is the same one still


@pytest.mark.slow
def test_an_encoder_is_calibrated_on_data_and_a_bundled_one_only_as_a_copy(shell: Shell) -> None:
    sample.write(Path(), 120, 0)
    Path("photos/mug/broken.jpg").write_bytes(b"text")
    done = shell("calibrate", "pocket", "--data", "photos", "--seed", "3")
    assert done.code == 0
    assert "broken.jpg" in done.err
    assert "120 images" in done.out
    refused = shell("calibrate", "toyshop", "--data", "photos")
    assert (refused.code, "--to DIR" in refused.err) == (2, True)
    result = shell("calibrate", "toyshop", "--data", "photos", "--to", "mine", "--json").json
    assert result["auc"] > 0.8
    assert shell("calibrate", "toyshop", "--data", "photos", "--to", "mine").code == 1
    assert shell("index", "photos", "--to", "shop", "--encoder", "mine").code == 0
    shutil.move("photos", "split/train")
    shutil.copytree("split/train", "split/test")
    which = shell("calibrate", "pocket", "--data", "split")
    assert (which.code, "--split" in which.err) == (2, True)
    assert shell("calibrate", "pocket", "--data", "split", "--split", "test").code == 0


def test_images_are_classified_by_a_folder_and_by_a_collection(indexed: Shell, image: str) -> None:
    label = Path(image).parent.name
    answer = indexed("classify", image, "--support", "photos", "--encoder", "pocket", "--json").json
    assert (answer["by"], answer["metric"], len(answer["classes"])) == ("example", "euclidean", 5)
    assert (answer["classes"][0]["label"], answer["classes"][0]["distance"]) == (label, 0)
    assert indexed("classify", image, "--support", "shop", "--json").json == answer
    several = indexed("classify", image, image, "--support", "shop", "--by", "prototype", "-k", "2", "--json").json
    assert [len(one["classes"]) for one in several] == [2, 2]
    Path(f"photos/{label}/broken.jpg").write_bytes(b"text")
    done = indexed("classify", image, image, "--support", "photos", "--encoder", "pocket")
    assert "broken.jpg" in done.err
    assert len(re.findall(rf"0\.00 +{label}$", done.out, re.MULTILINE)) == 2


def test_a_sketch_is_embedded_by_its_own_branch(indexed: Shell) -> None:
    sketch = str(next(Path("sketches").rglob("*.png")))
    assert len(indexed("search", "shop", sketch, "--sketch", "--json").json["hits"]) == 10


def test_an_image_may_come_from_standard_input(indexed: Shell, image: str) -> None:
    command = [sys.executable, "-m", "lookalike", "search", "shop", "-", "--json"]
    done = subprocess.run(command, input=Path(image).read_bytes(), capture_output=True, check=True)
    assert json.loads(done.stdout)["hits"][0]["distance"] == 0


def test_indexing_again_embeds_only_new_images_and_finds_missing_ones(indexed: Shell, image: str) -> None:
    Image.new("RGB", (20, 20), "red").save("photos/new.png")
    Path(image).unlink()
    again = indexed("index", "photos", "--to", "shop", "--labels", "folder", "--json").json
    assert (again["embedded"], again["unchanged"], again["missing"], again["removed"]) == (1, 39, 1, 0)
    pruned = indexed("index", "photos", "--to", "shop", "--labels", "folder", "--prune", "--json").json
    assert (pruned["removed"], pruned["items"]) == (1, 40)


def test_indexing_again_without_labels_keeps_them(indexed: Shell, image: str) -> None:
    Path(image).touch()
    indexed("index", "photos", "--to", "shop")
    first = indexed("search", "shop", image, "-k", "1", "--json").json["hits"][0]
    assert first["label"] == Path(image).parent.name


def test_labels_and_attributes_come_from_a_csv(shell: Shell, image: str) -> None:
    with Path("labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "colour"], [Path(image).relative_to("photos"), "thing", "red"]])
    shell("index", "photos", "--to", "shop", "--encoder", "pocket", "--labels", "labels.csv")
    first = shell("search", "shop", image, "-k", "1", "--json").json["hits"][0]
    assert (first["label"], first["attributes"]) == ("thing", {"colour": "red"})


def test_a_bad_image_is_reported_and_skipped(shell: Shell) -> None:
    Path("photos/broken.jpg").write_bytes(b"text")
    done = shell("index", "photos", "--to", "shop", "--encoder", "pocket")
    assert done.code == 0
    assert "broken.jpg" in done.err
    assert "1 skipped" in done.out


def test_a_folder_of_only_bad_images_is_a_failure(shell: Shell) -> None:
    Path("bad").mkdir()
    Path("bad/broken.jpg").write_bytes(b"text")
    assert shell("index", "bad", "--to", "other", "--encoder", "pocket").code == 1


def test_join_writes_the_same_pairs_in_every_format(indexed: Shell) -> None:
    assert indexed("join", "shop", "-k", "1", "--out", "p.csv").code == 0
    indexed("join", "shop", "-k", "1", "--out", "p.jsonl")
    count = indexed("join", "shop", "shop", "-k", "1", "--out", "p.parquet", "--json").json["pairs"]
    with Path("p.csv").open(newline="") as file:
        rows = [(r["left"], r["right"], float(r["distance"])) for r in csv.DictReader(file)]
    assert [tuple(json.loads(line).values()) for line in Path("p.jsonl").read_text().splitlines()] == rows
    printed = indexed("join", "shop", "-k", "1", "--json").out.splitlines()
    assert [tuple(json.loads(line).values()) for line in printed] == rows
    table = pq.read_table("p.parquet").to_pydict()
    assert list(table) == ["left", "right", "distance"]
    assert list(zip(table["left"], table["right"], strict=True)) == [r[:2] for r in rows]
    assert count == len(rows) >= 20
    assert all(left != right for left, right, _ in rows)
    assert len({frozenset(r[:2]) for r in rows}) == len(rows)


def test_an_approximate_join_reports_its_recall(indexed: Shell) -> None:
    done = indexed("join", "shop", "-k", "1", "--approximate", "--out", "p.csv", "--json")
    assert done.json["exact"] is False
    assert done.json["recall"] == 1  # all of the forty items are compared
    assert "Approximate: the recall is 1.000 (measured on 20 items with 20 pairs)" in done.err
    exact = indexed("join", "shop", "-k", "1", "--out", "q.csv", "--json").json
    assert (exact["exact"], exact["recall"], exact["pairs"]) == (True, 1, done.json["pairs"])
    assert sorted(Path("p.csv").read_text().splitlines()) == sorted(Path("q.csv").read_text().splitlines())


def test_join_of_two_collections_pairs_each_with_its_nearest(indexed: Shell) -> None:
    indexed("index", "photos/mug", "--to", "mugs", "--encoder", "pocket")
    lines = indexed("join", "mugs", "shop", "-k", "1").out.splitlines()
    mugs = len(list(Path("photos/mug").iterdir()))
    assert len(lines) == 1 + mugs
    # The same file in both collections is nearest to itself, at 0.
    assert all(left == right and float(d) == 0 for left, right, d in csv.reader(lines[1:]))


def test_embed_writes_paths_and_embeddings(shell: Shell) -> None:
    done = shell("embed", "photos", "--encoder", "pocket", "--out", "x.npz", "--json").json
    with np.load("x.npz") as arrays:
        assert arrays["embeddings"].shape == (40, 48) == (done["embedded"], done["dimension"])
        assert arrays["embeddings"].dtype == np.float32
        assert sorted(arrays["paths"]) == sorted(str(p) for p in Path("photos").rglob("*.jpg"))


def test_remove_takes_ids_and_paths(indexed: Shell, image: str) -> None:
    ident = indexed("search", "shop", image, "-k", "1", "--json").json["hits"][0]["id"]
    assert indexed("remove", "shop", ident, "--json").json == {"removed": 1, "missing": [], "items": 39}
    other = str(next(p for p in Path("photos").rglob("*.jpg") if str(p) != image))
    assert indexed("remove", "shop", other).code == 0
    missing = indexed("remove", "shop", other)
    assert missing.code == 1
    assert "has no" in missing.err


def test_info_describes_the_collection(indexed: Shell) -> None:
    result = indexed("info", "shop", "--json").json
    expected = {
        "name": "shop",
        "items": 40,
        "dimension": 48,
        "metric": "euclidean",
        "codec": "none",
        "encoder": "pocket",
    }
    assert expected.items() <= result.items()
    assert result["bytes"] > 40 * 48 * 4
    assert "40" in indexed("info", "shop").out


def test_bundled_and_known_encoders_are_listed(shell: Shell) -> None:
    listed = shell("encoders", "--json").json
    names = [each["name"] for each in listed]
    assert names == [*encoders.bundled(), *encoders.KNOWN]
    keys = {"dimension", "bytes", "licence", "finds", "scope", "state", "input", "metric"}
    assert all(keys <= set(each) for each in listed)
    assert {each["state"] for each in listed} == {"bundled", "to fetch", "to export"}
    lines = shell("encoders").out.splitlines()
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in names)
    assert shell("encoders", "--accept-licence").code == 2


def test_version_and_help_are_printed_without_loading_a_command(shell: Shell) -> None:
    assert shell("--version").out.strip() == __version__
    assert shell("--help").out == shell("-h").out == shell().out
    assert (shell("--help").code, shell().code) == (0, 2)
    assert all(f"\n  {name} " in shell("--help").out for name in COMMANDS)
    program = "import sys; sys.argv = ['lookalike', '{}']; from lookalike.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    for option in ("--version", "--help"):
        done = subprocess.run(
            [sys.executable, "-c", program.format(option)], capture_output=True, text=True, check=True
        )
        assert not {"typer", "rich", "click", "numpy", "pathlib", "re"} & set(done.stderr.split())


def test_the_table_of_commands_has_the_help_of_the_commands() -> None:
    group: Any = typer.main.get_command(app)
    first_paragraphs = {name: " ".join(c.help.split("\n\n")[0].split()) for name, c in group.commands.items()}
    assert first_paragraphs == {name: text for name, (_, text) in COMMANDS.items()}
    options = {", ".join(reversed(p.opts)): p.help for p in group.params} | {"-h, --help": OPTIONS["-h, --help"]}
    assert options == OPTIONS
    encoder = next(p for p in group.commands["verify"].params if p.name == "encoder")
    assert encoder.show_default == encoders.DEFAULT


def test_a_command_loads_no_other_command(shell: Shell) -> None:
    program = "import sys; sys.argv = ['lookalike', 'info', '--help']; from lookalike.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {m.removeprefix("lookalike.cli.") for m in done.stderr.split() if m.startswith("lookalike.cli.")}
    assert loaded & {module for module, _ in COMMANDS.values()} == {COMMANDS["info"][0]}


def test_ctrl_c_while_a_command_is_loaded_leaves_no_traceback() -> None:
    program = (
        "import builtins, sys; load = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name.startswith('numpy'): raise KeyboardInterrupt\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = interrupted; sys.argv = ['lookalike', 'search', 'shop', 'x.jpg']\n"
        "from lookalike.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("search none x.jpg", 1, "There is no collection at none.lookalike"),
        ("search shop none.jpg", 1, "none.jpg"),
        ("search shop pocket", 1, "no images in the folder pocket"),
        ("search shop {image} --out ", 2, "The option --out needs a value"),
        ("search shop {image} --out .", 2, "--out names no file"),
        ("index https://example.org/photos --to p", 2, "“https://example.org/photos” is a web address"),
        ("search shop file:///photos/a%20b.jpg", 2, "give the path itself: '/photos/a b.jpg'"),
        ("duplicates aply shop", 2, "Did you mean: lookalike duplicates apply?"),
        ("serve shop --host nosuch.invalid", 2, "Give --host an address of this machine"),
        ("search shop https://example.org/a.jpg", 2, "curl -LO https://example.org/a.jpg"),
        ("search shop photos --out hits.xlsx", 2, ".csv, .jsonl, .parquet, .html"),
        ("search shop photos --out photos", 2, "format"),
        ("search shop photos --out none/hits.csv", 1, "none does not exist"),
        ("search shop {image} --label Mugs", 1, "No item has the label “Mugs”; did you mean “mug”?"),
        ("search shop {image} --where colour=red", 1, "No item has the attribute “colour”; none has any."),
        ("search shop {image} --id none", 1, "No item has the id “none”"),
        ("list none", 1, "There is no folder none"),
        ("search shop shop.lookalike/manifest.json", 1, "not an image"),
        ("search shop {image} -k 0", 2, "k"),
        ("search shop {image} -k x", 2, "-k must be a whole number, not “x”. See lookalike search --help."),
        ("search shop {image} -k", 2, "The option -k needs a value. See lookalike search --help."),
        ("search shop {image} --far 2", 2, "--far must be at most 1, not “2”"),
        ("search shop {image} --labl x", 2, "The option --labl is unknown. Did you mean --label?"),
        ("duplicates apply shop --nope", 2, "See lookalike duplicates apply --help."),
        (
            "duplicates apply shop --trash",
            2,
            "The option --trash needs a value. See lookalike duplicates apply --help.",
        ),
        ("serach shop", 2, "The command “serach” is unknown. Did you mean “search”?"),
        ("verify https://example.org/a.jpg {image}", 2, "web address"),
        ("verify {image} {image} {image}", 2, "too many arguments"),
        ("search shop {image} --within -1", 2, "at least 0"),
        ("search shop {image} --within nan", 2, "nan"),
        ("search shop {image} --within much", 2, "0.35"),
        ("search shop {image} --within 120%", 2, "between 0 and 1"),
        ("search shop {image} --within 1 -k 3", 2, "one of -k, --within and --far"),
        ("search shop {image} --metric hamming", 2, "hamming"),
        ("search shop {image} --metric manhattan", 2, "manhattan"),
        ("search shop", 2, "IMAGE"),
        ("search shop {image} --far 0.01", 2, "not calibrated"),
        ("search shop {image} --far 0.01 -k 3", 2, "one of -k, --within and --far"),
        ("verify {image} none.jpg", 1, "none.jpg"),
        ("verify {image} {image} --far 0.01 --encoder pocket", 2, "not calibrated"),
        ("verify {image} {image} --far 0.01 --within 1", 2, "not both"),
        ("verify {image} {image} --within much", 2, "0.35"),
        ("classify {image} --support none", 1, "none"),
        ("classify {image} --support photos/mug", 1, "no folders of examples"),
        ("classify {image} --support shop --encoder pocket", 2, "encoder of its own"),
        ("classify {image} --support . --encoder pocket", 1, "no usable image"),
        ("calibrate pocket", 2, "--data PATH"),
        ("calibrate none --data photos", 1, "no encoder 'none'"),
        ("calibrate pocket --data none", 1, "none"),
        ("calibrate pocket --data photos --to other", 1, "already exists"),
        ("join shop", 2, "one of -k, --within and --far"),
        ("join shop -k 1 --within 1", 2, "one of -k, --within and --far"),
        ("join shop --within 0.3..0.1", 2, "is empty"),
        ("join shop --within 0.1..", 2, "0.35"),
        ("join shop --within 0.1..0.2..0.3", 2, "one or two ends"),
        ("join shop --within -1", 2, "at least 0"),
        ("join shop -k 0", 2, "at least 1"),
        ("join shop --far 0.01", 2, "not calibrated"),
        ("join shop -k 1 --out pairs.xlsx", 2, ".csv"),
        ("join shop -k 1 --out none/pairs.csv", 1, "there is no folder none"),
        ("join shop -k 1 --out shop.lookalike/manifest.json/pairs.csv", 1, "there is no folder"),
        ("join shop -k 1 --approximate --out pairs.xlsx", 2, ".csv"),
        ("index none --to shop", 1, "none"),
        ("index photos --to shop --encoder none", 1, "no encoder 'none'"),
        ("index photos --to shop --metric cosine", 1, "compared by euclidean"),
        ("index photos --to shop --encoder other", 1, "was made with the encoder"),
        ("index photos --to shop --labels none.csv", 1, "none.csv"),
        ("index pocket --to shop", 1, "no images"),
        ("embed photos --encoder sketches --out x.npz", 1, "no encoder"),
        ("embed pocket --out x.npz", 1, "no images"),
        ("tune shop --budget inf", 2, "not infinity"),
        ("tune shop --budget nan", 2, "--budget"),
        ("tune shop --recall 0", 2, "--recall"),
        ("tune shop --index flat", 2, "flat"),
        ("info photos", 1, "There is no collection"),
        ("train none.yaml", 1, "none.yaml"),
        ("train pocket", 1, "no run"),
        ("serve none", 1, "There is no collection"),
        ("serve shop shop", 2, "given twice"),
        ("serve shop --host 203.0.113.1", 2, "Cannot listen"),
        ("dance", 2, "dance"),
    ],
)
def test_a_mistake_is_one_line_without_a_traceback(
    indexed: Shell, image: str, command: str, code: int, words: str
) -> None:
    pocket_encoder.make(Path("other"), size=16)
    done = indexed(*command.format(image=image).split())
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err
    assert indexed("info", "shop", "--json").json["items"] == 40


@pytest.mark.slow
def test_interrupted_indexing_keeps_the_images_written_so_far(shell: Shell) -> None:
    sample.write(Path("more"), 150, 1)
    command = [sys.executable, "-m", "lookalike", "index", "more", "--to", "shop", "--encoder", "pocket"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not Path("shop.lookalike").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode in (130, 0)  # it may have been faster
    assert "Traceback" not in err
    assert shell("index", "more", "--to", "shop", "--json").json["items"] == 300


def test_serve_prints_its_address_and_sees_items_that_another_command_adds(indexed: Shell) -> None:
    command = [sys.executable, "-m", "lookalike", "serve", "shop", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address
        for _ in range(200):
            try:
                assert httpx.get(f"{address[0]}health").json()["collections"] == {"shop": 40}
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        Image.new("RGB", (20, 20), "red").save("photos/new.png")
        indexed("index", "photos", "--to", "shop")
        assert httpx.get(f"{address[0]}health").json()["collections"] == {"shop": 41}
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_range_search_streams_and_gives_the_same_hits(indexed: Shell, image: str) -> None:
    everything = indexed("search", "shop", image, "--within", "99", "--json").json
    assert list(everything) == [
        "query",
        "hits",
        "metric",
        "exact",
        "complete",
        "recall",
        "no_match",
        "calibrated_on",
        "branch",
        "codec",
        "note",
        "blank",
    ]
    distances = [hit["distance"] for hit in everything["hits"]]
    assert distances == sorted(distances)
    low, high = distances[3], distances[-3]
    between = indexed("search", "shop", image, "--within", f"{low!r}..{high!r}", "--json").json
    assert between["hits"] == [hit for hit in everything["hits"] if low <= hit["distance"] <= high]
    several = indexed("search", "shop", image, image, "--within", f"{low!r}..{high!r}", "--json").json
    assert several == [between, between]
    table = indexed("search", "shop", image, "--within", "99").out.splitlines()
    assert len(table) == 1 + len(distances)
    assert indexed("search", "shop", image, "--within", "98..99").out == "Nothing found.\n"
    for wrong in ("0.3..0.1", "0.1..0.2..0.3", "..", "0.1.."):
        refused = indexed("search", "shop", image, "--within", wrong)
        assert (refused.code, refused.err[:6]) == (2, "Error:")


def test_a_search_is_filtered_by_ids_and_attributes(indexed: Shell, image: str) -> None:
    first, second, *_ = indexed("search", "shop", image, "--json").json["hits"]
    narrowed = indexed("search", "shop", image, "--id", second["id"], "--id", "none", "--json").json
    assert narrowed["hits"] == [second]
    assert indexed("search", "shop", image, "--where", "colour=none", "--json").json["hits"] == []
    for key, value in first["attributes"].items():
        found = indexed("search", "shop", image, "--where", f"{key}={value}", "--json").json["hits"]
        assert found
        assert all(hit["attributes"][key] == value for hit in found)
    assert "colour=red" in indexed("search", "shop", image, "--where", "colour").err
    assert "once" in indexed("search", "shop", image, "--where", "a=1", "--where", "a=2").err


def test_a_small_collection_is_searched_exactly_and_tune_says_why(indexed: Shell, image: str) -> None:
    tuned = indexed("tune", "shop", "--budget", "0", "--json").json
    assert (tuned["index"], tuned["budget"], tuned["approximate_ms"], tuned["recall"]) == (None, 0, None, None)
    assert tuned["exact_ms"] > 0
    assert "1,000" in indexed("tune", "shop").out
    assert indexed("search", "shop", image, "--approximate", "--json").json["exact"]
    facts = indexed("info", "shop", "--json").json
    assert (facts["scan"], facts["budget"], facts["index"]) == ("float32", 0, None)
    indexed("tune", "shop", "--budget", "50")
    assert indexed("tune", "shop", "--recall", "7").code == 2


def test_tune_builds_an_index_and_answers_say_that_they_are_approximate(indexed: Shell, image: str) -> None:
    shutil.copytree("shop.lookalike", "large.lookalike")
    with Collection.open("large.lookalike") as large:
        (item, *_) = large.store.scan()
        vectors = np.random.default_rng(0).standard_normal((1200, large.store.space.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        large.store.upsert([replace(item, id=f"copy{i}") for i in range(1200)], vectors)
    indexed("tune", "large", "--index", "none", "--budget", "0")
    before = indexed("search", "large", image, "--json")
    assert before.json["exact"]
    assert not before.err  # no index is wanted
    tuned = indexed("tune", "large", "--index", "hnsw", "--json").json
    assert tuned["index"] == "hnsw"
    assert 0.8 < tuned["recall"] <= 1
    answer = indexed("search", "large", image, "--json").json
    assert (answer["exact"], answer["recall"]) == (False, tuned["recall"])
    assert answer["hits"][0]["distance"] == 0
    assert "approximate (recall" in indexed("search", "large", image).out
    near = str(answer["hits"][5]["distance"])
    within = indexed("search", "large", image, "--within", near, "--json").json
    assert not within["exact"]
    assert within["hits"] == answer["hits"][:6]
    exactly = indexed("search", "large", image, "--within", near, "--exact", "--json").json
    assert (exactly["exact"], exactly["recall"]) == (True, None)
    indexed("tune", "large", "--budget", "10000")
    assert indexed("search", "large", image, "--within", near, "--json").json == exactly
    assert not indexed("search", "large", image, "--within", near, "--approximate", "--json").json["exact"]
    indexed("tune", "large", "--budget", "0")
    assert indexed("search", "large", image, "--exact", "--json").json["exact"]
    facts = indexed("info", "large", "--json").json
    assert facts["index"]["kind"] == "hnsw"
    assert "hnsw, recall" in indexed("info", "large").out
    shutil.rmtree("large.lookalike/cache")
    alone = indexed("search", "large", image, "--json")
    assert alone.json["exact"]
    assert "lookalike tune large" in alone.err
    for wish in ([], ["--within", "1"]):
        wished = indexed("search", "large", image, "--approximate", "--json", *wish)
        assert wished.json["exact"]
        assert "no index" in wished.err
        assert "lookalike tune large" in wished.err
    assert not indexed("search", "large", image, "--exact", "--json").err


@pytest.mark.slow
def test_ctrl_c_stops_tune_and_keeps_the_collection_unchanged(indexed: Shell) -> None:
    with Collection.open("shop.lookalike") as shop:
        (item, *_) = shop.store.scan()
        vectors = np.random.default_rng(0).standard_normal((30_000, shop.store.space.dimension)).astype(np.float32)
        shop.store.upsert([replace(item, id=f"copy{i}") for i in range(30_000)], vectors)
    tuning = processes.start(processes.tune, "shop.lookalike")
    assert tuning.stdout is not None
    assert tuning.stdout.readline() == "begun\n"
    tuning.send_signal(signal.SIGINT)
    _, err = tuning.communicate(timeout=60)
    assert tuning.returncode != 0
    assert "Stopped. " in err
    assert "Traceback" not in err
    assert indexed("info", "shop", "--json").json["index"] is None
    assert not list(Path("shop.lookalike/cache").glob("index-*"))


def test_output_into_a_closed_pipe_is_not_an_error(indexed: Shell) -> None:
    command = f"{sys.executable} -m lookalike join shop --within 9 | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "left,right,distance\n"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("command", ["join shop --within 9", "info shop --json", "search shop {image}"])
def test_a_full_disk_is_one_line_on_stderr(indexed: Shell, image: str, command: str) -> None:
    line = [sys.executable, "-m", "lookalike", *command.format(image=image).split()]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "disk is full" in done.stderr


@pytest.mark.parametrize("command", ["--version", "info shop", "info shop --json"])
def test_closed_standard_output_is_no_error(indexed: Shell, command: str) -> None:
    line = ["bash", "-c", f"{sys.executable} -m lookalike {command} >&-"]
    done = subprocess.run(line, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_search_loads_no_package_that_it_does_not_need(indexed: Shell, image: str) -> None:
    program = (
        "import sys; from lookalike.cli import main; sys.argv = ['lookalike', 'search', 'shop', sys.argv[1], '--json']; main()"
        "; assert not {'torch', 'fastapi', 'uvicorn', 'pyarrow', 'jaxtyping', 'rich', 'faiss'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program, image], check=True, capture_output=True)


def test_every_command_and_option_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "cli.md").read_text()
    group: Any = typer.main.get_command(app)
    commands = dict(group.commands)
    for name, command in group.commands.items():
        commands |= {f"{name} {part}": inner for part, inner in getattr(command, "commands", {}).items()}
    for name, command in commands.items():
        assert f"## `lookalike {name}`" in text
        section = re.split("\n##+ ", text.split(f"## `lookalike {name}`")[1])[0]
        for option in (o for p in command.params for o in p.opts if o.startswith("-")):
            assert f"`{option}" in section, (name, option)


@pytest.mark.slow
def test_the_demo_finds_the_mug_and_the_drawn_product(shell: Shell) -> None:
    done = shell("demo", "--to", "demo", "--count", "64", "--no-serve")
    assert done.code == 0
    photo, sketch = done.out.split("A sketch of ")
    assert re.findall(r"^ +\d.* (\S+) +\S+\.jpg$", photo, re.MULTILINE)[0] == "mug"
    drawn = re.search(r"\((\S+)\)", sketch)
    assert drawn
    assert any(drawn[1] in line for line in sketch.splitlines() if line.endswith(".jpg"))
    assert os.listdir("demo/shop.lookalike")  # noqa: PTH208 -- only whether there is anything
    assert shell("demo", "--to", "demo", "--count", "64", "--no-serve").code == 0
