"""The text tokenizer beside a plain sentencepiece BPE: tokens per byte in 18 scripts, speed, dropout, what pruning costs.

    for p in libreoffice-help-{en-us,ru,el,hi,ja,km,ko,zh-cn,zh-tw,de} gnome-user-docs \\
             libreoffice-l10n-{ar,he,th,ka,ta,fa,uk,bn,te,am,ja,zh-cn,ko,hi,el,ru,km,bg,de,si,dz,ug}; do apt-get download $p; done
    for f in *.deb; do dpkg -x $f unpacked; done
    OMP_NUM_THREADS=1 python docs/benchmarks/text_tokenizer.py unpacked [--vocab-size 16000] [--max-run-chars 24] \\
            [--prune [module:callable]] [--speed]

Real text: the help pages and messages of LibreOffice and GNOME as Debian packages them. Per script 100 kB are held out and up to 1.2 MB
trained on; both tokenizers get the same texts and the same number of ids. Plain = sentencepiece BPE with byte_fallback, character_coverage
0.9995, and nothing that would lose characters (identity normalisation, spaces kept); else its defaults. All text must come back exactly.
`--speed`: MB/s of UTF-8, the best of five rounds in which all take turns.
"""

from __future__ import annotations

import argparse
import gettext
import html
import io
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sentencepiece

from ernie5.run.random_streams import stream
from ernie5.tokenizers.text import Utf16Tokenizer
from ernie5.tokenizers.text_counting import count_words
from ernie5.tokenizers.text_pruning import phrase_of
from ernie5.tokenizers.text_training import MAX_TOKEN_CHARS, TextTraining, train_on_counts

SCRIPTS = {"Latin": ["en-US", "de"], "Cyrillic": ["ru", "uk", "bg"], "Greek": ["el"], "Arabic": ["ar", "fa", "ug"], "Hebrew": ["he"],
           "Devanagari": ["hi"], "Bengali": ["bn"], "Tamil": ["ta"], "Telugu": ["te"], "Sinhala": ["si"], "Thai": ["th"], "Khmer": ["km"],
           "Tibetan": ["dz"], "Ethiopic": ["am"], "Georgian": ["ka"], "Han": ["zh-CN", "zh-TW", "zh_CN"], "Kana": ["ja"], "Hangul": ["ko"]}
HELD_OUT_BYTES, TRAIN_BYTES = 100_000, 1_200_000
PARAGRAPHS = {".html": r"<(?:p|h\d|td|li)[^>]*>(.*?)</(?:p|h\d|td|li)>", ".page": r"<(?:p|title)[^>]*>(.*?)</(?:p|title)>"}


def texts_of(folder: Path, language: str) -> Iterator[str]:
    """Messages and paragraphs of one language."""
    for file in sorted((folder / "usr/lib/libreoffice/program/resource" / language.replace("-", "_")).rglob("*.mo")):
        with file.open("rb") as data:
            catalog = gettext.GNUTranslations(data)._catalog  # type: ignore[attr-defined]
        yield from (text for key, text in catalog.items() if key and isinstance(text, str))
    for place in ("usr/share/libreoffice/help", "usr/share/help"):
        for file in sorted((folder / place / language).rglob("*")):
            if file.suffix in PARAGRAPHS:
                page = file.read_text("utf-8", "replace").partition('<div id="DisplayArea"')
                page_text = re.sub(r"<(script|style).*?</\1>", "", page[2] or page[0], flags=re.S)
                for paragraph in re.findall(PARAGRAPHS[file.suffix], page_text, re.S):
                    yield " ".join(html.unescape(re.sub(r"<[^>]*>", "", paragraph)).split())


def corpus_of(folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Script -> texts to train on, texts held out; no text twice."""
    found = {}
    for script, languages in SCRIPTS.items():
        texts = list(dict.fromkeys(text for language in languages for text in texts_of(folder, language) if len(text) > 1))
        if script != "Latin":  # untranslated texts
            texts = [text for text in texts if sum(ord(c) > 0x2FF for c in text) > len(text) / 4]
        stream(0, "order", script).shuffle(texts)
        train, held_out, size = [], [], 0
        for text in texts:
            (held_out if size < HELD_OUT_BYTES else train).append(text)
            size += len(text.encode())
            if size > HELD_OUT_BYTES + TRAIN_BYTES:
                break
        found[script] = train, held_out
    return found


def train_plain(texts: list[str], vocab_size: int) -> sentencepiece.SentencePieceProcessor:
    """sentencepiece's own BPE over characters."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in texts for line in text.split("\n")), model_writer=model, model_type="bpe",
        vocab_size=vocab_size, byte_fallback=True, character_coverage=0.9995, normalization_rule_name="identity", add_dummy_prefix=False,
        remove_extra_whitespaces=False, max_sentence_length=2**20, num_threads=1, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def size_of(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def compare(corpus: dict[str, tuple[list[str], list[str]]], ours: Utf16Tokenizer, others: dict[str, Callable[[str], int]]) -> None:
    """Tokens per byte of the texts held out: ours, and the ratio of ours to each of the others."""
    print(f"{'':11}  ours   " + "".join(f"{name:>24}" for name in others))
    for script, (_, texts) in corpus.items():
        own = sum(len(ours.encode(text)) for text in texts)
        size, rest = size_of(texts), [sum(map(other, texts)) for other in others.values()]
        print(f"{script:11} {own / size:.4f}  " + "".join(f"{n / size:16.4f} ({own / n:.3f})" for n in rest), flush=True)


def speed(corpus: dict[str, tuple[list[str], list[str]]], ours: Utf16Tokenizer, plain: sentencepiece.SentencePieceProcessor) -> None:
    """MB/s of both, by script."""
    print(f"{'MB/s':11}{'encode':>8} / plain{'dropout 0.1':>14} / plain{'decode':>9} / plain")
    for script, (_, texts) in corpus.items():
        ids, plain_ids = [ours.encode(text) for text in texts], [plain.encode(text) for text in texts]
        plain_dropout = lambda text: plain.encode(text, enable_sampling=True, alpha=0.1, nbest_size=-1)  # noqa: E731
        jobs: list[tuple[Callable, list]] = [
            (ours.encode, texts), (plain.encode, texts), (lambda text: ours.encode(text, 0.1, 1), texts), (plain_dropout, texts),
            (ours.decode, ids), (plain.decode, plain_ids)]
        best = [float("inf")] * len(jobs)
        for _ in range(5):
            for number, (job, items) in enumerate(jobs):
                start = time.perf_counter()
                for item in items:
                    job(item)
                best[number] = min(best[number], time.perf_counter() - start)
        a, b, c, d, e, f = (size_of(texts) / 1e6 / seconds for seconds in best)
        print(f"{script:11}{a:8.1f} / {b:5.1f}{c:14.2f} / {d:5.1f}{e:9.1f} / {f:5.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vocab-size", type=int, default=16_000)
    parser.add_argument("--max-run-chars", type=int, default=MAX_TOKEN_CHARS)
    parser.add_argument("--prune", nargs="?", const="", metavar="SEGMENTER")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    corpus = corpus_of(args.folder)
    texts = [text for train, _ in corpus.values() for text in train]
    print(f"{len(texts):,} texts, {size_of(texts) / 1e6:.1f} MB; vocabulary {args.vocab_size}", flush=True)
    start = time.perf_counter()
    counts = count_words(texts, args.max_run_chars, 2_000_000)
    ours = train_on_counts(counts, args.vocab_size, TextTraining())
    middle = time.perf_counter()
    plain = train_plain(texts, args.vocab_size)
    print(f"training: ours {middle - start:.0f} s, plain {time.perf_counter() - middle:.0f} s; "
          f"{ours.vocab_size} and {plain.vocab_size()} ids")
    others: dict[str, Callable[[str], int]] = {"plain": lambda text: len(plain.encode(text)),
                                               "ours, dropout 0.1": lambda text: len(ours.encode(text, 0.1, len(text)))}
    if args.prune is not None:
        pruned = train_on_counts(counts, args.vocab_size, TextTraining(prune=True, segmenter=args.prune or None))
        gone = set(ours.piece_bytes) - set(pruned.piece_bytes)
        phrases = (sum(phrase_of(piece) is not None for piece in tokenizer.piece_bytes) for tokenizer in (ours, pruned))
        print(f"pruned: {len(gone)} tokens gone, others instead; unspaced tokens of 4 units and more: {' -> '.join(map(str, phrases))}")
        others["pruned"] = lambda text: len(pruned.encode(text))
    compare(corpus, ours, others)
    wrong = [text for pair in corpus.values() for part in pair for text in part if ours.decode(ours.encode(text)) != text]
    print(f"texts that do not come back exactly: {len(wrong)} of {sum(len(a) + len(b) for a, b in corpus.values()):,}")
    if args.speed:
        speed(corpus, ours, plain)


if __name__ == "__main__":
    main()
