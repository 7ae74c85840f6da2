"""Pascal VOC's XML files: what is read, and what is said of faults."""

from __future__ import annotations

import pytest

from fleetfoot.data.layouts import open_scenes
from fleetfoot.errors import DatasetError
from pictures_on_disk import write
from scenes_on_disk import OBJECTS, pictures, save, voc, voc_xml

ONE = [("cat", (2, 3, 10, 8))]


def refused(where) -> str:
    with pytest.raises(DatasetError) as caught:
        open_scenes(where, val_share=0)
    return str(caught.value)


def test_a_zero_shows_that_edges_are_counted(tmp_path):
    found = open_scenes(voc(tmp_path, first=0))
    assert any("counted from edge 0" in note for note in found.notes)
    assert found.train.targets[0].boxes.tolist() == [[2, 3, 10, 8], [0, 0, 20, 16]]
    assert found.train.targets[0].areas.tolist() == [40, 320]


@pytest.mark.parametrize("layout", ["beside", "folders", "parts"])
def test_other_places(tmp_path, layout):
    folders = {"beside": ("", ""), "folders": ("images", "annotations"), "parts": ("train",) * 2}
    pictures_in, xml_in = folders[layout]
    pictures(tmp_path, pictures_in, ["1.png"])
    save(tmp_path / xml_in / "1.xml", voc_xml(ONE))
    found = open_scenes(tmp_path, val_share=0)
    assert found.train.targets[0].boxes.tolist() == [[2, 3, 10, 8]]
    assert found.train.pictures[0].open().image.size == (20, 16)


def test_train_and_val_in_one_list_are_train(tmp_path):
    voc(tmp_path)
    lists = tmp_path / "ImageSets/Main"
    (lists / "train.txt").rename(lists / "trainval.txt")
    save(lists / "cat_train.txt", "1 1\n")  # a list of one class
    assert len(open_scenes(tmp_path).train) == 3


def test_difficult_objects_are_not_judged(tmp_path):
    voc(tmp_path)
    save(tmp_path / "Annotations/4.xml", voc_xml(ONE, more="<difficult>1</difficult>"))
    found = open_scenes(tmp_path)
    assert found.val.targets[0].crowd.tolist() == [True]
    assert any("1 object of val marked as difficult" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotation>", "1.xml: not as Pascal VOC writes it"),
        ("<annotation/>", "1.xml: not as Pascal VOC writes it: it has no height"),
        (voc_xml([("", (1, 1, 2, 2))]), "1.xml, object 1, '': it has no name"),
        (voc_xml(ONE).replace("xmin", "xmid"), "1.xml, object 1, 'cat': it has no xmin"),
        (voc_xml(ONE).replace(">10<", ">ten<"), "could not convert string to float"),
    ],
)
def test_a_fault_names_the_file_and_the_object(tmp_path, text, said):
    voc(tmp_path)
    save(tmp_path / "Annotations/1.xml", text)
    assert said in refused(tmp_path)


def test_an_object_of_a_class_that_train_lacks_is_refused(tmp_path):
    voc(tmp_path)
    save(tmp_path / "Annotations/4.xml", voc_xml([*OBJECTS["val"]["4.png"], ("cow", (1, 1, 2, 2))]))
    said = refused(tmp_path)
    assert "val has objects of 1 class not among the 2 classes of train" in said
    assert "'cow', the first at Annotations/4.xml, object 3" in said


def test_files_that_lack_their_other_half_are_noted(tmp_path):
    voc(tmp_path)
    (tmp_path / "Annotations/2.xml").unlink()
    (tmp_path / "JPEGImages/3.png").unlink()
    found = open_scenes(tmp_path)
    assert len(found.train) == 1
    assert "not used: 1 pictures without an XML file in train: '2'" in found.notes
    assert "not used: 1 XML files without a picture in train: '3'" in found.notes


def test_no_picture_of_the_name_of_an_xml_file(tmp_path):
    write(tmp_path, "images/a.png")
    save(tmp_path / "annotations/b.xml", voc_xml(ONE))
    said = refused(tmp_path)
    assert "no XML file in annotations has the name of a picture in images" in said
