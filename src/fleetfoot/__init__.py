"""fleetfoot: vision networks that are fast on your device, not on paper.

The names below load their rooms when they are first used, so that ``import fleetfoot`` and the
command's help cost nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own takes milliseconds to import
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.2.0"

_HOME = {
    "configure": "fleetfoot.models",
    "create_model": "fleetfoot.tasks.catalogue",
    "list_models": "fleetfoot.models",
    "model_info": "fleetfoot.models",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fleetfoot' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
