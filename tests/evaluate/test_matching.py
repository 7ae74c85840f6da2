"""Classes of data and outputs of a network are matched by names, ids, numbers or a file, or not at
all."""

from __future__ import annotations

import json

import pytest

from fleetfoot.evaluate.matching import match, read_real_labels
from fleetfoot.tasks.classify import Labels

PETS = Labels(("cat", "Guinea_Pig", "dog", "crane", "crane"), ("n1", "n2", "n3", "n4", "n5"))
UNNAMED = Labels.of(3)


def numbers(classes, labels=PETS, **options):
    made = match("data", classes, "net", labels, **options)
    return made.numbers.tolist(), made.how


def test_names_ids_and_case():
    assert numbers(("dog", "guinea pig")) == ([2, 1], "by name")
    assert numbers(("n5", "CAT")) == ([4, 0], "by name")
    assert numbers(PETS.names) == ([0, 1, 2, 3, 4], "by name")  # two cranes, but the same list


def test_numbers_are_classes_only_if_there_are_as_many():
    assert numbers(tuple("20134")) == ([2, 0, 1, 3, 4], "by number")
    with pytest.raises(ValueError, match="no class is named '0'"):
        numbers(tuple("0123456789"), Labels.imagenet())
    with pytest.raises(ValueError, match="no class is named '1'"):
        numbers(("cat", "1", "dog", "n4", "n5"))


def test_outputs_without_names_are_the_classes_in_order():
    found, how = numbers(("b", "a", "10"), UNNAMED)
    assert found == [0, 1, 2]
    assert "nothing names the outputs" in how
    assert match("data", ("b", "a", "10"), "net", UNNAMED).names == ("b", "a", "10")
    with pytest.raises(ValueError, match="their numbers differ") as error:
        numbers(("a", "b"), UNNAMED)
    assert "data has 2 classes: 'a', 'b'" in str(error.value)
    assert "net has 3 outputs without names" in str(error.value)
    assert "--labels FILE" in str(error.value)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("cat", "horse"), "no class, or more than one, is named 'horse'"),
        (("crane",), "no class, or more than one, is named 'crane'"),
        (("cat", "n1"), "'n1' and 'cat' are both 'cat'"),
    ],
)
def test_what_does_not_match_is_refused_with_both_sides(classes, message):
    with pytest.raises(ValueError, match=message) as error:
        numbers(classes)
    assert f"data has {len(classes)} classes: 'c" in str(error.value)
    assert "net has 5 classes: 'cat', 'Guinea_Pig', 'dog', 'crane' and 1 more" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"hound": "dog", "tom": "n1", "kitten": 0}',
        "hound,dog\ntom,n1\nkitten,0\n",
        '["dog", "n1", 0]',
        "dog\nn1\n0\n",
    ],
)
def test_a_file_maps_classes(text, tmp_path):
    file = tmp_path / "map"
    file.write_text(text)
    assert numbers(("hound", "tom", "kitten"), file=file) == ([2, 0, 0], f"by {file}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"hound": "dog"}', "maps 1 classes, but not 'tom' of data"),
        ("dog", "lists 1 classes, and data has 2: 'hound', 'tom'"),
        ('{"hound": "dog", "tom": "lynx"}', "net: unknown class 'lynx'"),
        ('{"hound": "dog", "tom": ["n1", "cat"]}', "is neither a name nor a number"),
        ("{", "cannot be used"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(text, message, tmp_path):
    (tmp_path / "map").write_text(text)
    with pytest.raises(ValueError, match=message):
        numbers(("hound", "tom"), file=tmp_path / "map")


def test_only_the_classes_of_the_data_may_be_guessed():
    made = match("data", ("dog", "cat"), "net", PETS, among="data")
    assert (made.names, made.numbers.tolist(), made.outputs.tolist()) == (
        ("cat", "dog"), [1, 0], [0, 2],
    )  # fmt: skip
    assert made.judged((2, 1)) == (1,)
    assert match("data", ("dog",), "net", PETS).judged((2, 1)) == (2, 1)


def test_real_labels_by_number_in_the_authors_form(tmp_path):
    (tmp_path / "real.json").write_text(json.dumps([[1], [], [0, 2]]))
    answers = read_real_labels(tmp_path / "real.json", PETS)
    assert answers("val/x/ILSVRC2012_val_00000001.JPEG") == {1}
    assert answers("ILSVRC2012_val_00000002.JPEG") == frozenset()
    assert answers("ILSVRC2012_val_00000003.png") == {0, 2}
    assert answers("ILSVRC2012_val_00000004.JPEG") is None
    assert answers("other.png") is None


def test_real_labels_by_name(tmp_path):
    (tmp_path / "real.json").write_text(json.dumps({"a/x.png": ["dog", "n2"], "y.png": [0]}))
    answers = read_real_labels(tmp_path / "real.json", PETS)
    assert (answers("a/x.png"), answers("b/y.png"), answers("x.png")) == ({1, 2}, {0}, None)


@pytest.mark.parametrize(
    "text", ['["dog"]', '{"x": "dog"}', '{"x": ["lynx"]}', '{"x": [[0]]}', "x"]
)
def test_real_labels_in_another_form_are_refused(text, tmp_path):
    (tmp_path / "real.json").write_text(text)
    with pytest.raises(ValueError, match=r"real labels: .*real\.json"):
        read_real_labels(tmp_path / "real.json", PETS)
