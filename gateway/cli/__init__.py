"""The command line: thin commands, each of which calls what the other front doors call.

May import every plane, but only inside a command's body: ``gateway --version`` and the CLI's own
errors must not wait for an event loop or an HTTP library. Errors are one sentence on stderr.
Exit codes: 0 done; 1 refused, or something could not be had; 2 wrong usage or configuration.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from gateway import __version__
from gateway.cli.common import CliError, LazyGroup, OutputLostError, usage_sentence
from gateway.config.settings import ConfigError

_COMMANDS = {
    "quickstart": "gateway.cli.quickstart:quickstart",
    "run": "gateway.cli.run:run",
    "keys": "gateway.cli.keys:keys",
    "tenants": "gateway.cli.tenants:tenants",
    "environments": "gateway.cli.tenants:environments",
    "users": "gateway.cli.users:users",
    "audit": "gateway.cli.audit:audit",
    "signing-keys": "gateway.cli.signing_keys:signing_keys",
    "pepper": "gateway.cli.pepper:pepper",
    "config": "gateway.cli.config:config",
    "explain": "gateway.cli.explain:explain",
    "healthcheck": "gateway.cli.healthcheck:healthcheck",
    "migrate": "gateway.cli.run:migrate",
}
_INTERRUPTED = 130  # what a shell reports after SIGINT


@click.group(cls=LazyGroup, commands_at=_COMMANDS, no_args_is_help=False)
@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
def root() -> None:
    """An authenticating reverse proxy, and the keys it asks for."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code; errors become one sentence."""
    _hold_standard_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what a terminal cannot show
    try:
        code = root.main(args=arguments, prog_name="gateway", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        code = _fail(usage_sentence(error), 2)
    except ConfigError as error:
        code = _fail(str(error), 2)
    except OutputLostError as error:
        _discard_output()
        code = _fail(str(error), error.exit_code)
    except CliError as error:
        code = _fail(str(error), error.exit_code)
    except click.ClickException as error:
        code = _fail(error.format_message(), 1)
    except (click.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        code = 1
    except OSError as error:  # what a command could not have; a full disk behind stdout, for one
        _discard_output()
        code = _fail(f"{error.filename or 'the output'}: {error.strerror or error}", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _hold_standard_descriptors() -> None:
    """Open what the caller closed of 0, 1 and 2: a database there would be written into as a log is."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  for as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _discard_output() -> None:
    """Write what is left to nowhere: a second attempt at interpreter exit would complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str, code: int) -> int:
    click.echo(f"gateway: {sentence}", err=True)
    return code
