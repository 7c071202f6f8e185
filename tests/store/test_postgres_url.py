"""What a PostgreSQL URL says, and which are refused: in one sentence, without what may be a secret."""

from __future__ import annotations

import pytest

from gateway.store.base import StoreUrlError
from gateway.store.postgres_url import Host, parse_postgres_url
from gateway.store.urls import open_store


@pytest.mark.parametrize(
    ("url", "location", "password"),
    [
        ("postgresql://u:p@db/gw", "postgresql://u@db/gw", "p"),
        ("postgres://u@db:6432/gw", "postgresql://u@db:6432/gw", None),
        ("postgresql://u:p%40%2F%23%3F@db/gw", "postgresql://u@db/gw", "p@/#?"),
        ("postgresql://u:p:q@db/gw", "postgresql://u@db/gw", "p:q"),
        ("postgresql://u:@db/gw", "postgresql://u@db/gw", None),
        ("postgresql://u@a,b:6432/gw", "postgresql://u@a,b:6432/gw", None),
        ("postgresql://u@[::1]:6432,10.0.0.7/gw", "postgresql://u@[::1]:6432,10.0.0.7/gw", None),
        ("postgresql://u@%2Frun%2Fpostgresql/gw", "postgresql://u@/run/postgresql/gw", None),
        ("postgresql://u@/gw?host=/run/postgresql&port=6432", "postgresql://u@/run/postgresql:6432/gw", None),
        ("postgresql://u@/gw?host=a,b&port=1,2", "postgresql://u@a:1,b:2/gw", None),
        ("postgresql://u@/gw?host=a,b&port=7", "postgresql://u@a:7,b:7/gw", None),
        ("postgresql://u@/gw", "postgresql://u@localhost/gw", None),
        ("postgresql://u@db", "postgresql://u@db/u", None),
        ("postgresql://u:p@db/gw?sslmode=verify-full&sslrootcert=/ca.pem", "postgresql://u@db/gw", "p"),
    ],
)
def test_a_url_says_where_and_who_and_is_told_without_its_password(
    url: str, location: str, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PGHOST", "PGDATABASE"):
        monkeypatch.delenv(variable, raising=False)
    found = parse_postgres_url(url)
    assert (found.location, found.password) == (location, password)
    assert open_store(url).location == location
    assert repr(found) == f"PostgresUrl({location!r})"


def test_hosts_come_in_their_order_with_their_ports() -> None:
    found = parse_postgres_url("postgresql://u@a,[::1]:6432,b:7/gw")
    assert found.hosts == (Host("a", None), Host("::1", 6432), Host("b", 7))


def test_who_is_not_named_is_the_user_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGUSER", "ann")
    assert parse_postgres_url("postgresql://db/gw").user == "ann"
    monkeypatch.delenv("PGUSER")
    monkeypatch.setattr("getpass.getuser", lambda: "os-user")
    assert parse_postgres_url("postgresql://db/gw").user == "os-user"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql:u:geheim@db", "has not the form"),
        ("postgresql://u:geheim@[::1/gw", "has not the form"),
        ("postgresql://u:geheim@[::1]x/gw", "has not the form"),
        ("postgresql://u:geheim@db x/gw", "has not the form"),
        ("postgresql://u:geheim@db\n/gw", "has not the form"),
        ("postgresql://u:geheim@,db/gw", "has not the form"),
        ("postgresql://u:geheim@db:/gw", "from 1 to 65535"),
        ("postgresql://u:geheim@db:0/gw", "from 1 to 65535"),
        ("postgresql://u:geheim@db:65536/gw", "from 1 to 65535"),
        ("postgresql://u:geheim@db:7_0/gw", "from 1 to 65535"),
        ("postgresql://u:ge/heim@db/gw", "ambiguous"),
        ("postgresql://u:ge?heim=1@db/gw", "ambiguous"),
        ("postgresql://u:ge#heim@db/gw", "ambiguous"),
        ("postgresql://u:7/geheim@db/gw", "ambiguous"),
        ("postgresql://db/gw?sslmod=require", "no parameter `sslmod`; the nearest is `sslmode`"),
        ("postgresql://db/gw?password=geheim", "no parameter `password`"),
        ("postgresql://db/gw?options=-csearch_path=x", "no parameter `options`"),
        ("postgresql://db/gw?sslmode=on", "`sslmode` of the store URL must be one of disable, allow"),
        ("postgresql://db/gw?target_session_attrs=any", "must be one of primary, read-write"),
        ("postgresql://db/gw?sslmode=require&sslmode=disable", "says `sslmode` twice"),
        ("postgresql://db/gw?sslmode=", "says nothing for `sslmode`"),
        ("postgresql://db/gw?sslmode", "must be name=value"),
        ("postgresql://db/gw?host=/run", "names hosts twice"),
        ("postgresql://db/gw?port=7", "put the port there too"),
        ("postgresql:///gw?host=a,b&port=1,2,3", "2 hosts and 3 ports"),
        ("postgresql:///gw?host=a,,b", "a host that can be none"),
    ],
)
def test_what_is_no_url_is_refused_in_one_sentence_without_secrets(url: str, says: str) -> None:
    with pytest.raises(StoreUrlError) as refused:
        open_store(url)
    told = str(refused.value)
    assert says in told
    assert "geheim" not in told
    assert "heim@" not in told
    assert "\n" not in told
