"""``gateway healthcheck`` asks a running gateway whether it is ready, for container runtimes."""

from __future__ import annotations

import http.client
from typing import Any

import click

from gateway.cli.common import CliError, setting_flags, settings_of
from gateway.config.settings import Address

TIMEOUT_S = 2.0
_LOCAL = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a wildcard, to where it is reachable


@click.command(short_help="Ask a running gateway whether it is ready.")
@setting_flags("--ops-listen", "--listen", "--control-listen")
def healthcheck(**flags: Any) -> None:
    """Ask the ops listener for /readyz; exit 0 when it says ready, 1 otherwise."""
    address = settings_of(flags).ops_listen
    status, text = _ask(address)
    if status != 200:
        raise CliError(f"{address} is not ready: {text or f'status {status}'}")
    click.echo(text or "ready")


def _ask(address: Address) -> tuple[int, str]:
    """Return the status and the first line of /readyz; raises CliError when nobody answers."""
    host = _LOCAL.get(address.host, address.host)
    connection = http.client.HTTPConnection(host, address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        line = response.read(1000).decode("utf-8", "replace").partition("\n")[0]
    except OSError as error:
        raise CliError(f"nothing answers at {address}: {error.strerror or error}") from None
    except http.client.HTTPException:
        raise CliError(f"what answers at {address} is no gateway's ops listener") from None
    finally:
        connection.close()
    return response.status, "".join(filter(str.isprintable, line))
