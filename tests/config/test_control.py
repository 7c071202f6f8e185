"""Where keys are managed: never in clear on a network in silence, and a cookie that browsers keep."""

from __future__ import annotations

import pytest

from gateway.config import (
    Address,
    Control,
    Login,
    Settings,
    TlsFiles,
    load_settings,
    plaintext_note,
)
from tests.config.test_load import Write, refusal, write

__all__ = ["write"]

TLS = "tls: {cert: /c, key: /k}"


@pytest.mark.parametrize("text", ["null", "none", "~", ""])
def test_control_listener_may_be_off(write: Write, text: str) -> None:
    assert load_settings(write(f"control: {{listen: {text}}}")).control.listen is None


@pytest.mark.parametrize("text", ["null", "none"])
def test_control_listener_is_put_off_by_flag_and_variable(text: str) -> None:
    assert load_settings(flags={"--control-listen": text}).control.listen is None
    assert load_settings(environ={"GATEWAY_CONTROL_LISTEN": text}).control.listen is None


def test_every_member_is_read(write: Write) -> None:
    settings = load_settings(
        write(
            "control:\n  listen: 127.0.0.1:9\n  public_url: https://x\n  allow_plaintext: true\n"
            f"  {TLS}\n"
            "login: {token_ttl: 1m, cookie: c, cookie_domain: X, cookie_max_age: 30d}"
        )
    )
    assert settings.control == Control(
        listen=Address("127.0.0.1", 9),
        public_url="https://x",
        allow_plaintext=True,
        tls=TlsFiles("/c", "/k"),
    )
    assert settings.login == Login(
        token_ttl_s=60.0, cookie="c", cookie_domain="x", cookie_max_age_s=2592000.0
    )


def test_every_member_is_a_variable_too() -> None:
    settings = load_settings(
        environ={
            "GATEWAY_CONTROL__LISTEN": ":9",
            "GATEWAY_CONTROL__PUBLIC_URL": "https://keys.example.com",
            "GATEWAY_CONTROL__TLS__CERT": "/c",
            "GATEWAY_CONTROL__TLS__KEY": "/k",
            "GATEWAY_LOGIN__COOKIE_DOMAIN": "example.com",
            "GATEWAY_LOGIN__TOKEN_TTL": "PT24H",
        }
    )
    assert settings.control.listen == Address("", 9)
    assert settings.control.tls == TlsFiles("/c", "/k")
    assert settings.control.issuer == "https://keys.example.com"
    assert settings.login.cookie_domain == "example.com"
    assert settings.login.token_ttl_s == 86400.0


def test_tokens_name_the_gateway_where_no_origin_is_known() -> None:
    assert Settings().control.issuer == "gateway"


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://keys.example.com", "https://keys.example.com"),
        ("https://KEYS.example.com/", "https://keys.example.com"),
        ("https://keys.example.com:443", "https://keys.example.com"),
        ("https://keys.example.com:8443", "https://keys.example.com:8443"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost:8081", "http://localhost:8081"),
        ("http://127.0.0.2:80", "http://127.0.0.2"),
        ("http://[::1]:8081", "http://[::1]:8081"),
    ],
)
def test_origin_is_read_as_browsers_write_it(write: Write, text: str, origin: str) -> None:
    assert load_settings(write(f"control: {{public_url: '{text}'}}")).control.public_url == origin


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("control: {listen: 8081}", ["control.listen", "not an address"]),
        ("control: {listen: off}", ["control.listen", "`off` is not an address"]),
        ("control: {listen: unix:/s}", ["control.listen on a Unix socket is not supported"]),
        ("control: {listn: x}", ["control.listn", "`control.listen`"]),
        ("control: {public_url: keys.example.com}", ["control.public_url", "not an origin", "https://host"]),
        ("control: {public_url: 'https://h/path'}", ["not an origin"]),
        ("control: {public_url: 'https://h//'}", ["not an origin"]),
        ("control: {public_url: 'https://h?q'}", ["not an origin"]),
        ("control: {public_url: 'https://h#f'}", ["not an origin"]),
        ("control: {public_url: 'https://'}", ["not an origin"]),
        ("control: {public_url: 'https://:8081'}", ["not an origin"]),
        ("control: {public_url: 'https://h:0'}", ["not an origin"]),
        ("control: {public_url: 'https://h:99999'}", ["not an origin"]),
        ("control: {public_url: 'ftp://h'}", ["not an origin"]),
        ("control: {public_url: 'HTTPS://h'}", ["not an origin"]),
        ("control: {public_url: 'https://u:geheim@h'}", ["no user or password"]),
        ("control: {public_url: 'http://keys.example.com'}", ["in clear beyond loopback", "https://"]),
        ("control: {public_url: 'http://localhost.example.com'}", ["in clear beyond loopback"]),
        ("control: {public_url: 'http://127.0.0.1.example.com'}", ["in clear beyond loopback"]),
        ("control: {allow_plaintext: yes}", ["control.allow_plaintext", "neither true nor false"]),
        ("control: {tls: {cert: /c}}", ["control.tls.cert", "control.tls.key is missing"]),
        ("control: {tls: {key: /k}}", ["control.tls.key", "control.tls.cert is missing"]),
        ("control: {tls: {cert: /c, key: null}}", ["control.tls.key is missing"]),
        ("control: {tls: {cert: /c, keys: /k}}", ["control.tls.keys", "`control.tls.key`"]),
        ("control: {tls: /c}", ["control.tls", "a group of members"]),
        ("control: {tls: {cert: [a], key: b}}", ["control.tls.cert", "a list stands where"]),
        ("login: {token_ttl: 59s}", ["login.token_ttl", "from 1m to 1d"]),
        ("login: {token_ttl: 25h}", ["login.token_ttl", "from 1m to 1d"]),
        ("login: {token_ttl: null}", ["login.token_ttl", "nothing stands where"]),
        ("login: {cookie: 'a b'}", ["login.cookie", "no cookie's name"]),
        ("login: {cookie: 'a=b'}", ["login.cookie", "no cookie's name"]),
        ("login: {cookie: 'a;b'}", ["login.cookie", "no cookie's name"]),
        ("login: {cookie: 'ä'}", ["login.cookie", "no cookie's name"]),
        ("login: {cookie: ''}", ["login.cookie", "nothing stands where"]),
        ("login: {cookies: a}", ["login.cookies", "`login.cookie`"]),
        ("login: {cookie_domain: .example.com}", ["login.cookie_domain", "without a leading dot"]),
        ("login: {cookie_domain: 'example.com:80'}", ["login.cookie_domain", "not a domain"]),
        ("login: {cookie_domain: 'a; Secure'}", ["login.cookie_domain", "not a domain"]),
        ("login: {cookie_domain: 10.0.0.1}", ["login.cookie_domain", "not a domain"]),
        ("login: {cookie_domain: 'a..b'}", ["login.cookie_domain", "not a domain"]),
        ("login: {cookie: __Host-t, cookie_domain: example.com}", ["login.cookie_domain", "__Host-t"]),
        ("login: {cookie_max_age: 1s}", ["login.cookie_max_age", "from 1m to 30d"]),
        (
            "control: {public_url: 'https://keys.example.com'}\nlogin: {cookie_domain: example.org}",
            ["login.cookie_domain", "keys.example.com", "no browser", "line 2"],
        ),
        (
            "control: {public_url: 'https://badexample.com'}\nlogin: {cookie_domain: example.com}",
            ["login.cookie_domain", "no browser"],
        ),
    ],
)
def test_wrong_value_is_told_with_its_path_and_what_is_right(
    write: Write, text: str, words: list[str]
) -> None:
    told = refusal(write(text))
    for word in [*words, "line "]:
        assert word in told
    assert "geheim" not in told


CLEAR = [
    ("0.0.0.0:8081", "", False),
    ("':8081'", "", False),
    ("'[::]:8081'", "", False),
    ("10.0.0.7:8081", "", False),
    ("keys.internal:8081", "", False),
    ("0.0.0.0:8081", "public_url: 'http://localhost:8081'", False),
    ("0.0.0.0:8081", "allow_plaintext: false", False),
    ("0.0.0.0:8081", TLS, True),
    ("0.0.0.0:8081", "public_url: 'https://keys.example.com'", True),
    ("0.0.0.0:8081", "allow_plaintext: true", True),
    ("127.0.0.1:8081", "", True),
    ("127.8.8.8:8081", "", True),
    ("'[::1]:8081'", "", True),
    ("localhost:8081", "", True),
    ("null", "", True),
]


@pytest.mark.parametrize(("listen", "more", "starts"), CLEAR)
def test_control_listener_beyond_loopback_is_in_clear_only_if_said(
    write: Write, listen: str, more: str, starts: bool
) -> None:
    file = write(f"control: {{listen: {listen}{', ' if more else ''}{more}}}")
    if starts:
        load_settings(file)
        return
    told = refusal(file)
    for way_out in ("control.tls", "control.public_url", "control.allow_plaintext: true"):
        assert way_out in told
    assert "in clear" in told
    assert "line 1 of" in told


@pytest.mark.parametrize(
    ("listen", "more", "words"),
    [
        ("':8081'", "allow_plaintext: true", ["passwords", "in clear", "control.allow_plaintext"]),
        ("':8081'", "public_url: 'https://h'", ["plain HTTP", "https://h"]),
        ("':8081'", "allow_plaintext: true, public_url: 'https://h'", ["plain HTTP", "https://h"]),
        ("':8081'", TLS, None),
        ("127.0.0.1:8081", "allow_plaintext: true", None),
        ("null", "allow_plaintext: true", None),
    ],
)
def test_what_is_in_clear_is_said_at_start(
    write: Write, listen: str, more: str, words: list[str] | None
) -> None:
    note = plaintext_note(load_settings(write(f"control: {{listen: {listen}, {more}}}")))
    if words is None:
        assert note is None
    else:
        assert note is not None
        assert all(word in note for word in [*words, ":8081"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("listen: 127.0.0.1:8081", "listen 127.0.0.1:8081 and control.listen 127.0.0.1:8081 are one port"),
        ("listen: [':1', ':8081']", "listen :8081 and control.listen"),
        ("ops: {listen: ':8081'}", "ops.listen :8081 and control.listen 127.0.0.1:8081 are one port"),
        ("control: {listen: 127.0.0.1:9464}", "ops.listen 127.0.0.1:9464 and control.listen"),
        ("control: {listen: 127.0.0.1:8080}", "listen 0.0.0.0:8080 and control.listen"),
    ],
)
def test_listeners_of_different_purpose_never_share_a_port(write: Write, text: str, told: str) -> None:
    sentence = refusal(write(text))
    assert told in sentence
    assert "line 1 of" in sentence


@pytest.mark.parametrize(
    "text",
    [
        "listen: 127.0.0.1:8081\ncontrol: {listen: null}",
        "listen: 127.0.0.2:8081",
        "listen: unix:/run/g.sock",
        "control: {listen: 127.0.0.1:0}\nops: {listen: 127.0.0.1:0}",
    ],
)
def test_listeners_that_do_not_meet_are_let_be(write: Write, text: str) -> None:
    load_settings(write(text))
