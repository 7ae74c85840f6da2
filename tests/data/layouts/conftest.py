"""A cache of its own for each test: what a tar holds is kept there."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path_factory.mktemp("cache")))
