"""Keep passwords and tokens out of everything a run writes: logs, recipe and code snapshots, checkpoint states.

A secret is (a) the value of an environment variable whose name says so (WANDB_API_KEY, HF_TOKEN, AWS_SECRET_ACCESS_KEY …), plain or in
base64; (b) text in the shape of a well-known token; (c) the user part or a signature parameter of a URL; (d) what stands after a name such
as `api_key:` or `password=`. `mask` replaces each by `***`. It cannot know a secret that looks like an ordinary word.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator

HIDDEN = "***"
_NAME = r"(?:api_?key|access_?key|secret(?:_access_key)?|passwd|password|passphrase|credentials?|private_?key)"
_SECRET_NAME = re.compile(rf"(?:^|_)(?:{_NAME}|token)(?:$|_)", re.IGNORECASE)
_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abprs]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,})"
)
_URL_USER = re.compile(r"(?<=://)[^\s/@'\"\\]+(?=@)")
_URL_PARAMETER = re.compile(
    rf"([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|sig|signature|key|token|access_token|{_NAME})=)[^&\s'\"\\]+", re.IGNORECASE
)
# the value ends at a quote, a space or the line: code such as `password = read(…)` in a diff stays as it is
_END = r"(?=['\"\s,;}\]]|$)"
_ASSIGNMENT = re.compile(rf"(\b\w*{_NAME}['\"]?\s*[:=]\s*['\"]?)[A-Za-z0-9+/_=~-]{{8,}}{_END}", re.IGNORECASE)
_TOKEN_ASSIGNMENT = re.compile(
    rf"(\b\w*token['\"]?\s*[:=]\s*['\"]?)(?=[\w+/=~-]*\d)(?=[\w+/=~-]*[A-Za-z])[A-Za-z0-9+/_=~-]{{16,}}{_END}", re.IGNORECASE
)


def mask(text: str) -> str:
    """`text` with every recognised secret replaced by `***`."""
    return masker()(text)


def masker() -> Callable[[str], str]:
    """`mask` for many texts: reads the environment once."""
    secrets = list(_environment_secrets())

    def apply(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        text = _URL_USER.sub(HIDDEN, _TOKEN.sub(HIDDEN, text))
        for pattern in (_URL_PARAMETER, _ASSIGNMENT, _TOKEN_ASSIGNMENT):
            text = pattern.sub(rf"\1{HIDDEN}", text)
        return text

    return apply


def names_secret(name: str) -> bool:
    """Whether something of this name holds a secret (`HF_TOKEN`, `api_key`)."""
    return _SECRET_NAME.search(name) is not None


def _environment_secrets() -> Iterator[str]:
    """Values of 8 characters and more, longest first; base64 in the three alignments that it can have inside a longer text."""
    values = {value for name, value in os.environ.items() if len(value) >= 8 and names_secret(name)}
    for value in sorted(values, key=len, reverse=True):
        yield value
        raw = value.encode(errors="surrogateescape")
        for shift, drop in ((0, 0), (1, 2), (2, 3)):
            # the first and the last symbol also hold bits of the neighbours; the symbols between them are the secret's own
            symbols = b64encode(b"\0" * shift + raw).decode().rstrip("=")[drop:]
            yield symbols if (shift + len(raw)) % 3 == 0 else symbols[:-1]
