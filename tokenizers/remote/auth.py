"""The token that services and their clients share, and how each proves to the other that it has it, without sending it.

    proof = HMAC-SHA256(token, protocol | who proves | nonce of the server | nonce of the client)

A new connection has new nonces, so what somebody overheard proves nothing later. The token comes from the environment variable
ERNIE5_SERVICE_TOKEN or from the file that ERNIE5_SERVICE_TOKEN_FILE names; never from a command line or a recipe. What follows on the
connection is neither encrypted nor signed: between machines use a private network or a tunnel. Ours.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping

ENV, ENV_FILE = "ERNIE5_SERVICE_TOKEN", "ERNIE5_SERVICE_TOKEN_FILE"
SHORTEST = 16  # characters: who overhears a proof can try short tokens at leisure
HOW = f"set {ENV}, or {ENV_FILE} to a file that only you can read, on both sides"


def read_token(environment: Mapping[str, str] = os.environ) -> bytes | None:
    """The token, None where none is set. ValueError for a short one, two at once or a file that cannot be read."""
    text, path = environment.get(ENV), environment.get(ENV_FILE)
    if text is not None and path is not None:
        raise ValueError(f"{ENV} and {ENV_FILE} are both set; keep one")
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(2**12)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{ENV_FILE} names a file that cannot be read ({type(error).__name__}); correct the path") from None
    if text is None:
        return None
    token = text.strip().encode()
    if len(token) < SHORTEST:
        raise ValueError(f"{ENV if path is None else ENV_FILE} gives a token of {len(token)} characters, and it must have {SHORTEST}; "
                         "make one with: python -c \"import secrets; print(secrets.token_urlsafe(32))\"")
    return token


def nonce() -> str:
    """64 hex digits that were never used before."""
    return secrets.token_hex(32)


def proof(token: bytes, who: str, server_nonce: str, client_nonce: str) -> str:
    """What shows that `who` ("server" or "client") has the token."""
    text = "|".join(("ernie5 tokenizer service 1", who, server_nonce, client_nonce))
    return hmac.new(token, text.encode(), "sha256").hexdigest()


def is_proof(shown: str, token: bytes, who: str, server_nonce: str, client_nonce: str) -> bool:
    """Compared in a time that does not depend on where they differ."""
    return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), proof(token, who, server_nonce, client_nonce).encode())
