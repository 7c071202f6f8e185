"""An issuer of the test's own: its keys, its tokens, and an HTTP server that behaves as it is told."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Answer = tuple[int, Mapping[str, str], bytes]
_RSA = {bits: rsa.generate_private_key(65537, bits) for bits in (1024, 2048)}  # slow to make


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Signer:
    """A private key under a name."""

    def __init__(self, kid: str, algorithm: str = "RS256", *, bits: int = 2048, fresh: bool = False) -> None:
        self.kid, self.algorithm = kid, algorithm
        self.key: Any
        if algorithm[0] in "RP":
            self.key = rsa.generate_private_key(65537, bits) if fresh else _RSA[bits]
        elif algorithm == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
        else:
            curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
            self.key = ec.generate_private_key(curves[algorithm])

    def jwk(self, **more: Any) -> dict[str, Any]:
        """Return the public half as issuers publish it; a member of ``more`` that is None is left out."""
        algorithm: Any = jwt.get_algorithm_by_name(self.algorithm)
        public = json.loads(algorithm.to_jwk(self.key.public_key()))
        public.pop("key_ops", None)
        members = public | {"kid": self.kid, "use": "sig", "alg": self.algorithm} | more
        return {name: value for name, value in members.items() if value is not None}

    def token(self, claims: Mapping[str, Any], **headers: Any) -> str:
        return jwt.encode(dict(claims), self.key, self.algorithm, headers={"kid": self.kid, **headers})


class Idp:
    """A server on loopback that publishes ``keys`` at ``/jwks.json``, or answers as ``behave`` says."""

    def __init__(self, *signers: Signer, tls: ssl.SSLContext | None = None) -> None:
        self.keys: list[Any] = [signer.jwk() for signer in signers]
        self.headers: dict[str, str] = {}
        self.behave: Callable[[], Answer] | None = None
        self.asked = 0
        self.released = threading.Event()
        """Set when it stops, so that no answer is held for longer."""
        idp = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                idp.asked += 1
                status, headers, body = (idp.behave or idp.published)()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a client that has heard enough closes

        self._scheme = "https" if tls else "http"
        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/jwks.json"

    def published(self) -> Answer:
        return 200, self.headers, json.dumps({"keys": self.keys}).encode()

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def claims(issuer: str, audience: str = "gateway", **more: Any) -> dict[str, Any]:
    """Return the claims of a token that lives for ten minutes from now."""
    now = int(time.time())
    return {"iss": issuer, "aud": audience, "sub": "ann", "iat": now, "exp": now + 600, **more}
