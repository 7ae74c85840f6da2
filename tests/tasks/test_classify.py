"""Class names, the best guesses, and accuracy."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch

from fleetfoot.errors import UnknownNameError
from fleetfoot.tasks.classify import Accuracy, Guess, Labels, top_k


def test_imagenets_names_and_ids_stand_at_their_numbers():
    labels = Labels.of(1000)
    assert labels.names[207] == "golden retriever"
    assert labels.index("n02099601") == 207
    assert len(set(labels.names)) == 1000


def test_another_number_of_classes_is_numbered():
    assert Labels.of(3).names == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\n",
        "\ufeffcat \r\ndog\r\n\r\n",
        '["cat", "dog"]',
        '{"1": "dog", "0": "cat"}',
        '{"0": ["n1", "cat"], "1": ["n2", "dog"]}',
        '[["n1", "cat"], ["n2", "dog"]]',
    ],
)
def test_labels_come_from_a_file_of_any_of_these_forms(tmp_path, text):
    (tmp_path / "labels").write_text(text, encoding="utf-8", newline="")
    labels = Labels.of(2, tmp_path / "labels")
    assert labels.names == ("cat", "dog")
    assert labels.ids == (("n1", "n2") if "n1" in text else ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n", "names 1 classes and the network has 2"),
        ("cat\n\ndog\n", "no name on line 2"),
        ('{"0": "cat", "2": "dog"}', "not 0, 1, 2"),
        ('{"0": "cat", "one": "dog"}', "cannot be used"),
        ('["cat", 7]', r"or \[id, name\]; one is 'cat'|one is 7"),
        ('["cat", ', "cannot be used"),
        ("", "names 0 classes"),
    ],
)
def test_a_file_that_does_not_name_the_classes_says_why(tmp_path, text, message):
    (tmp_path / "labels").write_text(text)
    with pytest.raises(ValueError, match=message):
        Labels.of(2, tmp_path / "labels")


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    for name in ("absent", "binary"):
        with pytest.raises(ValueError, match=f"labels: cannot read .*{name}"):
            Labels.read(tmp_path / name)


@pytest.mark.parametrize("name", ["n02099601", "golden retriever", "Golden_Retriever", "207"])
def test_a_class_is_known_by_id_name_and_number(name):
    assert Labels.imagenet().index(name) == 207


def test_a_name_that_is_a_number_is_a_name_first():
    labels = Labels(("5", "7", "1"))
    assert [labels.index(name) for name in ("5", "7", "1", "0")] == [0, 1, 2, 0]


def test_a_name_of_two_classes_means_neither():
    labels = Labels(("crane", "crane", "ox"))
    assert labels.index("ox") == 2
    with pytest.raises(UnknownNameError, match="crane"):
        labels.index("crane")


def test_an_unknown_class_suggests():
    with pytest.raises(UnknownNameError, match=r"did you mean .*'tench'"):
        Labels.imagenet().index("tenck")


def test_the_best_guesses_come_first_with_softmax_probabilities():
    logits = torch.tensor([[0.0, math.log(3.0), math.log(4.0)], [5.0, 5.0 - math.log(2), -1e9]])
    one, two = top_k(logits, 2, Labels(("a", "b", "c")))
    assert [(g.index, g.label) for g in one] == [(2, "c"), (1, "b")]
    assert [g.probability for g in one] == pytest.approx([4 / 8, 3 / 8])  # float32 logarithms
    assert [g.probability for g in two] == pytest.approx([2 / 3, 1 / 3])


def test_there_are_no_more_guesses_than_classes():
    ((*guesses,),) = top_k(torch.zeros(1, 3), 5, Labels.of(3))
    assert sorted(guess.index for guess in guesses) == [0, 1, 2]


def test_of_equal_logits_the_lower_number_comes_first():
    logits = torch.zeros(1, 500)
    logits[0, 300] = 1
    ((*guesses,),) = top_k(logits, 4, Labels.of(500))
    assert [guess.index for guess in guesses] == [300, 0, 1, 2]


def test_names_that_the_weights_state_are_used():
    network = torch.nn.Linear(2, 3)
    network.pretrained_cfg = SimpleNamespace(labels=("a", "b", "c"))
    assert Labels.of_network(network, 3) == Labels(("a", "b", "c"))
    assert Labels.of_network(network, 4).numbered  # its classifier was exchanged
    assert Labels.of_network(torch.nn.Linear(2, 3), 3).names[2] == "class 2"


def test_accuracies_add_up():
    one, other = Accuracy(), Accuracy()
    one.count(0)
    one.count(None)
    other.count(2, images=3)
    both = one + other
    assert (both.images, both.right(1), both.right(3), one.images) == (5, 1, 4, 2)


def test_logits_that_do_not_fit_the_labels_are_an_error():
    with pytest.raises(ValueError, match=r"shape \(1, 4\).*3 classes"):
        top_k(torch.zeros(1, 4), 1, Labels.of(3))
    with pytest.raises(ValueError, match="topk must be 1 or more, not 0"):
        top_k(torch.zeros(1, 3), 0, Labels.of(3))


def test_accuracy_counts_the_truth_among_the_first_k():
    accuracy = Accuracy()
    guesses = [Guess(index, "", 0.0) for index in (4, 2, 9)]
    for truth in (4, 2, 9, 5):
        accuracy.update(guesses, truth)
    assert [accuracy.top(k) for k in (1, 2, 3, 5)] == [25, 50, 75, 75]
    with pytest.raises(ValueError, match="no picture was counted"):
        Accuracy().top(1)


def test_a_class_index_in_the_usual_json_form_gives_ids(tmp_path):
    rows = {str(i): [f"n{i:08}", f"thing_{i}"] for i in range(12)}
    (tmp_path / "index.json").write_text(json.dumps(rows))
    labels = Labels.of(12, tmp_path / "index.json")
    assert labels.index("n00000010") == labels.index("thing 10") == 10
