"""The protocol of an evaluation, and the command that runs it."""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import pictures
import pocket_encoder
from lookalike import sample
from lookalike.cli import main
from lookalike.errors import DataError, UsageError
from lookalike.evaluation import protocol, retrieval
from lookalike.evaluation.protocol import Plan
from lookalike.evaluation.subject import Subject
from lookalike.metric import Metric


class Result(NamedTuple):
    code: int
    out: str
    err: str


Shell = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    """Runs ``lookalike evaluate`` in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def shell(*args: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["lookalike", "evaluate", *map(str, args)])
        capfd.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as e:
            code = e.code
        return Result(code or 0, *capfd.readouterr())

    return shell


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos and sketches of the toy shop, and an encoder."""
    folder = tmp_path_factory.mktemp("shop")
    sample.write(folder, 80, 0)
    pocket_encoder.make(folder / "pocket")
    return folder


def clouds(classes: int, each: int, noise: float = 0.5) -> Subject:
    rng = np.random.default_rng(5)
    labels = np.tile(np.arange(classes), each)
    vectors = rng.normal(size=(classes, 6))[labels] + noise * rng.normal(size=(len(labels), 6))
    return Subject(vectors.astype(np.float32), labels, Metric.EUCLIDEAN)


@pytest.mark.parametrize(("classes", "each", "apart"), [(4, 20, "pictures"), (24, 6, "classes")])
def test_a_threshold_is_judged_on_pictures_that_it_was_not_chosen_on(
    classes: int, each: int, apart: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, drawn = clouds(classes, each), []
    plain = protocol._pairs

    def spy(*args: Any) -> Any:  # noqa: ANN401 -- passed on
        found = plain(*args)
        drawn.append(found[0])
        return found

    monkeypatch.setattr(protocol, "_pairs", spy)
    result = protocol.verify(subject, Plan(pairs=100))
    chosen, judged = ({*pairs.left.tolist(), *pairs.right.tolist()} for pairs in drawn)
    assert not chosen & judged
    assert apart in result.how
    if apart == "classes":
        assert not set(subject.labels[list(chosen)]) & set(subject.labels[list(judged)])
    far = np.linalg.norm(subject.embeddings[result.pairs.left] - subject.embeddings[result.pairs.right], axis=1)
    assert result.distances == pytest.approx(far, rel=1e-5)
    assert (result.pairs.same == (subject.labels[result.pairs.left] == subject.labels[result.pairs.right])).all()


def test_validation_pictures_choose_the_threshold_where_they_are_given() -> None:
    subject = clouds(4, 20)
    near = replace(subject, embeddings=subject.embeddings / 10)
    plan = Plan(pairs=100)
    own, other = protocol.verify(subject, plan, subject), protocol.verify(subject, plan, near)
    assert other.verdicts.threshold == pytest.approx(own.verdicts.threshold / 10, rel=0.2)
    assert (own.pairs.left == other.pairs.left).all()


def test_pictures_are_asked_against_all_others_and_sketches_against_photos() -> None:
    subject = clouds(4, 10)
    assert (
        protocol.rank(subject).by_class.top_1
        == retrieval.leave_one_out(subject.embeddings, subject.labels, subject.metric).top_1
    )
    sketch = np.arange(40) >= 30
    items = np.where(sketch, np.arange(40) - 30, np.arange(40))
    ranking = protocol.rank(replace(subject, sketch=sketch, items=items))
    assert ranking.queries.tolist() == list(range(30, 40))
    assert ranking.gallery.tolist() == list(range(30))
    assert ranking.by_item is not None
    assert ranking.by_item.queries == 10


def test_queries_and_gallery_are_those_that_the_data_names() -> None:
    subject = clouds(4, 10)
    queries = np.arange(40) < 8
    inside = protocol.rank(replace(subject, is_query=queries))
    assert (len(inside.queries), len(inside.gallery)) == (8, 40)
    assert "never being its own answer" in inside.how
    apart = protocol.rank(replace(subject, is_query=queries, is_gallery=~queries))
    assert (len(apart.queries), len(apart.gallery)) == (8, 32)
    assert "own answer" not in apart.how
    with pytest.raises(DataError, match="4 of 8 queries are in the gallery too"):
        protocol.rank(replace(subject, is_query=queries, is_gallery=np.arange(40) >= 4))
    with pytest.raises(DataError, match="no queries"):
        protocol.rank(replace(subject, is_query=np.zeros(40, bool)))


def test_what_cannot_be_measured_is_told_or_fails_as_one_likes() -> None:
    subject = clouds(3, 2)
    figures = protocol.measure(subject, Plan(pairs=10))
    assert figures.retrieval is not None
    assert any(reason.startswith("few-shot: ") for reason in figures.left_out)
    with pytest.raises(DataError, match="few-shot"):
        protocol.measure(subject, Plan(tasks=("few-shot",)), insist=True)
    with pytest.raises(DataError, match="two at least"):
        protocol.measure(clouds(1, 5), Plan())
    with pytest.raises(DataError, match="No class has two"):
        protocol.measure(clouds(5, 1), Plan())


def test_the_same_seed_measures_the_same() -> None:
    one, two, other = (protocol.measure(clouds(6, 20), Plan(pairs=100, episodes=10, seed=seed)) for seed in (1, 1, 2))
    assert one.verification is not None
    assert two.verification is not None
    assert other.verification is not None
    assert one.verification.verdicts == two.verification.verdicts
    assert (one.verification.pairs.left == two.verification.pairs.left).all()
    assert (one.few_shot[0].accuracies == two.few_shot[0].accuracies).all()
    assert (one.verification.pairs.left != other.verification.pairs.left).any()


def test_tasks_are_known_by_name() -> None:
    assert protocol.parse_tasks(["few-shot", "retrieval"]) == ("retrieval", "few-shot")
    with pytest.raises(UsageError, match="choose from retrieval, verification, few-shot"):
        protocol.parse_tasks(["clustering"])


SMALL = ("--pairs", 60, "--episodes", 5)


def test_evaluate_prints_figures_and_writes_a_report(run: Shell, shop: Path, tmp_path: Path) -> None:
    result = run(shop / "pocket", "--data", shop / "photos", *SMALL)
    assert result.code == 0, result.err
    assert result.out.startswith("figure")
    for name in ("top-1", "mAP", "accuracy", "AUC"):
        assert f"\n{name} " in result.out
    (page,) = (tmp_path / "reports").glob("*/report.html")
    assert str(page.relative_to(tmp_path)) in result.out
    assert (page.parent / "report.json").is_file()


def test_evaluate_in_json_is_the_report_in_json(run: Shell, shop: Path, tmp_path: Path) -> None:
    result = run(shop / "pocket", "--data", shop / "photos", "--out", "here", "--json", *SMALL)
    tree = json.loads(result.out)
    assert tree.pop("report") == "here/report.html"
    assert tree == json.loads((tmp_path / "here" / "report.json").read_text(encoding="utf-8"))
    assert tree["verification"]["pairs"] == 60


def test_sketches_ask_for_their_photos(run: Shell, shop: Path, tmp_path: Path) -> None:
    arguments = (
        "--data",
        shop / "photos",
        "--sketches",
        shop / "sketches",
        "--on",
        "retrieval",
        "--no-report",
        "--json",
    )
    tree = json.loads(run(shop / "pocket", *arguments).out)
    assert tree["report"] is None
    assert tree["retrieval"]["by_item"]["queries"] == 80
    assert "sketches against 80 photos" in tree["retrieval"]["protocol"]
    assert tree["verification"] is None
    assert not (tmp_path / "reports").exists()


def test_a_run_brings_its_curves(run: Shell, shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    pocket_encoder.make(folder / "encoder")
    line = {"epoch": 1.0, "loss": 2.0, "validation.top_1": 0.5}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    arguments = ("--data", shop / "photos", "--on", "retrieval", "--no-report", "--json")
    assert json.loads(run(folder, *arguments).out)["history"] == [line]
    (folder / "metrics.jsonl").write_text("{")
    result = run(folder, *arguments)
    assert result.code == 1
    assert "no log of a training run" in result.err


def table(folder: Path, rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = ("path", "label", "split")) -> Path:
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder / "table.csv"


def test_of_splits_test_is_measured_and_validation_chooses(run: Shell, pocket: Path, tmp_path: Path) -> None:
    rows = []
    for i in range(36):
        split = ("train", "validation", "test")[i // 12]
        pictures.write(tmp_path, {f"{i}.png": i % 3})
        rows.append((f"{i}.png", "abc"[i % 3], split))
    path = table(tmp_path, rows)
    tree = json.loads(run(pocket, "--data", path, "--no-report", "--json", *SMALL).out)
    assert tree["retrieval"]["by_class"]["queries"] == 12
    assert "other pictures, kept for that" in tree["verification"]["protocol"]
    tree = json.loads(run(pocket, "--data", path, "--split", "train", "--no-report", "--json", *SMALL).out)
    assert "other half of the pictures" in tree["verification"]["protocol"]
    result = run(pocket, "--data", path, "--split", "holiday", "--no-report")
    assert result.code == 2
    assert "holiday" in result.err


def test_a_broken_picture_is_left_out_and_told(run: Shell, pocket: Path, tmp_path: Path) -> None:
    for name in "ab":
        pictures.write(tmp_path / "data", {f"{name}/{i}.png": ord(name) for i in range(4)})
    (tmp_path / "data" / "a" / "broken.png").write_bytes(b"no picture")
    result = run(pocket, "--data", tmp_path / "data", "--no-report", "--json", *SMALL)
    assert result.code == 0
    assert "skipped" in result.err
    assert "broken.png" in result.err
    assert json.loads(result.out)["retrieval"]["by_class"]["queries"] == 8


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "nothing to measure on"),
        (("--data", "nowhere"), 1, "no folder and no file"),
        (("--data", "one"), 1, "class"),
        (("--data", "flat"), 1, "flat"),
        (("--data", "one", "--on", "clustering"), 2, "choose from retrieval"),
        (("--data", "one", "--ways", "many"), 2, "--ways many"),
        (("--data", "one", "--ways", "1"), 2, "at least 2"),
        (("--runs", "nowhere.zip"), 1, "nowhere.zip"),
    ],
)
def test_bad_input_is_one_line(
    run: Shell, pocket: Path, tmp_path: Path, *, arguments: tuple[str, ...], code: int, told: str
) -> None:
    pictures.write(tmp_path / "one", {f"only/{i}.png": i for i in range(3)})
    pictures.write(tmp_path / "flat", {f"{i}.png": i for i in range(3)})
    result = run(pocket, *arguments, "--no-report")
    assert result.code == code, result.err
    assert told in result.err
    assert result.err.count("\n") == 1, result.err
    assert result.out == ""


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    run: Shell, pocket: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    for out in ("taken", "taken/below"):
        result = run(pocket, "--data", "nowhere", "--out", out)  # to look for the data comes later
        assert result.code == 1
        assert "a file, not a folder" in result.err
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == []


def test_without_a_terminal_nothing_but_words_goes_to_standard_error(run: Shell, pocket: Path, tmp_path: Path) -> None:
    for name in "ab":
        pictures.write(tmp_path / "data", {f"{name}/{i}.png": ord(name) + i for i in range(4)})
    assert run(pocket, "--data", tmp_path / "data", "--no-report", "--on", "retrieval").err == ""


def test_the_one_shot_runs_are_measured_alone(run: Shell, pocket: Path, tmp_path: Path) -> None:
    for place in ("training", "test"):
        (tmp_path / "runs" / "run01" / place).mkdir(parents=True)
        for i in range(3):
            colour = tuple(int(v) for v in np.random.default_rng(i).integers(0, 255, 3))
            Image.new("RGB", (8, 8), colour).save(tmp_path / "runs" / "run01" / place / f"{i}.png")
    lines = [f"run01/test/{i}.png run01/training/{i}.png" for i in range(3)]
    (tmp_path / "runs" / "run01" / "class_labels.txt").write_text("\n".join(lines))
    result = run(pocket, "--runs", tmp_path / "runs", "--out", "here", "--json")
    assert result.code == 0, result.err
    tree = json.loads(result.out)
    assert tree["one_shot_runs"]["accuracy"] == 1
    assert (tmp_path / "here" / "report.html").is_file()
