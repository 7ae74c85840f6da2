"""Fetching published weights: once, pinned, with their licence reported.

Hub repositories can change under a name. The commit and the SHA-256 of the first download are
therefore written to ``pins.json`` in fleetfoot's cache folder; every later load asks for that
commit and compares the hash. A row of the table that states a revision or a hash itself wins.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fleetfoot.errors import CorruptFileError, LicenceError, OfflineError, WeightsError
from fleetfoot.files import cache_folder, open_regular, read_text, write_text
from fleetfoot.weights.pretrained import PretrainedConfig

logger = logging.getLogger("fleetfoot")

ANSWER_S = 1.5
"""Time within which a server has to answer before anything is fetched from it. The clients that
fetch would try five times, longer and longer apart. ``HF_HUB_ETAG_TIMEOUT`` replaces it."""


def fetch(published: PretrainedConfig, *, accept_licence: bool = False) -> Path:
    """Path of the file of these weights, from the cache or fetched from the network.

    Raises:
        LicenceError: the licence asks for an explicit yes and ``accept_licence`` is false.
        OfflineError: the file is not in the cache and cannot be fetched.
        CorruptFileError: the file is not the one that was pinned.
        WeightsError: the server does not have it.
    """
    what = f"{published.repo} ({published.licence}, {published.licence_url})"
    if published.research_only and not accept_licence:
        raise LicenceError(
            f"the weights {published.repo} are under {published.licence}, which does not allow "
            f"every use; read {published.licence_url} and, if you agree, pass accept_licence=True "
            "(--accept-licence)"
        )
    place = published.repo.removeprefix("https://")
    key = place if published.source == "torchvision" else f"{place}/{published.filename}"
    pins = _read_pins()
    pin = pins.get(key, {})
    if published.revision and published.revision != pin.get("revision"):
        pin = {}
    if published.source == "torchvision":
        path, revision = _from_url(published), ""
    else:
        path, revision = _from_hub(published, published.revision or pin.get("revision", "main"))
    digest = _sha256(path)
    for wanted in (published.sha256, pin.get("sha256", "")):
        if not digest.startswith(wanted):
            raise CorruptFileError(
                f"{path}: its SHA-256 is {digest}, not {wanted}...: these are not the weights "
                f"that were pinned for {published.repo}. Delete the file to fetch it again; if "
                f"you trust the new one, delete its entry in {_pins_path()}"
            )
    if pin:
        logger.info("weights %s", what)
    else:
        logger.warning("weights %s; pinned to %s", what, revision or digest[:16])
        _write_pins(
            pins | {key: {"revision": revision, "sha256": digest, "licence": published.licence}}
        )
    return path


def _from_hub(published: PretrainedConfig, revision: str) -> tuple[Path, str]:
    """The file in the hub's own cache, and its commit."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, filename = published.repo, published.filename
    url = f"https://huggingface.co/{repo}"
    if revision != "main":  # a commit: its file does not change
        held = huggingface_hub.try_to_load_from_cache(repo, filename, revision=revision)
        if isinstance(held, str):
            return Path(held), revision
    silence = ""
    if not constants.HF_HUB_OFFLINE:
        silence = _silence(huggingface_hub.hf_hub_url(repo, filename, revision=revision))
    try:
        path = Path(
            huggingface_hub.hf_hub_download(
                repo, filename, revision=revision, local_files_only=bool(silence)
            )
        )
    except LocalEntryNotFoundError as error:
        raise _offline(published, url, silence or type(error).__name__) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status >= 500:
            raise _offline(published, url, f"it answered {status}") from error
        raise WeightsError(
            f"the hub answered {status} to {repo}/{filename} at revision {revision}: it has no "
            "such file, or wants a login (hf auth login)"
        ) from error
    except OSError as error:  # the connection, or a cache that cannot be written
        raise _offline(published, url, type(error).__name__) from error
    return path, path.parent.name  # .../models--timm--x/snapshots/COMMIT/model.safetensors


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _silence(url: str) -> str:
    """Why a server does not answer, as a few words; "" if it answers, whatever it says."""
    limit_s = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or ANSWER_S)
    found = [f"no answer within {limit_s:g} s"]

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            opener = urllib.request.build_opener(_NoRedirect)
            with opener.open(request, timeout=limit_s):
                found[0] = ""
        except urllib.error.HTTPError as error:
            found[0] = f"it answered {error.code}" if error.code >= 500 else ""
        except urllib.error.URLError as error:
            # certificates are the client's to judge, which may know others
            if isinstance(error.reason, ssl.SSLError):
                found[0] = ""
            elif not isinstance(error.reason, TimeoutError):
                found[0] = str(error.reason)
        except TimeoutError:
            pass
        except (OSError, ValueError) as error:
            found[0] = str(error) or type(error).__name__

    # another thread, because looking up a name has no time limit of its own
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(limit_s)
    return found[0]


def _from_url(published: PretrainedConfig) -> Path:
    """The file in torch.hub's cache, where torchvision too would look for it."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / published.filename
    if path.exists():
        return path
    if silence := _silence(published.repo):
        raise _offline(published, published.repo, silence)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(
            published.repo, str(path), hash_prefix=published.sha256, progress=False
        )
    except OSError as error:
        raise _offline(published, published.repo, type(error).__name__) from error
    except RuntimeError as error:  # torch's word for a hash that differs
        raise CorruptFileError(f"{published.repo}: {error}; fetch it again") from error
    return path


def _offline(published: PretrainedConfig, url: str, reason: str) -> OfflineError:
    if published.source == "torchvision":
        folder = f"put it into {Path(torch.hub.get_dir()) / 'checkpoints'}"
    else:
        folder = "copy the folder HF_HOME of a machine that has it"
    return OfflineError(
        f"{published.filename} of {published.repo} is not on this machine and cannot be fetched "
        f"from {url} ({reason}). On a machine with a network, download it there and bring it: "
        f"{folder}, or give the file itself with weights=FILE (--weights FILE). To run the network "
        "with random weights, leave out pretrained (--no-pretrained; when it is trained, --weights "
        "none). On a slow network, set "
        "HF_HUB_ETAG_TIMEOUT to the seconds to wait for an answer"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _pins_path() -> Path:
    return cache_folder() / "pins.json"


def _read_pins() -> dict[str, dict[str, str]]:
    path = _pins_path()
    try:
        pins: Any = json.loads(read_text(path))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CorruptFileError(f"{path}: not JSON ({error}); delete it to pin again") from error
    if not isinstance(pins, dict) or not all(isinstance(pin, dict) for pin in pins.values()):
        raise CorruptFileError(f"{path}: not a table of pins; delete it to pin again")
    return pins


def _write_pins(pins: Mapping[str, Mapping[str, str]]) -> None:
    write_text(_pins_path(), json.dumps(pins, indent=1, sort_keys=True) + "\n")
