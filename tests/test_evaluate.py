"""The protocols of an evaluation, and the command that runs them."""

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

import image_files
import pocket_encoder
from lookalike import sample
from lookalike.cli import main
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import DataError, UsageError
from lookalike.evaluation import protocols, retrieval
from lookalike.evaluation.embedded import EmbeddedDataset
from lookalike.evaluation.evaluate import evaluate, evaluate_embeddings
from lookalike.evaluation.labels import LabelledVectors
from lookalike.evaluation.protocols import EvaluationOptions
from lookalike.metric import Metric


class Result(NamedTuple):
    code: int
    out: str
    err: str


Shell = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    """Return a function that runs ``lookalike evaluate`` in a folder of its own."""
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
    """Write photos and sketches of the toy shop, and an encoder."""
    folder = tmp_path_factory.mktemp("shop")
    sample.write(folder, 80, 0)
    pocket_encoder.make(folder / "pocket")
    return folder


def clouds(classes: int, each: int, noise: float = 0.5) -> EmbeddedDataset:
    rng = np.random.default_rng(5)
    labels = np.tile(np.arange(classes), each)
    vectors = rng.normal(size=(classes, 6))[labels] + noise * rng.normal(size=(len(labels), 6))
    return EmbeddedDataset(vectors.astype(np.float32), labels, Metric.EUCLIDEAN)


@pytest.mark.parametrize(("classes", "each", "disjoint"), [(4, 20, "images"), (24, 6, "classes")])
def test_a_threshold_is_judged_on_images_that_it_was_not_chosen_on(
    classes: int, each: int, disjoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, drawn = clouds(classes, each), []
    draw_pairs = protocols._draw_pairs

    def spy(*args: Any) -> Any:  # noqa: ANN401 -- passed on
        result = draw_pairs(*args)
        drawn.append(result[0])
        return result

    monkeypatch.setattr(protocols, "_draw_pairs", spy)
    result = protocols.evaluate_verification(data, EvaluationOptions(pairs=100))
    chosen, judged = ({*pairs.left.tolist(), *pairs.right.tolist()} for pairs in drawn)
    assert not chosen & judged
    assert disjoint in result.protocol
    if disjoint == "classes":
        assert not set(data.labels[list(chosen)]) & set(data.labels[list(judged)])
    far = np.linalg.norm(data.embeddings[result.pairs.left] - data.embeddings[result.pairs.right], axis=1)
    assert result.distances == pytest.approx(far, rel=1e-5)
    assert (result.pairs.same == (data.labels[result.pairs.left] == data.labels[result.pairs.right])).all()


def test_separate_images_choose_the_threshold_if_given() -> None:
    data = clouds(4, 20)
    near = replace(data, embeddings=data.embeddings / 10)
    options = EvaluationOptions(pairs=100)
    own, other = (
        protocols.evaluate_verification(data, options, data),
        protocols.evaluate_verification(data, options, near),
    )
    assert other.confusion.threshold == pytest.approx(own.confusion.threshold / 10, rel=0.2)
    assert (own.pairs.left == other.pairs.left).all()


def test_images_rank_all_others_and_sketches_rank_photos() -> None:
    data = clouds(4, 10)
    assert (
        protocols.evaluate_retrieval(data).by_class.top_1
        == retrieval.leave_one_out(LabelledVectors(data.embeddings, data.labels), data.metric).top_1
    )
    sketch = np.arange(40) >= 30
    items = np.where(sketch, np.arange(40) - 30, np.arange(40))
    ranking = protocols.evaluate_retrieval(replace(data, sketch=sketch, items=items))
    assert ranking.queries.tolist() == list(range(30, 40))
    assert ranking.gallery.tolist() == list(range(30))
    assert ranking.by_item is not None
    assert ranking.by_item.queries == 10


@pytest.mark.parametrize(
    ("photos", "names"), [(210, {"precision@100", "mAP@200"}), (120, {"precision@100"}), (99, set())]
)
def test_scores_of_sketches_equal_a_plain_loop(photos: int, names: set[str]) -> None:
    rng = np.random.default_rng(photos)
    labels = np.concatenate([np.arange(photos) % 3, np.arange(30) % 3])
    items = np.concatenate([np.arange(photos), np.arange(30)])
    sketch = np.arange(photos + 30) >= photos
    vectors = (rng.normal(size=(photos + 30, 4)) + labels[:, None]).astype(np.float32)
    data = EmbeddedDataset(vectors, labels, Metric.EUCLIDEAN, items=items, sketch=sketch)
    expected: dict[str, list[float]] = {
        name: [] for name in ("precision@100", "mAP@200", "item top-1", "item in 10", "item MRR")
    }
    for query in range(photos, photos + 30):
        order = np.argsort(np.linalg.norm(vectors[:photos] - vectors[query], axis=1))
        relevant = labels[order] == labels[query]
        precision = np.cumsum(relevant) / np.arange(1, photos + 1)
        rank = 1 + order.tolist().index(query - photos)
        expected["precision@100"].append(float(relevant[:100].mean()))
        expected["mAP@200"].append(float((precision * relevant)[:200].sum() / min(200, relevant.sum())))
        expected["item top-1"].append(rank == 1)
        expected["item in 10"].append(rank <= 10)
        expected["item MRR"].append(1 / rank)
    scores = {s.name: s.value for s in evaluate_embeddings(data, EvaluationOptions(tasks=("retrieval",))).scores}
    assert names == scores.keys() & {"precision@100", "mAP@200"}
    for name in names | {"item top-1", "item in 10", "item MRR"}:
        assert scores[name] == pytest.approx(np.mean(expected[name])), name


def test_the_data_can_name_queries_and_gallery() -> None:
    data = clouds(4, 10)
    queries = np.arange(40) < 8
    inside = protocols.evaluate_retrieval(replace(data, is_query=queries))
    assert (len(inside.queries), len(inside.gallery)) == (8, 40)
    assert "no query is in its own ranking" in inside.protocol
    apart = protocols.evaluate_retrieval(replace(data, is_query=queries, is_gallery=~queries))
    assert (len(apart.queries), len(apart.gallery)) == (8, 32)
    assert "own ranking" not in apart.protocol
    with pytest.raises(DataError, match="4 of 8 queries are in the gallery too"):
        protocols.evaluate_retrieval(replace(data, is_query=queries, is_gallery=np.arange(40) >= 4))
    with pytest.raises(DataError, match="no queries"):
        protocols.evaluate_retrieval(replace(data, is_query=np.zeros(40, bool)))


def test_a_task_that_cannot_be_measured_is_noted_or_fails() -> None:
    data = clouds(3, 2)
    evaluation = evaluate_embeddings(data, EvaluationOptions(pairs=10))
    assert evaluation.retrieval is not None
    assert any(reason.startswith("few-shot: ") for reason in evaluation.not_measured)
    with pytest.raises(DataError, match="few-shot"):
        evaluate_embeddings(data, EvaluationOptions(tasks=("few-shot",), required=True))
    with pytest.raises(DataError, match="at least two"):
        evaluate_embeddings(clouds(1, 5), EvaluationOptions())
    with pytest.raises(DataError, match="No class has two"):
        evaluate_embeddings(clouds(5, 1), EvaluationOptions())


def test_the_same_seed_gives_the_same_scores() -> None:
    one, two, other = (
        evaluate_embeddings(clouds(6, 20), EvaluationOptions(pairs=100, episodes=10, seed=seed)) for seed in (1, 1, 2)
    )
    assert one.verification is not None
    assert two.verification is not None
    assert other.verification is not None
    assert one.verification.confusion == two.verification.confusion
    assert (one.verification.pairs.left == two.verification.pairs.left).all()
    assert (one.few_shot[0].accuracies == two.few_shot[0].accuracies).all()
    assert (one.verification.pairs.left != other.verification.pairs.left).any()


def test_tasks_are_parsed_by_name() -> None:
    assert protocols.parse_tasks(["few-shot", "retrieval"]) == ("retrieval", "few-shot")
    with pytest.raises(UsageError, match="choose from retrieval, verification, few-shot"):
        protocols.parse_tasks(["clustering"])


def test_an_embedder_is_evaluated_on_a_path(shop: Path) -> None:
    stages: list[str] = []

    class Stages:
        def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
            assert 0 <= done <= total
            assert detail in ("", *protocols.TASKS)
            stages.append(stage)

        def note(self, message: str) -> None:
            pytest.fail(message)

    embedder = Embedder.of(Encoder.open(shop / "pocket"))
    options = EvaluationOptions(pairs=60, episodes=5)
    evaluation = evaluate(embedder, str(shop / "photos"), options, Stages())
    assert list(dict.fromkeys(stages)) == ["embedding", "measuring"]
    assert evaluation.data is not None
    assert len(evaluation.data) == 80
    assert (evaluation.failures, evaluation.history) == ((), ())
    assert evaluation.about.encoder == "pocket"
    for wrong in (3, None):
        with pytest.raises(UsageError):
            evaluate(embedder, wrong, options)  # type: ignore[arg-type]


SMALL = ("--pairs", 60, "--episodes", 5)


@pytest.mark.slow
def test_evaluate_prints_scores_and_writes_a_report(run: Shell, shop: Path, tmp_path: Path) -> None:
    result = run(shop / "pocket", "--data", shop / "photos", *SMALL)
    assert result.code == 0, result.err
    assert result.out.startswith("score")
    for name in ("top-1", "mAP", "accuracy", "AUC"):
        assert f"\n{name} " in result.out
    (page,) = (tmp_path / "reports").glob("*/report.html")
    assert str(page.relative_to(tmp_path)) in result.out
    assert (page.parent / "report.json").is_file()


@pytest.mark.slow
def test_evaluate_prints_the_json_of_the_report(run: Shell, shop: Path, tmp_path: Path) -> None:
    result = run(shop / "pocket", "--data", shop / "photos", "--out", "here", "--json", *SMALL)
    tree = json.loads(result.out)
    assert tree.pop("report") == "here/report.html"
    assert tree == json.loads((tmp_path / "here" / "report.json").read_text(encoding="utf-8"))
    assert tree["verification"]["pairs"] == 60


def test_sketches_are_queries_for_their_photos(run: Shell, shop: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("sketches", "paired", "words"),
    [
        (("cup-1", "cup-2-1"), 2, "4 sketches belong to the photo of their class whose name theirs begins with."),
        (
            ("cup-1", "other"),
            1,
            "2 sketches belong to the photo of their class whose name theirs begins with, and 2 only",
        ),
        (("one", "two"), 0, "none to one photo"),
        (("1", "2"), 0, "only counted"),
    ],
)
def test_evaluate_says_how_sketches_belong_to_photos(
    run: Shell, shop: Path, tmp_path: Path, sketches: tuple[str, ...], paired: int, words: str
) -> None:
    for label in "ab":
        image_files.write(
            tmp_path / "photos" / label, {f"{name}.png": i for i, name in enumerate(("1", "2", "cup-1", "cup-2"))}
        )
        image_files.write(tmp_path / "drawn" / label, {f"{name}.png": 9 + i for i, name in enumerate(sketches)})
    arguments = ("--data", "photos", "--sketches", "drawn", "--on", "retrieval", "--no-report")
    result = run(shop / "pocket", *arguments)
    assert result.code == 0, result.err
    assert words in " ".join(result.out.split())
    by_item = json.loads(run(shop / "pocket", *arguments, "--json").out)["retrieval"]["by_item"]
    assert (by_item["queries"] if by_item else 0) == 2 * paired


def test_the_evaluation_of_a_run_includes_its_training_curves(run: Shell, shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    pocket_encoder.make(folder / "encoder")
    line = {"epoch": 1.0, "loss": 2.0, "validation.top_1": 0.5}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    arguments = ("--data", shop / "photos", "--on", "retrieval", "--no-report", "--json")
    assert json.loads(run(folder, *arguments).out)["history"] == [line]
    (folder / "metrics.jsonl").write_text("{")
    result = run(folder, *arguments)
    assert result.code == 1
    assert "not the log of a training run" in result.err


def table(folder: Path, rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = ("path", "label", "split")) -> Path:
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder / "table.csv"


def test_the_test_split_is_measured_and_the_validation_split_chooses_the_threshold(
    run: Shell, pocket: Path, tmp_path: Path
) -> None:
    rows = []
    for i in range(36):
        split = ("train", "validation", "test")[i // 12]
        image_files.write(tmp_path, {f"{i}.png": i % 3})
        rows.append((f"{i}.png", "abc"[i % 3], split))
    path = table(tmp_path, rows)
    tree = json.loads(run(pocket, "--data", path, "--no-report", "--json", *SMALL).out)
    assert tree["retrieval"]["by_class"]["queries"] == 12
    assert "separate images" in tree["verification"]["protocol"]
    tree = json.loads(run(pocket, "--data", path, "--split", "train", "--no-report", "--json", *SMALL).out)
    assert "other half of the images" in tree["verification"]["protocol"]
    result = run(pocket, "--data", path, "--split", "holiday", "--no-report")
    assert result.code == 2
    assert "holiday" in result.err


def test_a_broken_image_is_left_out_and_reported(run: Shell, pocket: Path, tmp_path: Path) -> None:
    for name in "ab":
        image_files.write(tmp_path / "data", {f"{name}/{i}.png": ord(name) for i in range(4)})
    (tmp_path / "data" / "a" / "broken.png").write_bytes(b"not an image")
    result = run(pocket, "--data", tmp_path / "data", "--no-report", "--json", *SMALL)
    assert result.code == 0
    assert "skipped" in result.err
    assert "broken.png" in result.err
    assert json.loads(result.out)["retrieval"]["by_class"]["queries"] == 8


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "nothing to measure"),
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
    run: Shell, pocket: Path, tmp_path: Path, *, arguments: tuple[str, ...], code: int, message: str
) -> None:
    image_files.write(tmp_path / "one", {f"only/{i}.png": i for i in range(3)})
    image_files.write(tmp_path / "flat", {f"{i}.png": i for i in range(3)})
    result = run(pocket, *arguments, "--no-report")
    assert result.code == code, result.err
    assert message in result.err
    assert result.err.count("\n") == 1, result.err
    assert result.out == ""


def test_a_report_that_cannot_be_written_is_refused_before_the_work(run: Shell, pocket: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for out in ("taken", "taken/below"):
        result = run(pocket, "--data", "nowhere", "--out", out)  # the data, which does not exist, is opened later
        assert result.code == 1
        assert "a file, not a folder" in result.err
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == []


def test_without_a_terminal_no_progress_goes_to_standard_error(run: Shell, pocket: Path, tmp_path: Path) -> None:
    for name in "ab":
        image_files.write(tmp_path / "data", {f"{name}/{i}.png": ord(name) + i for i in range(4)})
    assert run(pocket, "--data", tmp_path / "data", "--no-report", "--on", "retrieval").err == ""


@pytest.mark.slow
def test_one_shot_runs_are_measured_alone(run: Shell, pocket: Path, tmp_path: Path) -> None:
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
