"""WebDataset shards: samples read at their places in a tar; tars that mean harm or are broken."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import pickle
import random
import tarfile

import numpy as np
import pytest

from fleetfoot.data.layouts import open_dataset, tars
from fleetfoot.data.layouts import shards as shards_
from fleetfoot.data.layouts.shards import _expanded
from fleetfoot.errors import DatasetError, ImageError
from pictures_on_disk import picture, tar

COLOURS = ["red", "green", "blue", "black"]


def samples(labels, suffix=".cls", start=0):
    return [
        file
        for number, label in enumerate(labels, start)
        for file in (
            (f"{number:04}.png", picture(COLOURS[number % 4])),
            (f"{number:04}{suffix}", label.encode()),
        )
    ]


def refused(where) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(where)
    return str(caught.value)


def named(found, split):
    return [(split.pictures.name(i), found.classes[split.labels[i]]) for i in range(len(split))]


@pytest.fixture
def shards(tmp_path):
    tar(tmp_path / "train-000.tar", samples("01"))
    tar(tmp_path / "train-001.tar", samples("10", start=2))
    tar(tmp_path / "val-000.tar", samples("1"))
    return tmp_path


def test_a_folder_of_shards(shards):
    found = open_dataset(shards)
    assert found.layout == "WebDataset shards (2 train, 1 val), classes from .cls"
    assert found.classes == ("0", "1")
    assert named(found, found.train) == [
        ("train-000.tar/0000.png", "0"), ("train-000.tar/0001.png", "1"),
        ("train-001.tar/0002.png", "1"), ("train-001.tar/0003.png", "0"),
    ]  # fmt: skip
    for (source, _), colour in zip(found.train, COLOURS, strict=True):
        assert source.read() == picture(colour)
        assert source.open().image.size == (8, 6)
    assert found.train.pictures.sizes().tolist() == [len(picture(c)) for c in COLOURS]


def colour_of(pictures, index):
    return pictures[index].open().image.getpixel((0, 0))


def test_any_picture_is_read_in_any_process(shards):
    pictures = pickle.loads(pickle.dumps(open_dataset(shards).train.pictures))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(colour_of, (pictures, 2)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("where", "sizes"),
    [
        ("train-{000..001}.tar", [4]), ("train-00{0,1}.tar", [4]), ("*.tar", [4, 1]),
        ("train-000.tar", [2]), ("{train,val}-000.tar", [2, 1]),
    ],
)  # fmt: skip
def test_patterns(shards, where, sizes):
    found = open_dataset(f"{shards}/{where}", val_share=0)
    assert [len(split) for split in found.splits] == sizes


def test_braces_stand_for_what_a_shell_makes_of_them():
    assert _expanded("{a,b}-{9..11}.tar")[:4] == ["a-9.tar", "a-10.tar", "a-11.tar", "b-9.tar"]
    with pytest.raises(DatasetError, match="more than 100,000 shards"):
        _expanded("{0..999}{0..999}")
    with pytest.raises(DatasetError, match="more than 100,000 shards"):
        _expanded("{0..99999999999}")


def test_a_shard_of_a_range_that_is_missing_is_named(shards):
    text = refused(f"{shards}/train-{{000..002}}.tar")
    assert text.endswith("there is no file " + str(shards / "train-002.tar"))


def test_parts_as_folders_and_names_without_parts(tmp_path):
    tar(tmp_path / "a/train/0.tar", samples("01"))
    tar(tmp_path / "a/validation/0.tar", samples("01"))
    assert [s.name for s in open_dataset(tmp_path / "a").splits] == ["train", "val"]
    tar(tmp_path / "b/imagenet1k-validation-00.tar", samples("01"))
    assert [s.name for s in open_dataset(tmp_path / "b").splits] == ["val"]
    tar(tmp_path / "c/0.tar", samples("0101"))
    assert [s.name for s in open_dataset(tmp_path / "c").splits] == ["train", "val"]
    tar(tmp_path / "c/val.tar", samples("01"))
    assert "state a part and others do not" in refused(tmp_path / "c")


def test_names_of_classes(shards):
    (shards / "classes.txt").write_text("zebra\nape\n", encoding="utf-8")
    found = open_dataset(shards)
    assert found.classes == ("zebra", "ape")
    assert found.train.labels.tolist() == [0, 1, 1, 0]
    assert found.layout.endswith("named by classes.txt")
    (shards / "classes.txt").write_text("zebra\n", encoding="utf-8")
    assert "class 1, but classes.txt names 1 class, 0 to 0" in refused(shards)
    (shards / "classes.txt").write_text("ape\nape\n", encoding="utf-8")
    assert "classes are named twice: 'ape'" in refused(shards)


def test_classes_by_name(tmp_path):
    tar(tmp_path / "train.tar", samples(["dog\n", "cat", "dog"]))
    found = open_dataset(tmp_path, val_share=0)
    assert found.classes == ("cat", "dog")
    assert found.train.labels.tolist() == [1, 0, 1]


def test_numbers_keep_their_places(tmp_path):
    tar(tmp_path / "train.tar", samples(["10", "2", "011"]))
    found = open_dataset(tmp_path, val_share=0)
    assert len(found.classes) == 12
    assert found.train.labels.tolist() == [10, 2, 11]
    assert "no picture of 9 classes" in found.notes[0]


@pytest.mark.parametrize("field", ["label", "cls", "class", "target"])
@pytest.mark.parametrize("values", [(0, 1), ("a", "b")])
def test_classes_in_json(tmp_path, field, values):
    labels = [json.dumps({"width": 8, field: value}) for value in values]
    tar(tmp_path / "train.tar", samples(labels, ".json"))
    found = open_dataset(tmp_path, val_share=0)
    assert found.classes == tuple(map(str, values))
    assert found.train.labels.tolist() == [0, 1]


def test_other_files_of_a_sample_are_noted(tmp_path):
    files = [*samples("0"), ("0000.txt", b"x"), ("0000.seg.png", picture()), *samples("1", start=1)]
    tar(tmp_path / "train.tar", [("README", b"x"), *files, ("._0000.png", b"x")])
    found = open_dataset(tmp_path, val_share=0)
    assert len(found.train) == 2
    assert found.notes == ("passed over: files '', '.seg.png', '.txt' of the samples",)


P = picture()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([("1.png", P)], "sample '1' has '.png', and neither .cls nor .json"),
        ([("1.png", P), ("1.jpg", P), ("1.cls", b"0")], "has 2 pictures, '.png', '.jpg'"),
        ([("1.cls", b"0")], "a class and no picture"),
        ([("1.png", P), ("2.png", P), ("1.cls", b"0")], "neither .cls nor .json"),
        ([("1.png", P), ("1.cls", b"0"), ("2.txt", b""), ("1.json", b"")], "do not follow each"),
        ([("1.png", P), ("1.cls", b"")], "must be a number or a name, not ''"),
        ([("1.png", P), ("1.cls", b"\xff")], "1.cls: not a class"),
        ([("1.png", P), ("1.cls", b"a" * (2**20 + 1))], "too large for a class"),
        ([("1.png", P), ("1.json", b"{")], "1.json: not a class"),
        ([("1.png", P), ("1.json", b"[" * 100_000)], "1.json: not a class"),
        ([("1.png", P), ("1.json", b"[0]")], "no field label, cls, class or target"),
        ([("1.png", P), ("1.json", b'{"label": [1]}')], "must be a number or a name, not [1]"),
        ([("1.png", P), ("1.json", b'{"label": true}')], "must be a number or a name, not True"),
        ([("1.png", P), ("1.cls", b"99999999")], "such numbers are no counted classes"),
        ([("1.png", P), ("1.cls", b"0")], "only one class"),
        ([], "no pictures were found"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_samples(tmp_path, files, said):
    assert said in refused(tar(tmp_path / "train.tar", files))


def entry(name, kind, **more):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "is a link (make the tar with --dereference --hard-dereference)"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "is a device, a pipe or something else"),
        (tarfile.BLKTYPE, "is a device"),
        (tarfile.FIFOTYPE, "is a device, a pipe"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
    ],
)
def test_links_and_devices_are_refused(tmp_path, kind, said):
    link = entry("0009.png", kind, linkname="/etc/passwd")
    path = tar(tmp_path / "train.tar", [*samples("01"), (link, b"")])
    assert said in refused(path)


def test_names_are_only_names(tmp_path):
    """Nothing is unpacked, so no name can lead anywhere; a terminal cannot be told anything."""
    names = ["/etc/passwd", "../../up", "a\x1b[2Jb"]
    files = [
        file
        for i, name in enumerate(names)
        for file in ((f"{name}.png", picture(COLOURS[i])), (f"{name}.cls", str(i).encode()))
    ]
    found = open_dataset(tar(tmp_path / "train.tar", files), val_share=0)
    assert found.train.pictures[0].read() == picture("red")
    assert found.train.pictures.name(1) == "train.tar/../../up.png"
    tar(tmp_path / "train.tar", [("a\x1b[2J.png", b""), ("a\x1b[2J.cls", b"")])
    assert "\x1b" not in refused(tmp_path / "train.tar")


def test_long_names_and_properties(tmp_path):
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / f"{number}.tar"
        long = "d/" * 80 + "caf\u00e9" * 30
        with tarfile.open(path, "w", format=form) as made:
            for name, data in ((f"{long}.png", P), (f"{long}.cls", b"0"), *samples("1")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                made.addfile(info, io.BytesIO(data))
        found = open_dataset(path, val_share=0)
        assert found.train.pictures.name(0) == f"{number}.tar/{long}.png"
        assert found.train.pictures[0].read() == P


@pytest.mark.parametrize("pack", [gzip.compress])
def test_compressed_tars_are_refused_with_the_command(tmp_path, pack):
    plain = tar(tmp_path / "x.tar", samples("01")).read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(pack(plain))
    assert "unpack it" in refused(tmp_path / "x.tar.gz")
    (tmp_path / "y.tar").write_bytes(pack(plain))
    assert "compressed by gzip" in refused(tmp_path / "y.tar")
    assert "use 'gunzip' first" in refused(tmp_path / "y.tar")


def test_a_tar_that_was_cut_off(tmp_path):
    path = tar(tmp_path / "train.tar", samples("01"))
    whole = path.read_bytes()
    end = tars.contents(str(path)).members[-1]
    end = -(-(end.offset + end.size) // 512) * 512
    path.write_bytes(whole[:end])
    assert (
        open_dataset(path, val_share=0)
        .notes[0]
        .startswith("1 shard without the mark of a tar's end, maybe cut off")
    )
    for cut in (end - 1, end - 512, end - 600, end - 1024, 700, 512, 100, 1, 0):
        path.write_bytes(whole[:cut])
        text = refused(path)
        assert str(path) in text
        assert "neither" in text or "copy or make it again" in text


def test_joined_tars_are_refused(tmp_path):
    one = tar(tmp_path / "train.tar", samples("01")).read_bytes()
    two = tar(tmp_path / "b.tar", samples("01", start=5)).read_bytes()
    (tmp_path / "train.tar").write_bytes(one[: one.rindex(b"1") + 2048 & -512] + two)
    assert "more follows the mark of its end" in refused(tmp_path / "train.tar")


def test_a_size_beyond_the_tar_is_refused(tmp_path):
    path = tar(tmp_path / "train.tar", samples("01"))
    raw = bytearray(path.read_bytes())
    info = tarfile.TarInfo.frombuf(bytes(raw[:512]), "utf-8", "strict")
    for size in (2**40, -512):
        info.size = size
        raw[:512] = info.tobuf(tarfile.GNU_FORMAT)
        path.write_bytes(raw)
        assert "copy or make it again" in refused(path)


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    head = tarfile.TarInfo("././@PaxHeader")
    head.type, head.size = tarfile.XHDTYPE, 2**33
    with open(tmp_path / "train.tar", "wb") as file:
        file.write(head.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**33 + 4096)  # sparse: it takes no room
    assert "a header of 8,589,934,592 bytes" in refused(tmp_path / "train.tar")


def test_damaged_tars_end_in_one_error_and_never_in_another_file(tmp_path):
    """Bytes changed at random: the set is opened, or ``DatasetError`` says why not; each picture
    is read from within the tar, or ``ImageError`` says why not."""
    draw = random.Random(0)
    whole = tar(tmp_path / "whole.tar", samples("0101")).read_bytes()[:8192]
    opened = 0
    for number in range(120):
        raw = bytearray(whole)
        for _ in range(draw.choice((1, 3, 30))):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        path = tmp_path / f"{number}.tar"
        path.write_bytes(raw)
        try:
            found = open_dataset(path, val_share=0)
        except DatasetError:
            continue
        opened += 1
        for source, _ in found.train:
            try:
                assert source.read() in bytes(raw)
                source.open()
            except ImageError:
                pass
    assert 0 < opened < 120


def test_many_chained_headers_are_an_error(tmp_path):
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 1
    one = head.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
    (tmp_path / "train.tar").write_bytes(one * 5000)
    assert "damaged or cut off" in refused(tmp_path / "train.tar")


def test_what_a_tar_holds_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path, reads = tar(tmp_path / "train.tar", samples("01")), []
    real = shards_._read
    monkeypatch.setattr(shards_, "_read", lambda path: reads.append(path) or real(path))
    first, again = (open_dataset(path, val_share=0) for _ in range(2))
    assert len(reads) == 1
    assert first.train.fingerprint == again.train.fingerprint
    tar(path, samples("011"))
    assert len(open_dataset(path, val_share=0).train) == 3
    assert len(reads) == 2


def test_a_shard_that_shrinks_after_it_was_opened(tmp_path):
    path = tar(tmp_path / "train.tar", samples("01"))
    source = open_dataset(path, val_share=0).train.pictures[1]
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(ImageError, match="is shorter than before") as caught:
        source.open()
    assert caught.value.path == f"{path}/0001.png"
    path.unlink()
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        source.open()


def test_the_limit_of_bytes_holds_within_shards(tmp_path):
    path = tar(tmp_path / "train.tar", samples("01"))
    source = open_dataset(path, val_share=0).train.pictures[0]
    with pytest.raises(ImageError, match=r"over the limit of 5 \(max_bytes\)"):
        source.open(max_bytes=5)


def test_a_shard_that_is_named_twice(shards):
    assert "named twice" in refused(f"{shards}/train-{{000,000}}.tar")


def test_places_are_a_compact_table(shards):
    pictures = open_dataset(shards).train.pictures
    assert pictures.places.dtype == np.int64
    assert pictures.places.shape == (4, 3)
    with pytest.raises(IndexError):
        pictures[4]
