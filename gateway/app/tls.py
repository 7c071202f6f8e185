"""Open the TLS of the control listener, if it has any."""

from __future__ import annotations

import contextlib
import ssl

from gateway.app.errors import StartError
from gateway.config.settings import Control
from gateway.control.tls import ServerTls, TlsFilesError


def control_tls(control: Control, stack: contextlib.AsyncExitStack) -> ssl.SSLContext | None:
    """Return what the control listener shows itself with; its files are followed until ``stack`` ends.

    None where it speaks plain HTTP. Raises StartError.
    """
    if control.tls is None:
        return None
    try:
        tls = ServerTls(control.tls.cert, control.tls.key)
    except TlsFilesError as error:
        raise StartError(f"control.tls: {error}") from None
    tls.start()
    stack.push_async_callback(tls.stop)
    return tls.context
