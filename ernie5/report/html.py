"""HTML in which nothing can be forgotten to be escaped: whatever is not `Html` already becomes plain text.

    el("p", "a < b", el("b", "!"), class_="note")   ->   <p class="note">a &lt; b<b>!</b></p>
Ours.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

VOID = {"meta", "img", "br"}


class Html(str):
    """Text that is markup."""

    __slots__ = ()


Child = str | None | Sequence  # a sequence holds children again


def el(tag: str, *children: Child, **attributes: str | float | bool | None) -> Html:
    """One element. `class_` is written `class`, True as a bare attribute; None and False are left out; lists of children are flattened."""
    written = "".join(_attribute(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    if tag in VOID:
        assert not children
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{text(children)}</{tag}>")


def text(child: Child) -> Html:
    """Markup of a child: `Html` as it is, everything else escaped."""
    if child is None:
        return Html("")
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return Html(html.escape(child))
    return Html("".join(text(part) for part in child))


def data_uri(mime: str, data: bytes) -> str:
    """`data:image/png;base64,…`"""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def shorten(line: str, length: int = 300) -> str:
    """At most `length` characters, with an ellipsis where it was cut."""
    return line if len(line) <= length else line[: length - 1] + "…"


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
