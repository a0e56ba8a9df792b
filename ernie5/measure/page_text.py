"""The page's section of texts. Ours."""

from __future__ import annotations

from ernie5.measure.page_parts import tiles
from ernie5.measure.text import TextRun
from ernie5.report.html import Html, el, shorten
from ernie5.report.report import together


def text_section(section: dict, run: TextRun) -> Html:
    """Figures, and texts cut into tokens."""
    usage, speed = section["usage"], section["speed"]
    head = tiles([
        (f"{section['tokens_per_byte']:.3f}", "", "tokens per byte"),
        (f"{section['tokens_per_character']:.3f}", "", "tokens per character"),
        (f"{section['exact_share']:.1%}", "", "come back exactly"),
        (f"{usage['used_share']:.1%}", "", f"of {usage['codes']:,} tokens in use"),
        ("–" if section["byte_token_share"] is None else f"{section['byte_token_share']:.2%}", "", "are single bytes"),
        (f"{speed['encode_megabytes_per_s']:.2f}", "MB / s", "encode, 1 thread"),
    ])
    lead = (f"{section['num']:,} texts, {section['bytes']:,} bytes of UTF-8, {section['tokens']:,} tokens. By their frequencies alone "
            f"they would take {section['bits_per_byte']:.2f} bits a byte.")
    inexact = ", ".join(shorten(name, 80) for name in section["inexact"])
    damage = el("p", f"Not exact: {inexact}", class_="note") if inexact else None
    shown = [el("div", el("small", shorten(name, 80)), [el("i", _visible(token)) for token in tokens], class_="card tokens")
             for name, tokens in run.shown]
    return together(el("h2", "Texts"), el("p", lead, class_="lead"), head, damage,
                    el("h3", "tokens", el("small", "a colour a token, the first hundred or so")), el("div", shown, class_="pairs"))


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").replace("\t", "⇥")
