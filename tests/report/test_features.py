"""The picture of feature maps."""

from __future__ import annotations

import torch
from PIL import Image

from fleetfoot.models.maps import similarity
from fleetfoot.report.features import MOST_MAPS, features_figure, summary
from fleetfoot.report.plots import save_figure


def test_the_picture_has_a_tile_a_map_and_the_matrix(tmp_path):
    maps = torch.randn(MOST_MAPS + 6, 7, 7)
    found = similarity(maps)
    figure = features_figure(maps, found, "net, layer", "a.jpg; random")
    tiles = [axes for axes in figure.axes if axes.images and axes.images[0].get_array().ndim == 2]
    assert len(tiles) == MOST_MAPS + 1  # the bar of colours has no image of its own
    matrix = tiles[-1].images[0].get_array()
    assert matrix.shape == (MOST_MAPS + 6,) * 2
    texts = [text.get_text() for text in figure.texts]
    assert {"net, layer", "a.jpg; random", f"channels 0 to 63 of {MOST_MAPS + 6}"} <= set(texts)
    save_figure(figure, tmp_path / "new" / "f.png")
    with Image.open(tmp_path / "new" / "f.png") as drawn:
        assert drawn.format == "PNG"


def test_the_sentence_counts_constant_maps():
    maps = torch.randn(4, 5, 5)
    assert "constant" not in summary(similarity(maps))
    maps[0] = 1.0
    assert "1 constant map left out" in summary(similarity(maps))
    maps[1] = 0.0
    assert "2 constant maps left out" in summary(similarity(maps))


def test_a_pictures_name_is_drawn_as_it_is(tmp_path):
    """A name may hold signs of formulas, control characters, bytes that are no text, and signs
    that the font lacks."""
    maps = torch.rand(4, 5, 6)
    figure = features_figure(maps, similarity(maps), "$a_{b\x1b[2J\n.png", "caf\udce9 \u732b $x")
    save_figure(figure, tmp_path / "made.png")
    words = [one.get_text() for one in figure.texts]
    assert "$a_{b\\x1b[2J\\x0a.png" in words
    assert "caf\\xe9 \u732b $x" in words
