"""``explain`` tells what the data path would do, step by step, and ends with its outcome."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Gateway, Result, refusal
from tests.cli.test_keys import create

CONFIG = """
upstreams: {a: {targets: ["http://127.0.0.1:9000"]}}
routes:
  - {path: /, upstream: a}
  - {path: /public, upstream: a, auth: anonymous, strip_prefix: /public}
  - {path: /bearer, upstream: a, credentials: [authorization]}
  - {path: /editors, upstream: a, roles: [editor]}
  - {path: /, host: only.test, upstream: a, tenants: [somebody]}
"""


@pytest.fixture
def explain(gateway: Gateway, tmp_path: Path) -> Gateway:
    (tmp_path / "g.yaml").write_text(CONFIG)

    def run(*arguments: str, stdin: str = "") -> Result:
        return gateway("explain", "--config", "g.yaml", *arguments, stdin=stdin)

    return run


def steps(result: Result) -> dict[str, str]:
    assert result.stderr == ""
    return dict(line.split(maxsplit=1) for line in result.stdout.splitlines())


def test_living_key_is_forwarded_and_every_step_told(
    gateway: Gateway, explain: Gateway, tmp_path: Path
) -> None:
    key = create(gateway)
    (tmp_path / "key").write_text(key["secretKey"] + "\n")
    result = explain("--key-file", "key", "GET", "/x?y=1")
    told = steps(result)
    assert result.returncode == 0
    assert list(told) == ["request", "route", "credential", "table", "key", "holder", "permission", "outcome"]
    assert key["id"] in told["key"]
    assert "active until" in told["key"]
    assert told["outcome"] == "forwarded to http://127.0.0.1:9000 as GET /x?y=1"
    assert key["secretKey"] not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (["POST", "/x"], "refused with 403 permission_denied"),
        (["GET", "/editors"], "refused with 403 route_denied"),
        (["--host", "only.test", "GET", "/"], "refused with 403 route_denied"),
        (["GET", "/a/../b"], "refused with 400 bad_request"),
        (["GET", "/a%2fb"], "refused with 400 bad_request"),
        (["GET", "x"], "refused with 400 bad_request"),
        (["GET", "/a b"], "refused with 400 bad_request"),
        (["TRACE", "/"], "refused with 405 method_not_allowed"),
        (["BREW", "/"], "refused with 501 not_implemented"),
        (["POST", "/public/x"], "forwarded to http://127.0.0.1:9000 as POST /x"),
        (["GET", "/bearer"], "forwarded to http://127.0.0.1:9000 as GET /bearer"),
    ],
)
def test_outcome_is_the_data_path_s(
    gateway: Gateway, explain: Gateway, arguments: list[str], outcome: str
) -> None:
    key = create(gateway)
    result = explain("--key-file", "-", *arguments, stdin=key["secretKey"])
    assert steps(result)["outcome"].startswith(outcome)
    assert result.returncode == (0 if outcome.startswith("forwarded") else 1)


def test_whom_a_route_lets_in_is_told(gateway: Gateway, explain: Gateway) -> None:
    told = steps(explain("--key-file", "-", "GET", "/editors", stdin=create(gateway)["secretKey"]))
    assert told["route"].endswith("needs a key of role editor")
    assert told["table"].startswith("1 key, ")


def test_dead_and_unknown_keys_are_told_apart(gateway: Gateway, explain: Gateway) -> None:
    key = create(gateway)
    gateway("keys", "revoke", "--yes", key["id"])
    told = steps(explain("--key-file", "-", "GET", "/", stdin=key["secretKey"]))
    assert told["key"].startswith(f"{key['id']}, revoked ")
    assert told["outcome"].startswith("refused with 401 key_revoked")
    told = steps(explain("--key-file", "-", "GET", "/", stdin="some-other-token"))
    assert told["key"] == "none is proven"
    assert told["outcome"].startswith("refused with 401 key_unknown")
    told = steps(explain("--key-file", "-", "GET", "/", stdin=key["secretKey"][:-1]))
    assert told["outcome"].startswith("refused with 401 credential_malformed")
    assert steps(explain("GET", "/"))["outcome"].startswith("refused with 401 credential_missing")


def test_key_file_holds_one_key(explain: Gateway) -> None:
    assert "one line" in refusal(explain("--key-file", "-", "GET", "/", stdin="a\nb"), 2)
    assert "none cannot be read" in refusal(explain("--key-file", "none", "GET", "/"), 1)
