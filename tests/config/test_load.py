"""Flags stand before the environment, before the file, before defaults; nothing is taken in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Address, ConfigError, SecretText, Settings, check_servable, load_settings
from gateway.core.limits import Limits, Timeouts
from gateway.core.model import Freshness

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> str:
        path = tmp_path / "g.yaml"
        path.write_text(text)
        return str(path)

    return write


def refusal(
    file: str | None = None,
    environ: dict[str, str] | None = None,
    flags: dict[str, str | None] | None = None,
) -> str:
    """Return the one sentence with which the settings are refused."""
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ, flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_said_gives_the_defaults() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert settings.listen == (Address("0.0.0.0", 8080),)
    assert settings.limits == Limits()
    assert settings.timeouts == Timeouts()
    assert settings.freshness == Freshness(bound_s=300, fresh_s=5)


def test_flag_stands_before_variable_before_file(write: Write) -> None:
    file = write("listen: 127.0.0.1:1\nops: {listen: 127.0.0.1:2}\ntimeouts: {head: 3s}")
    environ = {"GATEWAY_LISTEN": "127.0.0.1:11", "GATEWAY_OPS_LISTEN": "127.0.0.1:12"}
    settings = load_settings(file, environ, {"--listen": "127.0.0.1:21", "--store": None})
    assert settings.listen == (Address("127.0.0.1", 21),)
    assert settings.ops_listen == Address("127.0.0.1", 12)
    assert settings.timeouts.head == 3.0
    assert settings.origins == {
        "listen": "--listen",
        "ops.listen": "GATEWAY_OPS_LISTEN",
        "timeouts.head": f"line 3 of {file}",
    }


def test_file_is_found_by_variable_too(write: Write) -> None:
    environ = {"GATEWAY_CONFIG": write("limits: {connections: 7}")}
    assert load_settings(environ=environ).limits.connections == 7


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("0.0.0.0:80", (Address("0.0.0.0", 80),)),
        ("'[::1]:8080'", (Address("::1", 8080),)),
        ("':8080'", (Address("", 8080),)),
        ("localhost:0", (Address("localhost", 0),)),
        ("unix:/run/g.sock", (Address(path="/run/g.sock"),)),
        ("[127.0.0.1:1, 'unix:/a']", (Address("127.0.0.1", 1), Address(path="/a"))),
        ("{address: 127.0.0.1:1}", (Address("127.0.0.1", 1),)),
        ("[{address: 127.0.0.1:1, tls: null}]", (Address("127.0.0.1", 1),)),
    ],
)
def test_every_form_of_address_is_read(write: Write, text: str, addresses: tuple[Address, ...]) -> None:
    assert load_settings(write(f"listen: {text}")).listen == addresses


@pytest.mark.parametrize(
    "text",
    ["8080", "host", "host:", "host:65536", "host:-1", "host:\uff11\uff12", "h:1_0", "[::1", "[::1]",
     "::1:80", "[x]:1", "http://h:1", "a b:1", "unix:rel", "unix:", "unix:/" + "x" * 107, ""],
)  # fmt: skip
def test_text_that_is_no_address_is_refused_where_it_stands(write: Write, text: str) -> None:
    told = refusal(write(f"limits: {{}}\nlisten: {text!r}"))
    assert told.startswith("listen: ")
    assert "line 2 of " in told


def test_two_listeners_from_one_variable() -> None:
    settings = load_settings(environ={"GATEWAY_LISTEN": "127.0.0.1:1, unix:/a"})
    assert settings.listen == (Address("127.0.0.1", 1), Address(path="/a"))


@pytest.mark.parametrize(
    ("listen", "ops", "meets"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        (":1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("unix:/a", "127.0.0.1:1", False),
    ],
)
def test_data_and_ops_never_share_a_port(listen: str, ops: str, meets: bool) -> None:
    flags: dict[str, str | None] = {"--listen": listen, "--ops-listen": ops}
    if meets:
        assert "choose another" in refusal(flags=flags)
    else:
        load_settings(flags=flags)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lisen: x", ["lisen", "line 1 of", "`listen`"]),
        ("\nlimits: {head_byte: 3}", ["limits.head_byte:", "line 2 of", "`limits.head_bytes`"]),
        ("timeouts:\n  idle: 3s", ["timeouts.idle:", "line 2 of"]),
        ("limits: 5", ["limits:", "a group of members"]),
        ("limits: {head_bytes: 1_024}", ["limits.head_bytes", "`1_024`", "whole number from"]),
        ("limits: {head_bytes: '\uff11\uff10\uff12\uff14'}", ["limits.head_bytes", "whole number from"]),
        ("limits: {head_bytes: 1023}", ["from 1024"]),
        ("limits: {head_bytes: [1]}", ["a list stands where"]),
        ("limits: {head_bytes: {a: b}}", ["a group stands where"]),
        ("limits: {head_bytes: null}", ["nothing stands where"]),
        ("limits: {head_bytes: 2000, target_bytes: 3000}", ["limits.target_bytes", "limits.head_bytes"]),
        ("timeouts: {head: 10}", ["timeouts.head", "`10`"]),
        ("timeouts: {head: -1s}", ["timeouts.head", "`-1s`"]),
        ("timeouts: {head: 0s}", ["timeouts.head", "out of range"]),
        ("timeouts: {head: P1M}", ["timeouts.head", "`P1M`"]),
        ("timeouts: {head: P99999999999D}", ["timeouts.head"]),
        ("timeouts: {head: 12:30:45}", ["timeouts.head", "`12:30:45`"]),
        ("propagation: {bound: 301s}", ["propagation.bound", "to 5m"]),
        ("propagation: {fresh: 200s, bound: 100s}", ["propagation.fresh", "propagation.bound"]),
        ("propagation: {fresh: 2s}", ["propagation.fresh", "propagation.poll"]),
        ("propagation: {outage_grace: 8d}", ["propagation.outage_grace"]),
        ("propagation: {outage_grace: null}", ["propagation.outage_grace"]),
        ("propagation: {poll: 5s, bound: 5s}", ["propagation.poll", "propagation.bound"]),
        ("store: {url: mysql://u:geheim@h/d}", ["store.url", "sqlite:///"]),
        ("store: {url: 'sqlite:'}", ["store.url", "sqlite:///"]),
        ("secrets: {pepper: x}", ["secrets.pepper", "GATEWAY_PEPPER"]),
        ('access_log: {path: "a\\nb"}', ["access_log.path", "control character"]),
        ("roles: {viewer: {permission: editor}}", ["roles.viewer", "built in"]),
        ("roles: {Editor: {permission: editor}}", ["roles.Editor", "built in"]),
        ("roles: {R: {permission: admin}}", ["roles.R.permission", "viewer or editor"]),
        ("roles: {R: {}}", ["roles.R", "`permission` is missing"]),
        ("roles: {'a b': {permission: viewer}}", ["`a b` is no name"]),
        ("roles: {R: {permission: viewer, routes: [x]}}", ["roles.R.routes[0]", "`/x`"]),
    ],
)
def test_wrong_value_is_told_with_its_path_its_line_and_what_is_right(
    write: Write, text: str, words: list[str]
) -> None:
    told = refusal(write(text))
    for word in [*words, "line "]:
        assert word in told
    assert "geheim" not in told


UNBUILT = [
    "tls: {cert: a, key: b}",
    "listen: {address: 127.0.0.1:1, tls: {cert: a, key: b}}",
    "listen: [{address: 127.0.0.1:1, tls: {cert: a}}]",
    "authz: {listen: 127.0.0.1:8082}",
    "trusted_proxies: [10.0.0.0/8]",
    "timeouts: {tunnel_idle: 1h}",
    "ops: {listen: unix:/a}",
    "upstreams: {a: {targets: ['https://h:1']}}",
    "upstreams: {a: {targets: ['unix:/a']}}",
    "upstreams: {a: {targets: ['http://h:1', 'http://h:2']}}",
    "upstreams: {a: {targets: ['http://h:1'], balance: least_outstanding}}",
    "upstreams: {a: {targets: ['http://h:1'], health: {path: /}}}",
    "upstreams: {a: {targets: ['http://h:1'], tls: {ca: f}}}",
    "upstreams: {a: {targets: ['http://h:1']}}\nroutes: [{path: /, upstream: a, rate_limit: 600/min}]",
    "upstreams: {a: {targets: ['http://h:1']}}\nroutes: [{path: /, upstream: a, websocket: viewer}]",
]


@pytest.mark.parametrize("text", UNBUILT)
def test_setting_whose_subject_is_not_built_is_refused_for_what_it_is(write: Write, text: str) -> None:
    told = refusal(write(text))
    assert "is not supported by this version" in told
    assert "line " in told


@pytest.mark.parametrize(
    "text",
    ["trusted_proxies: []", "authz: {}"],
)  # fmt: skip
def test_unbuilt_subject_may_be_said_to_be_off(write: Write, text: str) -> None:
    assert load_settings(write(text)).limits == Limits()


@pytest.mark.parametrize(
    "environ",
    [{"GATEWAY_AUTHZ__LISTEN": ":1"},
     {"GATEWAY_TRUSTED_PROXIES": "0.0.0.0/0"}, {"GATEWAY_UPSTREAM": "https://h"}],
)  # fmt: skip
def test_unbuilt_subject_is_refused_in_the_environment(environ: dict[str, str]) -> None:
    assert "is not supported by this version" in refusal(environ=environ)


@pytest.mark.parametrize("said", ["1h", "PT1H", "3600s"])
def test_an_outage_may_be_outlived_if_the_operator_says_so(write: Write, said: str) -> None:
    settings = load_settings(write(f"propagation: {{bound: 60s, outage_grace: {said}}}"))
    assert settings.freshness == Freshness(bound_s=60, fresh_s=5, grace_s=3600)
    assert load_settings(write("propagation: {bound: 60s}")).freshness.grace_s == 0


def test_workers_are_a_number_or_as_many_as_there_are_cores(write: Write) -> None:
    assert load_settings().workers == 1
    assert load_settings(write("workers: 3")).workers == 3
    assert load_settings(write("workers: auto")).workers == "auto"
    assert load_settings(write("workers: auto"), {"GATEWAY_WORKERS": "64"}).workers == 64
    assert load_settings(environ={"GATEWAY_WORKERS": "2"}, flags={"--workers": "auto"}).workers == "auto"


@pytest.mark.parametrize("wrong", ["0", "65", "-1", "1_0", "1.5", "many", "Auto", "[1]", "{a: 1}"])
def test_any_other_number_of_workers_is_refused(write: Write, wrong: str) -> None:
    assert "workers" in refusal(write(f"workers: {wrong}"))


def test_fresh_follows_poll_unless_said(write: Write) -> None:
    assert load_settings(write("propagation: {poll: 10s}")).freshness.fresh_s == 21.0
    assert load_settings(write("propagation: {poll: 10s, bound: 15s}")).freshness.fresh_s == 15.0
    assert load_settings(write("propagation: {poll: 10s, fresh: 30s}")).freshness.fresh_s == 30.0


@pytest.mark.parametrize(
    ("said", "answer_s"),
    [
        ("{}", 3.0),
        ("{poll: 500ms, bound: 3s}", 1.5),
        ("{poll: 2s, fresh: 2100ms}", 0.5),
        ("{poll: 30s}", 3.0),
    ],
)
def test_a_silent_connection_is_given_up_while_the_table_is_about_fresh(
    write: Write, said: str, answer_s: float
) -> None:
    assert load_settings(write(f"propagation: {said}")).propagation.answer_s == answer_s


def test_single_upstream_makes_one_route_to_everything() -> None:
    settings = load_settings(flags={"--upstream": "http://127.0.0.1:9000/"})
    check_servable(settings)
    assert [str(target) for target in settings.upstreams["default"].targets] == ["http://127.0.0.1:9000"]
    assert [(route.path, route.upstream) for route in settings.routes] == [("/", "default")]


def test_single_upstream_contradicts_a_file_that_routes(write: Write) -> None:
    file = write("upstreams: {a: {targets: ['http://h:1']}}")
    assert "line 1 of" in refusal(file, flags={"--upstream": "http://h:2"})


@pytest.mark.parametrize("text", ["", "upstreams: {a: {targets: ['http://h:1']}}"])
def test_gateway_with_nothing_to_serve_is_refused(write: Write, text: str) -> None:
    with pytest.raises(ConfigError, match=r"no upstream|no route"):
        check_servable(load_settings(write(text)))


def test_pepper_of_the_environment_stands_before_the_file(write: Write) -> None:
    settings = load_settings(write("secrets: {pepper_file: /run/p}"), {"GATEWAY_PEPPER": "x" * 32})
    assert settings.secrets.pepper_file is None
    assert settings.secrets.pepper == SecretText("x" * 32)
    assert "x" * 32 not in repr(settings)


def test_pepper_said_twice_must_be_the_same(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    path.write_text("y" * 32 + "\n")
    both = {"GATEWAY_PEPPER": "x" * 32, "GATEWAY_PEPPER_FILE": str(path)}
    told = refusal(environ=both)
    assert "GATEWAY_PEPPER and GATEWAY_PEPPER_FILE" in told
    assert "xx" not in told
    assert "yy" not in told
    same = {**both, "GATEWAY_PEPPER": "y" * 32}
    assert load_settings(environ=same).secrets.pepper == SecretText("y" * 32)


def test_several_peppers_are_a_line_each(tmp_path: Path) -> None:
    lines = "x" * 32 + "\n" + "y" * 32 + "\n"
    assert load_settings(environ={"GATEWAY_PEPPER": lines}).secrets.pepper == SecretText(lines)
    path = tmp_path / "pepper"
    path.write_text(lines.strip())
    both = {"GATEWAY_PEPPER": lines, "GATEWAY_PEPPER_FILE": str(path)}
    assert load_settings(environ=both).secrets.pepper == SecretText(lines)
    told = refusal(environ={"GATEWAY_PEPPER": lines + "z\x07" * 16})
    assert "a control character stands where a pepper a line belongs" in told
    assert "zz" not in told
