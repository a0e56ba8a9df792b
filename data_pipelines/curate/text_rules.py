"""Rules about the text of one sample: how long it is, and in which language.

A rule looks at "all" samples with text, at "documents" (samples of text only) or at "captions" (texts beside media).
The language is py3langid's guess (97 languages; its model ships inside its wheel): `pip install 'ernie5[curate]'`.
Ours: all of it; the report only says that its data is filtered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from ernie5.data_pipelines.curate.hashing import normalise
from ernie5.data_pipelines.curate.view import Reject, Scope, View
from ernie5.tokenizers.text import Utf16Tokenizer


@dataclass(frozen=True)
class Length:
    """Least and most characters, words and tokens of a sample's text, both included; null = no limit.

    `tokenizer`: the folder of a text tokenizer, needed for tokens. `required`: whether a sample without text is rejected.
    """

    of: Scope = "all"
    min_characters: int | None = None
    max_characters: int | None = None
    min_words: int | None = None
    max_words: int | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None
    tokenizer: str = ""
    required: bool = False

    def __post_init__(self) -> None:
        limits = [(u, getattr(self, f"min_{u}"), getattr(self, f"max_{u}")) for u in ("characters", "words", "tokens")]
        for unit, least, most in limits:
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{unit} = {least} is above max_{unit} = {most}; nothing could pass")
        if not self.required and all(bound is None for _, *bounds in limits for bound in bounds):
            raise ValueError("it sets no limit; give at least one, for example min_words: 5")
        if (limits[2][1:] != (None, None)) != bool(self.tokenizer):
            raise ValueError("min_tokens and max_tokens need tokenizer (a folder that `ernie5 tokenizer train` wrote), and it needs them")


@dataclass(frozen=True)
class Language:
    """Keeps texts in these languages (ISO 639-1: en, zh, de …), guessed with at least `min_probability`.

    Texts under `min_characters` pass: nobody can tell the language of two words.
    """

    keep: tuple[str, ...]
    of: Scope = "all"
    min_probability: float = 0.5
    min_characters: int = 20

    def __post_init__(self) -> None:
        if not self.keep:
            raise ValueError("keep is empty, so nothing could pass; list languages, for example [en, de]")
        if not 0 <= self.min_probability <= 1:
            raise ValueError(f"min_probability = {self.min_probability} must be 0 to 1")


def check_length(view: View, rule: Length) -> Reject | None:
    """None when the text is within the limits."""
    if not view.in_scope(rule.of):
        return None
    if not view.text:
        return Reject("no text") if rule.required else None
    return (_outside("characters", len(view.text), rule.min_characters, rule.max_characters)
            or _outside("words", len(view.words), rule.min_words, rule.max_words)
            or (_outside("tokens", len(text_tokenizer(rule.tokenizer).encode(view.text)), rule.min_tokens, rule.max_tokens)
                if rule.tokenizer else None))


def check_language(view: View, rule: Language) -> Reject | None:
    """None when the text is in one of the languages, or too short to tell."""
    if not view.in_scope(rule.of) or len(view.text.strip()) < rule.min_characters:
        return None
    language, probability = identifier().classify(normalise(view.text))
    if language not in rule.keep:
        return Reject("other language", f"{language} {probability:.2f}")
    return Reject("unsure language", f"{language} {probability:.2f}") if probability < rule.min_probability else None


def check_languages_known(rule: Language) -> None:
    """ValueError when py3langid is missing or does not know one of the languages."""
    known = set(identifier().nb_classes)
    strangers = [language for language in rule.keep if language not in known]
    if strangers:
        raise ValueError(f"keep: {strangers[0]!r} is no language that py3langid knows; use two letters of {', '.join(sorted(known))}")


@cache
def text_tokenizer(folder: str) -> Utf16Tokenizer:
    """The tokenizer in a folder, loaded once in a process. ValueError when there is none."""
    return Utf16Tokenizer.load(folder)


@cache
def identifier() -> Any:
    """The language model, loaded once in a process (0.4 s)."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise ValueError("the language step needs py3langid; pip install 'ernie5[curate]'") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _outside(unit: str, count: int, least: int | None, most: int | None) -> Reject | None:
    if least is not None and count < least:
        return Reject(f"too few {unit}", count)
    return Reject(f"too many {unit}", count) if most is not None and count > most else None
