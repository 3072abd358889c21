"""Answers as sequences, text, HTML, JSON, pandas and Arrow."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lookalike.errors import MissingExtraError, NotFoundError
from lookalike.metric import Metric
from lookalike.stores import Answer, Hit, Item

SIGNATURE = "2048-1767323045678901234-1767323045678901234"
MUG = Hit(Item("m1", "/shop/mug.jpg", "mug", {"colour": "red"}, "aa", SIGNATURE), 0.25, 0.8)
LAMP = Hit(Item("l1", "/shop/lamp.jpg"), 12.5, 0.074)
ANSWER = Answer((MUG, LAMP), Metric.EUCLIDEAN)
CALIBRATED = Answer((Hit(MUG.item, 0.25, 0.8, 0.935),), Metric.EUCLIDEAN)
HOSTILE = Item("x", "/a\x1b[2J\n<script>'\".jpg", "<b>\u202elabel</b>")


def thumbnail(item: Item) -> bytes:
    if item.id == "l1":
        raise NotFoundError("gone")
    return b"\xff\xd8 of " + item.id.encode()


def test_an_answer_is_a_sequence_of_hits() -> None:
    assert len(ANSWER) == 2
    assert list(ANSWER) == [MUG, LAMP]
    assert (ANSWER[0], ANSWER[-1]) == (MUG, LAMP)
    assert MUG in ANSWER
    assert ANSWER.index(LAMP) == 1
    assert not Answer((), Metric.COSINE)
    with pytest.raises(IndexError):
        ANSWER[2]


def test_a_slice_is_an_answer_and_says_whether_it_leaves_hits_out() -> None:
    assert ANSWER[:5] == ANSWER
    assert ANSWER[:1] == Answer((MUG,), Metric.EUCLIDEAN, complete=False)


def test_comparison_and_repr_ignore_the_thumbnail_function() -> None:
    shown = Answer((MUG, LAMP), Metric.EUCLIDEAN, thumbnail=thumbnail)
    assert shown == ANSWER
    assert repr(shown) == repr(ANSWER)


def test_text_is_an_aligned_table() -> None:
    assert str(ANSWER).splitlines() == [
        "distance  label  image",
        "    0.25  mug    /shop/mug.jpg",
        "   12.50         /shop/lamp.jpg",
    ]
    assert str(CALIBRATED).splitlines() == str(ANSWER).splitlines()[:2]
    assert str(Answer((), Metric.COSINE)) == "No hits."


def test_people_see_no_per_cent() -> None:
    for answer in (ANSWER, CALIBRATED, replace(CALIBRATED, calibrated_on="copies")):
        for shown in (str(answer), answer._repr_html_(), replace(answer, thumbnail=thumbnail)._repr_html_()):
            for part in ("80", "94", "similar", "probab"):
                assert part not in shown


def test_a_bar_shows_the_closeness_and_a_line_that_nothing_matches() -> None:
    near, far = replace(MUG, closeness=0.5), replace(LAMP, closeness=0.0)
    lines = str(Answer((near, far), Metric.EUCLIDEAN, no_match=False)).splitlines()
    assert lines[0].split() == ["distance", "closeness", "label", "image"]
    assert lines[1].split() == ["0.25", "████", "mug", "/shop/mug.jpg"]
    assert "█" not in lines[2]
    nothing = Answer((far,), Metric.EUCLIDEAN, no_match=True)
    for shown in (str(nothing), nothing._repr_html_()):
        assert "Nothing here looks like it" in shown


def test_an_empty_answer_says_why() -> None:
    empty = Answer((), Metric.EUCLIDEAN, note="No item has the label “\x1b<b>”.")
    assert str(empty) == "No item has the label “\\x1b<b>”."
    assert "&lt;b&gt;" in empty._repr_html_()


def test_text_marks_incomplete_and_approximate_answers() -> None:
    many = str(Answer((MUG,) * 1234, Metric.HAMMING, exact=False, complete=False, recall=0.951))
    assert "1,184 more" in many
    assert "recall 0.95" in many
    assert "incomplete" in many
    assert len(many.splitlines()) < 60


def test_text_and_html_have_no_control_characters_and_no_foreign_markup() -> None:
    answer = Answer((Hit(HOSTILE, 1, 0.5),), Metric.EUCLIDEAN)
    for text in (
        str(answer),
        answer._repr_html_(),
        Answer(answer.hits, answer.metric, thumbnail=thumbnail)._repr_html_(),
    ):
        assert not {"\x1b", "\u202e"} & {*text}
    assert len(str(answer).splitlines()) == 2
    for shown in (answer, Answer(answer.hits, answer.metric, thumbnail=thumbnail)):
        assert "<script>" not in shown._repr_html_()
        assert "<b>" not in shown._repr_html_()
        assert "'\"" not in shown._repr_html_()
        assert "&lt;b&gt;" in shown._repr_html_()


def test_a_notebook_shows_thumbnails_and_a_placeholder_for_a_missing_image() -> None:
    shown = Answer((MUG, LAMP), Metric.EUCLIDEAN, thumbnail=thumbnail)._repr_html_()
    assert "data:image/jpeg;base64,/9ggb2YgbTE=" in shown
    assert shown.count("<figure") == 2
    assert "no image" in shown
    assert "<table" not in shown


def test_a_notebook_shows_a_table_without_thumbnails() -> None:
    assert ANSWER._repr_html_().count("<tr>") == 3
    assert "<p>" in Answer((), Metric.COSINE)._repr_html_()


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (Item("i", "/shop/a/b c.jpg"), "b c.jpg"),
        (Item("i", "../photos/mug.jpg", sha256="aa"), "mug.jpg"),
        (Item("i", "images/aa.png", sha256="aa"), "aa.png"),
        (Item("i", "images/aa.png", None, {"filename": "mug.png"}, "aa"), "mug.png"),
        (Item("i", "images/aa.png", None, {"filename": r"C:\me\../a/mug.png"}, "aa"), "mug.png"),
        (Item("i", "/shop/mug.jpg", None, {"filename": "a column of a table"}, "aa"), "mug.jpg"),
    ],
)
def test_the_name_of_an_item_has_no_folders(item: Item, name: str) -> None:
    assert item.name == name


@pytest.mark.parametrize("signature", ["", "x", "1-", "-1-2-3", "9" * 6000 + "-1-1", "1-" + "9" * 20 + "-1"])
def test_size_and_time_are_unknown_if_the_signature_is_invalid(signature: str) -> None:
    item = Item("i", "/a.jpg", signature=signature)
    assert (item.size, item.modified) == (None, None)


def test_size_and_time_of_a_file_that_may_change_again_are_known() -> None:
    item = Item("i", "/a.jpg", signature="7--1500000000-0-recent")
    assert item.size == 7
    assert item.modified == datetime(1969, 12, 31, 23, 59, 58, 500000, tzinfo=UTC)


def test_json_has_the_documented_fields() -> None:
    assert json.loads(json.dumps(ANSWER.to_dict())) == {
        "hits": [
            {
                "id": "m1",
                "uri": "/shop/mug.jpg",
                "label": "mug",
                "attributes": {"colour": "red"},
                "name": "mug.jpg",
                "size": 2048,
                "modified": "2026-01-02T03:04:05.678901+00:00",
                "distance": 0.25,
                "similarity": 0.8,
                "probability": None,
                "closeness": None,
            },
            {
                "id": "l1",
                "uri": "/shop/lamp.jpg",
                "label": None,
                "attributes": {},
                "name": "lamp.jpg",
                "size": None,
                "modified": None,
                "distance": 12.5,
                "similarity": 0.074,
                "probability": None,
                "closeness": None,
            },
        ],
        "metric": "euclidean",
        "exact": True,
        "complete": True,
        "recall": None,
        "no_match": None,
        "calibrated_on": None,
        "branch": None,
        "codec": None,
        "note": None,
        "blank": None,
    }


def test_pandas_and_arrow_have_a_row_for_each_hit() -> None:
    columns = [
        *("id", "uri", "label", "attributes", "name", "size", "modified"),
        *("distance", "similarity", "probability", "closeness"),
    ]
    frame, table = ANSWER.to_pandas(), ANSWER.to_arrow()
    assert list(frame.columns) == table.column_names == columns
    assert frame["distance"].tolist() == table["distance"].to_pylist() == [0.25, 12.5]
    assert frame["id"].tolist() == table["id"].to_pylist() == ["m1", "l1"]
    assert table["attributes"].to_pylist() == [[("colour", "red")], []]
    nothing = Answer((), Metric.COSINE)
    assert list(nothing.to_pandas().columns) == nothing.to_arrow().column_names == columns
    assert (len(nothing.to_pandas()), len(nothing.to_arrow())) == (0, 0)
    assert nothing.to_arrow().schema == table.schema


@pytest.mark.parametrize(("module", "extra"), [("pandas", "pandas"), ("pyarrow", "parquet")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"\[{extra}\]"):
        ANSWER.to_pandas() if module == "pandas" else ANSWER.to_arrow()
