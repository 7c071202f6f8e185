"""Content and queries become what an endpoint declared, or are refused by the name of what is wrong."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from tests.control.http.conftest import HEAD, SECRET, Listener, read_one

WELL = '{"name":"x"}'


@pytest.mark.parametrize(
    ("content", "member", "words"),
    [
        ("{}", "name", "is missing"),
        ('{"name":7}', "name", "int"),
        ('{"name":null}', "name", "null"),
        ('{"name":"x","count":true}', "count", "bool"),
        ('{"name":"x","count":1.5}', "count", "float"),
        ('{"name":"x","count":1.0}', "count", "float"),
        ('{"name":"x","count":"1"}', "count", "str"),
        ('{"name":"x","ratio":"1"}', "ratio", "str"),
        (f'{{"name":"x","kind":"{SECRET}"}}', "kind", "one, other"),
        ('{"name":"x","kind":1}', "kind", ""),
        ('{"name":"x","Name":"y"}', "Name", "not a member"),
        ('{"name":"x","items":[{"name":"y"},{"name":2}]}', "items[1].name", "int"),
        ('{"name":"x","items":[{}]}', "items[0].name", "missing"),
        ('{"name":"x","items":[{"name":"y","z":1}]}', "items[0].z", "not a member"),
        ('{"name":"x","name":"y"}', "name", "more than once"),
        ('{"name":"\\u0000"}', "name", "NUL"),
        ("[]", "content", "array"),
        ('"x"', "content", "str"),
        ("null", "content", "null"),
        ('{"name":"x","count":99999999999999999999,"items":0}', "items", "int"),
    ],
)
async def test_a_member_that_cannot_be_is_named_and_its_value_is_not(
    listener: Listener, content: str, member: str, words: str
) -> None:
    got = await listener.post(content)
    assert (got.status, got.json["member"]) == (400, member)
    assert words in str(got.json["detail"])
    assert SECRET not in got.content.decode()
    assert listener.toys.calls == 0


@pytest.mark.parametrize(
    "name",
    [
        "x` - at `$[999]",
        "x` - at `$.kind",
        "x` - at `key in $.items[7]",
        "\u202e\x1b`$",
        "`",
        "é" * 500,
        " - at `$",
    ],
)
@pytest.mark.parametrize("form", ['{{"name":"x",{0}:1}}', '{{"name":"x","items":[{{"name":"y",{0}:1}}]}}'])
async def test_a_members_name_cannot_lead_astray(listener: Listener, name: str, form: str) -> None:
    got = await listener.post(form.format(json.dumps(name)))
    assert got.status == 400
    assert got.json["code"] == "invalid_request"
    member = str(got.json["member"])
    assert len(member) <= 80
    assert member.isascii() or member.endswith("…")
    assert "\x1b" not in got.content.decode()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("Content-Type: application/json\r\n", 201),
        ("Content-Type: application/json; charset=utf-8\r\n", 201),
        ('content-type: APPLICATION/JSON;charset="UTF-8"\r\n', 201),
        ("", 415),
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("Content-Type: application/json; charset=utf-16\r\n", 415),
        ("Content-Type: application/jsonx\r\n", 415),
        ("Content-Type: \xff/;;\r\n", 415),
        ("Content-Type: application/json\r\nContent-Encoding: br\r\n", 415),
        ("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", 415),
        ("Content-Type: application/json\r\nContent-Encoding: identity\r\n", 201),
    ],
)
async def test_only_json_is_read_as_json(listener: Listener, fields: str, status: int) -> None:
    assert (await listener.post(WELL, fields)).status == status


async def test_coded_content_is_never_decoded(listener: Listener) -> None:
    bomb = gzip.compress(bytes(30 << 20))
    got = await listener.post(bomb, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n")
    assert got.status == 415


async def test_content_may_be_left_out_only_where_that_is_said(listener: Listener) -> None:
    assert (await listener.post("")).status == 400
    got = await listener.ask(f"PUT /items HTTP/1.1\r\n{HEAD}Content-Length: 0\r\n\r\n")
    # An empty object, which lacks the name.
    assert (got.status, got.json["member"]) == (400, "name")


@pytest.mark.parametrize("size", [65536, 65537])
async def test_content_is_bounded_to_the_byte(listener: Listener, size: int) -> None:
    content = '{"name":"' + "x" * (size - 11) + '"}'
    got = await listener.post(content)
    assert got.status == (201 if size == 65536 else 413)


async def test_what_follows_content_that_is_too_large_is_not_answered(listener: Listener) -> None:
    second = f"GET /who HTTP/1.1\r\n{HEAD}\r\n".encode()
    chunks = (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5 + b"0\r\n\r\n"
    head = f"POST /items HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n"
    for request in (
        f"{head}Content-Length: 70000\r\n\r\n".encode() + b"x" * 70000,
        f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks,
    ):
        reader, writer = await listener.connect()
        writer.write(request + second)
        got = await read_one(reader)
        assert (got.status, got.fields["connection"]) == (413, "close")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_chunked_content_is_read_whole(listener: Listener) -> None:
    head = (
        f"POST /items HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    got = await listener.ask(head + '5\r\n{"nam\r\n7\r\ne":"x"}\r\n0\r\n\r\n')
    assert got.status == 201


async def test_content_that_does_not_arrive_is_given_up(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.control.http.reading.BODY_TIMEOUT_S", 0.05)
    reader, writer = await listener.connect()
    writer.write(f"POST /items HTTP/1.1\r\n{HEAD}Content-Length: 9\r\n\r\n{{".encode())
    got = await read_one(reader)
    assert (got.status, got.fields["connection"]) == (408, "close")
    writer.close()


async def test_content_with_broken_framing_is_refused_without_a_fault_of_ours(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    head = (
        f"POST /items HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    reader, writer = await listener.connect()
    writer.write(head.encode() + b"5\r\n{" + b'"nam\r\n')
    await writer.drain()
    writer.write(f"zz{SECRET}\r\n".encode())
    assert (await read_one(reader)).status == 400
    writer.close()
    assert SECRET not in caplog.text
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_caller_who_goes_away_in_her_content_is_no_fault_of_ours(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await listener.connect()
    writer.write(f"POST /items HTTP/1.1\r\n{HEAD}Content-Length: 9\r\n\r\n{{".encode())
    await writer.drain()
    assert (await listener.post(WELL)).status == 201
    writer.transport.abort()
    assert (await listener.post(WELL)).status == 201
    async with asyncio.timeout(10):
        while listener.runner.server and len(listener.runner.server.connections) > 2:
            await asyncio.sleep(0.01)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_leave_to_send_content_is_given_to_those_alone_who_may(listener: Listener) -> None:
    for credential, first in (("ann", 100), ("nobody", 401)):
        reader, writer = await listener.connect()
        fields = f"Host: keys.test\r\nX-API-KEY: {credential}\r\nContent-Type: application/json\r\n"
        writer.write(
            f"POST /items HTTP/1.1\r\n{fields}Expect: 100-continue\r\nContent-Length: 12\r\n\r\n".encode()
        )
        assert (await read_one(reader)).status == first
        if first == 100:
            writer.write(WELL.encode())
            assert (await read_one(reader)).status == 201
        writer.close()


async def test_nothing_else_can_be_expected(listener: Listener) -> None:
    got = await listener.post(WELL, "Content-Type: application/json\r\nExpect: 200-ok\r\n")
    assert (got.status, got.json["code"]) == (417, "expectation_failed")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", None),
        ("?", None),
        ("?text=a+b%2Bc", "a b+c"),
        ("?text=%C3%A4", "ä"),
        ("?text=", ""),
        ("?text", ""),
        ("?text=a%26limit%3D9", "a&limit=9"),
        ("?text=a;limit=9", "a;limit=9"),
        ("?text=null", "null"),
        ("?&&text=1&", "1"),
    ],
)
async def test_a_query_is_read_as_forms_are(listener: Listener, query: str, text: str | None) -> None:
    got = await listener.get(f"/items{query}")
    assert (got.status, got.json["text"], got.json["limit"]) == (200, text, 5)


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("limit=1_0", "limit"),
        ("limit=%EF%BC%91%EF%BC%90", "limit"),
        ("limit=1e1", "limit"),
        ("limit=1.0", "limit"),
        ("limit=%2B1", "limit"),
        ("limit=+1", "limit"),
        ("limit=01", "limit"),
        ("limit=-0", "limit"),
        ("limit=0x1", "limit"),
        ("limit=", "limit"),
        ("limit", "limit"),
        ("limit=null", "limit"),
        ("limit=true", "limit"),
        ("limit=" + "9" * 400, "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("kind=both", "kind"),
        ("text=a&text=a", "text"),
        ("text=a&te%78t=b", "text"),
        ("Text=a", "Text"),
        ("text=a%00", "text"),
        ("text=a%0Ab", "text"),
        ("x%0A=1", "x?"),
        ("=1", '""'),
    ],
)
async def test_a_parameter_that_cannot_be_is_named(listener: Listener, query: str, member: str) -> None:
    got = await listener.get(f"/items?{query}")
    assert (got.status, got.json["member"]) == (400, member)


@pytest.mark.parametrize("query", ["text=%", "text=%zz", "text=%f", "text=%ff", "text=%ED%A0%80", "%C3=1"])
async def test_a_query_that_is_no_text_is_refused_not_mended(listener: Listener, query: str) -> None:
    got = await listener.get(f"/items?{query}")
    assert (got.status, got.json["code"]) == (400, "invalid_request")


async def test_a_query_has_so_many_parameters_and_no_more(listener: Listener) -> None:
    got = await listener.get("/items?" + "&".join(f"a{n}" for n in range(500)))
    assert got.status == 400


async def test_an_endpoint_without_a_query_takes_none(listener: Listener) -> None:
    got = await listener.get("/who?verbose=1")
    assert (got.status, got.json["member"]) == (400, "verbose")
