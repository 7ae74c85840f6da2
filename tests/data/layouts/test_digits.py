"""The default data set is a real one, with fixed parts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fleetfoot.data.layouts import open_dataset
from fleetfoot.errors import DatasetError


def test_the_digits_are_scikit_learns_in_fixed_parts():
    found = open_dataset()
    assert found.classes == tuple("0123456789")
    assert [(split.name, len(split)) for split in found.splits] == [
        ("train", 1259), ("val", 179), ("test", 359)
    ]  # fmt: skip
    assert open_dataset(seed=7).test.fingerprint == found.test.fingerprint
    raw, seen = load_digits(), []
    for split in found.splits:
        for index in range(0, len(split), 40):
            number = int(split.pictures.name(index)[7:11])
            pixels = np.asarray(split.pictures[index].open().image)[..., 0]
            np.testing.assert_array_equal(np.rint(pixels / 255 * 16), raw.images[number])
            assert split.labels[index] == raw.target[number]
        seen += [split.pictures.name(i) for i in range(len(split))]
        assert np.bincount(split.labels).min() >= 0.8 * len(split) / 10
    assert len(set(seen)) == len(raw.target)


def test_a_share_of_the_digits_is_refused():
    with pytest.raises(DatasetError, match="parts of this set are fixed"):
        open_dataset(val_share=0.3)
