"""Which file a URL names, and which store is meant when none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.store.base import StoreUrlError
from gateway.store.urls import default_store_url, open_store, sqlite_path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/lib/g.db", Path("/var/lib/g.db")),
        ("sqlite:////var/lib/g.db", Path("/var/lib/g.db")),
        ("sqlite:g.db", Path.cwd() / "g.db"),
        ("sqlite:./a/g.db", Path.cwd() / "a/g.db"),
        ("sqlite:/abs/g.db", Path("/abs/g.db")),
        ("sqlite:///with space%20.db", Path("/with space%20.db")),
    ],
)
def test_what_follows_the_scheme_is_the_path(url: str, path: Path) -> None:
    assert sqlite_path(url) == path


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:hunter2@db/gw", "must begin with sqlite: or postgresql:"),
        ("/var/lib/g.db", "must begin with sqlite: or postgresql:"),
        ("", "must begin with sqlite: or postgresql:"),
        ("sqlite", "must begin with sqlite: or postgresql:"),
        ("sqlite:", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///dir/", "names no file"),
        ("sqlite://host/g.db", "an absolute path must follow"),
        ("sqlite:///g.db?mode=memory", "may hold no"),
        ("sqlite:///g\n.db", "may hold no"),
    ],
)
def test_other_urls_are_refused_with_one_sentence_without_secrets(url: str, says: str) -> None:
    with pytest.raises(StoreUrlError) as refused:
        open_store(url)
    assert says in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"STATE_DIRECTORY": "/var/lib/gw", "XDG_STATE_HOME": "/x"}, "sqlite:///var/lib/gw/gateway.db"),
        ({"STATE_DIRECTORY": "/var/lib/gw:/var/lib/two"}, "sqlite:///var/lib/gw/gateway.db"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "sqlite:///x/gateway/gateway.db"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "sqlite:///h/.local/state/gateway/gateway.db"),
        ({"HOME": "/h"}, "sqlite:///h/.local/state/gateway/gateway.db"),
    ],
)
def test_the_default_is_one_file_for_every_command(environ: dict[str, str], url: str) -> None:
    assert default_store_url(environ) == url


def test_a_user_without_a_home_is_asked_to_name_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    with pytest.raises(StoreUrlError, match="no home directory"):
        default_store_url({})
