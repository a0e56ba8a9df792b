"""Which parts of a stored sample become its segments, and in which order: `data.sources.NAME.fields`.

    txt                   the member KEY.txt, a text by its ending          jpg|png|webp     the first of these that is there
    json:caption          the text at this key of KEY.json (json:meta.title: inside a map; info.json:x: of KEY.info.json)
    json:captions[]       every text of the list at this key, each a segment (json:[]: the JSON is the list)
    text=caption          KEY.caption, whose ending says nothing, is a text (also image=, video=, audio=)
    body, meta.body       in JSONL and Parquet: the text at this key or in this column

A sample that lacks one of them is refused: half a sample would teach something that nobody wrote.
Ours: the notation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ernie5.data_pipelines.source import Attributes
from ernie5.data_pipelines.write_shards import MODALITY_OF_EXTENSION, Member, speaker_of
from ernie5.sequence import Modality

LIST = "[]"
_KINDS = {m.value: m for m in Modality}


@dataclass(frozen=True)
class Field:
    """One segment: the names of members that may hold it, and where `key` is given, the place of a text inside a JSON member."""

    names: tuple[str, ...]
    modality: Modality
    key: str = ""

    def members(self, data: Mapping[str, bytes], parsed: Mapping[str, object]) -> tuple[Member, ...]:
        """The segment of one sample, or those of a list of texts. ValueError when the sample lacks it."""
        name = next((n for n in self.names if n in data), None)
        if name is None:
            raise ValueError(f"it has no member {' or '.join(self.names)}; it has {', '.join(data) or 'none'}")
        if not self.key:
            ending = "txt" if self.modality == Modality.TEXT else name.rpartition(".")[2]
            return (Member(self.modality, ending, data[name], speaker_of(name, data) if self.modality == Modality.AUDIO else None),)
        if not self.key.endswith(LIST):
            return (text_member(parsed[name], self.key),)
        key = self.key.removesuffix(LIST)
        texts = _at(parsed[name], key) if key else parsed[name]
        if not isinstance(texts, list) or not texts:
            raise ValueError(f"its {key or name} is no list of texts, or an empty one")
        return tuple(text_member({f"{key}[{i}]": text}, f"{key}[{i}]") for i, text in enumerate(texts))


def parse_fields(source: str, fields: Sequence[str]) -> tuple[Field, ...]:
    """The fields of a source of shards. ValueError naming the one that cannot be."""
    return tuple(_parse(f"data.sources.{source}.fields[{i}] = {text!r}", text) for i, text in enumerate(fields))


def text_keys(source: str, fields: Sequence[str]) -> tuple[str, ...]:
    """The keys or columns of a source of texts; `text` where none is named."""
    for i, text in enumerate(fields):
        kind, equals, _ = text.rpartition("=")
        if not text or (equals and kind != "text"):
            raise ValueError(f"data.sources.{source}.fields[{i}] = {text!r} must name the key of a text: only texts come out of such files")
    return tuple(text.removeprefix("text=") for text in fields) or ("text",)


def text_member(found: object, key: str) -> Member:
    """The text at `key` of a JSON value: at the key itself, or down its dots. ValueError when there is none."""
    value = _at(found, key)
    if not isinstance(value, str):
        keys = ", ".join(list(map(str, found))[:8])[:120] if isinstance(found, dict) else ""
        what = f"a {type(value).__name__}, not a text" if value is not None else f"missing; there is {keys or 'nothing'}"
        raise ValueError(f"its {key} is {what}")
    try:
        return Member(Modality.TEXT, "txt", value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"its {key} holds half of a character (a lone surrogate)") from None


def _at(found: object, key: str) -> object:
    """The value at a key of a JSON map: at the key itself, or down its dots; None when there is none."""
    if isinstance(found, dict) and key in found:
        return found[key]
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def scalars(found: object, without: Sequence[str] = ()) -> Attributes:
    """What can be an attribute of a sample: the plain values of a JSON map."""
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, (str, int, float, bool, type(None))) and k not in without}


def read_json(data: bytes, what: str) -> object:
    """JSON of strangers. ValueError, short, for whatever is wrong with it."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError(f"{what} is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{what} is no JSON: {str(error)[:120]}") from None


def _parse(where: str, text: str) -> Field:
    kind, equals, place = text.rpartition("=")
    names, colon, key = place.partition(":")
    found = tuple(names.lower().split("|"))
    if not all(found) or (colon and not key) or any(n.startswith(".") for n in found):
        raise ValueError(f"{where} must be a member's ending (txt, jpg|png) or a text inside JSON (json:caption)")
    if equals and kind not in _KINDS:
        raise ValueError(f"{where}: {kind!r} is no kind of medium; use {', '.join(_KINDS)}")
    if colon:
        if not all(n.rpartition(".")[2] == "json" for n in found) or kind not in ("", "text"):
            raise ValueError(f"{where}: only texts are read from inside a member, and only from JSON: json:{key}")
        return Field(found, Modality.TEXT, key)
    by_ending = {MODALITY_OF_EXTENSION.get(n.rpartition(".")[2]) for n in found}
    if equals:
        told = {m for m in by_ending if m is not None} - {_KINDS[kind]}
        if told:
            raise ValueError(f"{where} says {kind}, the ending says {told.pop().value}; take {kind}= away or name another member")
        return Field(found, _KINDS[kind])
    if len(by_ending) > 1 or None in by_ending:
        raise ValueError(f"{where}: the ending does not say which medium this is; write text={place}, image={place}, video={place} "
                         f"or audio={place}" + (f", or {place}:KEY for a text inside it" if found == ("json",) else ""))
    return Field(found, by_ending.pop())  # type: ignore[arg-type]
