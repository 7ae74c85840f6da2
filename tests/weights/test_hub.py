"""Published weights, fetched from a server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
from dataclasses import replace

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch

from fleetfoot import create_model
from fleetfoot.errors import (
    CorruptFileError,
    LicenceError,
    OfflineError,
    UnknownNameError,
    WeightsError,
)
from fleetfoot.weights import hub, pretrained
from fleetfoot.weights.pretrained import PretrainedConfig
from helpers import trained_

NAME = "mobilenetv1_025"
FIRST, SECOND = "1" * 40, "2" * 40


class Hub:
    """Repositories by name: their commits, newest last, each with the bytes of its one file."""

    def __init__(self):
        self.commits: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                outer.asked.append(self.path)
                repo, _, rest = self.path.strip("/").partition("/resolve/")
                commits = outer.commits.get(repo, {})
                revision = rest.partition("/")[0]
                if revision == "main" and commits:
                    revision = list(commits)[-1]
                if revision not in commits:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = commits[revision]
                self.send_response(200)
                self.send_header("X-Repo-Commit", revision)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The loopback hub, with every cache in the test's own folder."""
    made = Hub()
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", made.address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        made.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("FLEETFOOT_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    yield made
    made.close()


@pytest.fixture
def weights(tmp_path):
    model = trained_(create_model(NAME))
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    return model, path.read_bytes()


@pytest.fixture
def published(monkeypatch):
    row = PretrainedConfig(
        tag="test_in1k",
        source="timm",
        repo="timm/test.test_in1k",
        licence="apache-2.0",
        licence_url="https://example.invalid/licence",
    )
    monkeypatch.setitem(pretrained.PRETRAINED, NAME, (row,))
    return row


def pins(tmp_path):
    return json.loads((tmp_path / "ours" / "pins.json").read_text())


def test_the_first_download_is_pinned_and_later_loads_ask_for_that_commit(
    server, published, weights, tmp_path, caplog
):
    model, content = weights
    server.commits[published.repo] = {FIRST: content}
    loaded = create_model(NAME, pretrained=True)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert loaded.pretrained_cfg == published
    assert "apache-2.0" in caplog.text, "the licence is said"
    assert pins(tmp_path) == {
        "timm/test.test_in1k/model.safetensors": {
            "revision": FIRST,
            "sha256": hashlib.sha256(content).hexdigest(),
            "licence": "apache-2.0",
        }
    }
    server.commits[published.repo][SECOND] = b"other weights"  # the repository moves on
    server.asked.clear()
    again = create_model(NAME, pretrained="test_in1k")
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert not any("main" in path for path in server.asked)


def test_a_file_that_changed_in_the_cache_is_refused(server, published, weights, tmp_path):
    server.commits[published.repo] = {FIRST: weights[1]}
    path = hub.fetch(published)
    path.resolve().write_bytes(b"something else")
    with pytest.raises(CorruptFileError, match="not the weights that were pinned"):
        hub.fetch(published)


def test_a_pinned_commit_is_asked_for_when_the_cache_is_gone(
    server, published, weights, tmp_path, monkeypatch
):
    server.commits[published.repo] = {FIRST: weights[1]}
    hub.fetch(published)
    server.commits[published.repo] = {FIRST: b"changed under its name", SECOND: b"newer"}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "fresh"))
    server.asked.clear()
    with pytest.raises(CorruptFileError, match="SHA-256"):
        hub.fetch(published)
    assert all(FIRST in path for path in server.asked)


def test_a_row_that_states_its_revision_wins_over_the_newest(server, published, weights):
    server.commits[published.repo] = {FIRST: weights[1], SECOND: b"newer"}
    path = hub.fetch(replace(published, revision=FIRST))
    assert path.read_bytes() == weights[1]


def test_a_row_that_states_a_hash_refuses_another(server, published, weights):
    server.commits[published.repo] = {FIRST: weights[1]}
    with pytest.raises(CorruptFileError, match="abcd"):
        hub.fetch(replace(published, sha256="abcd"))


def test_a_restricted_licence_asks_before_anything_is_fetched(server, published, weights):
    server.commits[published.repo] = {FIRST: weights[1]}
    restricted = replace(published, research_only=True, licence="its own")
    with pytest.raises(LicenceError, match=r"its own.*example.invalid.*--accept-licence"):
        hub.fetch(restricted)
    assert not server.asked
    assert hub.fetch(restricted, accept_licence=True).exists()


def test_what_the_hub_does_not_have_is_said(server, published):
    with pytest.raises(WeightsError, match=r"404.*timm/test.test_in1k"):
        hub.fetch(published)


@pytest.mark.parametrize("how", ["no answer", "HF_HUB_OFFLINE"])
def test_offline_says_which_file_from_where_and_how_to_bring_it(
    published, server, how, monkeypatch
):
    server.close()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", how == "HF_HUB_OFFLINE")
    with pytest.raises(OfflineError) as caught:
        create_model(NAME, pretrained=True)
    text = str(caught.value)
    for word in (
        "model.safetensors",
        published.repo,
        "huggingface.co",
        "HF_HOME",
        "--weights FILE",
    ):
        assert word in text


@pytest.mark.parametrize("source", ["hub", "torchvision"])
@pytest.mark.parametrize("how", ["refuses", "hangs", "fails"])
def test_a_server_that_does_not_answer_is_not_asked_again(
    published, server, how, source, monkeypatch, request
):
    if source == "torchvision":
        published = request.getfixturevalue("torchvisions")
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        if how == "fails":
            monkeypatch.setattr(
                "fleetfoot.weights.hub._silence", lambda url: asked.append(url) or "it answered 503"
            )
        else:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            monkeypatch.setattr(hub, "ANSWER_S", 0.3)
            monkeypatch.setattr(
                huggingface_hub.constants,
                "HUGGINGFACE_CO_URL_TEMPLATE",
                address + "/{repo_id}/resolve/{revision}/{filename}",
            )
            published = replace(
                published, repo=f"{address}/x.pth" if source == "torchvision" else published.repo
            )
        if how == "refuses":
            silent.close()
        server.asked.clear()
        with pytest.raises(OfflineError, match=r"no answer within 0.3 s|refused|503"):
            hub.fetch(published)
    assert not server.asked, "the client that tries five times was not started"


def test_what_is_in_the_cache_needs_no_server(server, published, weights, tmp_path):
    server.commits[published.repo] = {FIRST: weights[1]}
    path = hub.fetch(published)
    server.close()
    assert hub.fetch(published) == path
    (tmp_path / "ours" / "pins.json").unlink()
    assert hub.fetch(published) == path  # not pinned, so the newest is asked for first


def test_a_damaged_table_of_pins_is_said(server, published, weights, tmp_path):
    server.commits[published.repo] = {FIRST: weights[1]}
    (tmp_path / "ours").mkdir()
    for content in ("{", "[]", '{"a": 1}'):
        (tmp_path / "ours" / "pins.json").write_text(content)
        with pytest.raises(CorruptFileError, match="delete it"):
            hub.fetch(published)


@pytest.fixture
def torchvisions(server, weights, monkeypatch):
    """A row whose file lies on the loopback server under a name that states its hash."""
    digest = hashlib.sha256(weights[1]).hexdigest()[:8]
    name = f"test-{digest}.pth"
    server.commits["models"] = {name: weights[1]}
    row = PretrainedConfig(
        tag="tv_in1k",
        source="torchvision",
        repo=f"{server.address}/models/resolve/{name}",
        filename=name,
        sha256=digest,
        licence="bsd-3-clause",
    )
    monkeypatch.setitem(pretrained.PRETRAINED, NAME, (row,))
    return row


def test_torchvisions_files_are_fetched_once_and_their_hash_compared(server, torchvisions, weights):
    loaded = create_model(NAME, pretrained=True)
    torch.testing.assert_close(loaded.state_dict(), weights[0].state_dict(), rtol=0, atol=0)
    asked = len(server.asked)
    create_model(NAME, pretrained=True)
    assert len(server.asked) == asked


def test_a_torchvision_file_with_another_hash_is_refused(server, torchvisions):
    server.commits["models"][torchvisions.filename] = b"not those weights"
    with pytest.raises(CorruptFileError, match="hash"):
        hub.fetch(torchvisions)


def test_torchvision_offline_says_where_to_put_the_file(server, torchvisions):
    server.close()
    with pytest.raises(OfflineError, match="checkpoints"):
        hub.fetch(torchvisions)


def test_a_network_without_published_weights_says_so():
    with pytest.raises(UnknownNameError, match="--weights FILE"):
        create_model("shufflenet_v1_g3_x1_0", pretrained=True)
    with pytest.raises(UnknownNameError, match="apple_dist_in1k"):
        create_model("fastvit_t8", pretrained="apple_dist_in1", accept_licence=True)
    with pytest.raises(LicenceError, match=r"fastvit-license.*ml-fastvit"):
        create_model("fastvit_t8", pretrained=True)
    with pytest.raises(LicenceError, match="cvnets-license"):
        create_model("timm:mobilevit_xxs", pretrained=True)
