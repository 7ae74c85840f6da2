"""A stream of pictures through an engine: order, batches, failures in their places."""

from __future__ import annotations

import io
import math

import pytest
from PIL import Image
from torch import Tensor, nn

from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.sources import Source, find_images
from fleetfoot.errors import EngineError
from fleetfoot.models import create_model
from fleetfoot.predict import Predictor, truth_by
from fleetfoot.tasks.classify import Accuracy, Labels

COLOURS = ("red", "green", "blue")


class Colour(nn.Module):
    """Its logits are the mean of each channel, so its guess is the colour. (B, 3, H, W) -> (B,
    3)"""

    def forward(self, x: Tensor) -> Tensor:
        return 20 * x.mean(dim=(2, 3))


class Counting:
    """An engine that runs ``Colour`` and keeps the shape of each batch."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: Tensor) -> Tensor:
        self.shapes.append(tuple(batch.shape))
        return Colour()(batch)


PLAIN = Preprocess(size=8, crop_pct=1.0, mean=(0, 0, 0), std=(1, 1, 1))


def picture(colour: str) -> Source:
    buffer = io.BytesIO()
    Image.new("RGB", (11, 9), colour).save(buffer, "PNG")
    return Source(colour, buffer.getvalue())


def predictor(batch: int) -> Predictor:
    return Predictor(Counting(), batch, PLAIN, Labels(COLOURS))


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_every_picture_is_named_in_its_place_whatever_the_batch(batch):
    asked = ["red", "blue", "green", "blue", "red", "lime", "blue"]
    ready = predictor(batch)
    named = list(ready(map(picture, asked), topk=1))
    assert [one.path for one in named] == asked
    assert [one.topk[0].label for one in named] == [
        "green" if colour == "lime" else colour for colour in asked
    ]
    assert set(ready.engine.shapes) == {(batch, 3, 8, 8)}  # the last one is filled up


def test_what_cannot_be_used_keeps_its_place_and_takes_none_in_a_batch():
    sources = [
        Source("empty", b""),
        picture("red"),
        Source("text", b"no picture"),
        Source("nothing", problem="no file matches this pattern"),
        picture("blue"),
        Source("narrow", _png(Image.new("RGB", (1, 200_000_000 // 64)))),
    ]
    ready = predictor(2)
    named = list(ready(sources))
    assert [one.path for one in named] == [source.path for source in sources]
    assert [bool(one.topk) for one in named] == [False, True, False, False, True, False]
    assert named[0].error == "empty file"
    assert named[3].error == "no file matches this pattern"
    assert "too narrow" in named[5].error
    assert len(ready.engine.shapes) == 1


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_only_two_batches_are_read_ahead():
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield picture("red")

    stream = predictor(4)(endless(), workers=2)
    next(stream)
    assert read <= 4 + 2 * 4 + 2  # the batch that was run, and what is decoded beyond it
    stream.close()


def test_notes_come_with_the_prediction():
    source = Source("clear", _png(Image.new("RGBA", (8, 8), (255, 0, 0, 0))))
    (one,) = predictor(1)([source])
    assert one.notes == ("transparent: laid over white",)
    assert [guess.probability for guess in one.topk] == pytest.approx([1 / 3] * 3)


def test_an_answer_that_is_not_finite_is_an_error_of_that_picture():
    class Broken(Counting):
        def run(self, batch: Tensor) -> Tensor:
            return super().run(batch) / batch[:, 2].amax(dim=(1, 2))[:, None]

    ready = Predictor(Broken(), 2, PLAIN, Labels(COLOURS))
    red, blue = ready([picture("red"), picture("blue")])
    assert red.error == "the network's answer is not finite"
    assert blue.topk[0].label == "blue"


def test_the_record_is_path_and_topk_or_path_and_error():
    fine, broken = predictor(1)([picture("blue"), Source("x", b"x")], topk=1)
    e = math.exp(20)  # the logits are 0, 0 and 20
    guess = {"index": 2, "label": "blue", "probability": round(e / (e + 2), 6)}
    assert fine.record() == {"path": "blue", "topk": [guess]}
    assert broken.record() == {"path": "x", "error": broken.error}


def test_topk_below_one_is_an_error():
    with pytest.raises(ValueError, match="topk must be 1 or more, not 0"):
        next(predictor(1)([picture("red")], topk=0))


def test_a_model_is_built_in_its_engine_and_stays_as_it_was(tmp_path):
    (tmp_path / "names").write_text("\n".join(COLOURS))
    model = Colour().train()
    for fold in (True, False):
        ready = Predictor.of(model, batch=2, fold=fold, preprocess=PLAIN, labels=tmp_path / "names")
        assert [one.topk[0].label for one in ready([picture("blue")])] == ["blue"]
    assert model.training


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Flatten(0), {}, "the output of this network is"),
        (nn.Identity(), {}, "the output of this network is"),
        (Colour(), {"batch": 0}, "batch must be 1 or more"),
        (Colour(), {"engine": "nothing"}, "computes nothing"),
        (Colour(), {"labels": "absent.txt"}, r"labels: cannot read absent\.txt"),
    ],
)
def test_a_network_that_cannot_name_is_an_error_before_any_picture_is_read(model, options, message):
    with pytest.raises((ValueError, EngineError), match=message):
        Predictor.of(model, preprocess=PLAIN, **options)


def test_a_network_without_a_classifier_or_with_other_channels_is_refused():
    with pytest.raises(ValueError, match="no classifier"):
        Predictor.of(create_model("fasternet_t0", num_classes=0), preprocess=PLAIN)
    with pytest.raises(ValueError, match="takes 1 channels"):
        Predictor.of(create_model("fasternet_t0", in_chans=1), preprocess=PLAIN)


@pytest.mark.parametrize(
    ("path", "truth"),
    [
        ("a/n01440764.jpg", "n01440764"),
        ("a/n01440764_10026.JPEG", "n01440764"),
        ("a/golden_retriever.jpg", "golden_retriever"),
    ],
)
def test_the_truth_can_be_in_the_name(path, truth):
    assert truth_by("stem")(path) == truth


def test_the_truth_can_be_the_folder(tmp_path, monkeypatch):
    assert truth_by("folder")("val/tench/1.jpg") == "tench"
    monkeypatch.chdir(tmp_path)
    assert truth_by("folder")("1.jpg") == tmp_path.name


@pytest.mark.parametrize("text", ['{"a/1.jpg": "cat", "2.jpg": 3}', "a/1.jpg,cat\n2.jpg,3\n"])
def test_the_truth_can_be_in_a_file_by_path_or_name(tmp_path, text):
    (tmp_path / "truth").write_text(text)
    truth = truth_by(str(tmp_path / "truth"))
    assert [truth(path) for path in ("a/1.jpg", "b/2.jpg", "3.jpg")] == ["cat", "3", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b,c\n", "line 1 has 3 columns"), ('{"a": ', "cannot be used"), (None, "No such file")],
)
def test_a_truth_file_that_cannot_be_used_says_why(tmp_path, text, message):
    if text:
        (tmp_path / "truth").write_text(text)
    with pytest.raises(ValueError, match=f"(?s)truth must be 'stem', 'folder'.*{message}"):
        truth_by(str(tmp_path / "truth"))


IMAGENET = [
    ("mobileone_s0", "mobileone_s0_authors_folded.pth", 73.0, 93.0),
    ("mobilenetv2_100", "mobilenet_v2_torchvision.pth", 83.0, 96.0),
    ("mobilenetv1_025", "mobilenet_v1_025_224_keras.npz", 55.0, 83.0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file", "top1", "top5"), IMAGENET)
def test_real_weights_name_photographs_as_the_reference_does(real_data, name, file, top1, top5):
    """The reference was measured with timm's, torchvision's and a plain network."""
    model = create_model(name, weights=real_data / "weights" / file)
    ready = Predictor.of(model, batch=10)
    accuracy, truth = Accuracy(), truth_by("stem")
    for one in ready(find_images([str(real_data / "imagenet100")])):
        assert not one.error
        accuracy.update(one.topk, ready.labels.index(truth(one.path)))
    assert accuracy.images == 100
    assert (accuracy.top(1), accuracy.top(5)) == (top1, top5)
