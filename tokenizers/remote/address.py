"""Where tokenizer services are: `tcp://host:port`, several as `tcp://a:1,b:1` or as a list. Ours."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

SCHEME = "tcp://"


class Address(NamedTuple):
    """A host (name or number) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{SCHEME}[{self.host}]:{self.port}" if ":" in self.host else f"{SCHEME}{self.host}:{self.port}"


def parse_addresses(key: str, value: str | Sequence[str]) -> tuple[Address, ...]:
    """The addresses of the replicas of one service, in order. ValueError that names `key`."""
    words = [word.strip() for text in ([value] if isinstance(value, str) else value) for word in text.split(",")]
    found = tuple(_parse(key, word, alone=not number) for number, word in enumerate(words))
    if not found or len(set(found)) != len(found):
        raise ValueError(f"{key} = {value} must name at least one address, each once, for example {SCHEME}127.0.0.1:7575")
    return found


def _parse(key: str, word: str, alone: bool) -> Address:
    text = word if alone or "://" in word else SCHEME + word
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    plain = host and port and text.startswith(SCHEME) and parts.username is None and not (parts.path or parts.query or parts.fragment)
    if not plain:
        raise ValueError(f"{key}: {word!r} is no address; write {SCHEME}host:port (tokens stand in the environment, never here)")
    assert host is not None and port is not None
    return Address(host, port)


def is_loopback(number: str) -> bool:
    """Whether an IP address in numbers can only be reached from this machine."""
    try:
        address = ipaddress.ip_address(number.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
