"""`tokenizer_eval.html`: what the tokenizers keep, at which rate, beside plain methods; everything in one file, no script, no network.

    vision: figures · rate and distortion · codes · pairs       audio: the same with players       text: figures · tokens       what failed
Ours.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from ernie5.measure.look import LOOK
from ernie5.measure.page_pictures import pictures_section
from ernie5.measure.page_sounds import sounds_section
from ernie5.measure.page_text import text_section
from ernie5.measure.run_eval import PAGE, RESULT, Measured
from ernie5.report.html import Html, el, shorten
from ernie5.report.report import POLICY, together
from ernie5.report.style import STYLE
from ernie5.run.files import atomic_write

SHOWN_REJECTS = 40
DEFINITIONS = (
    ("PSNR", "10 log10(255² / mean squared error), mean over pictures."),
    ("SSIM", "structural similarity (Wang 2004): 11 × 11 Gaussian windows, mean of R, G and B. 1 = equal."),
    ("gradient", "mean absolute error of neighbour differences at resolutions 1, ½, ¼, in grey levels."),
    ("log-mel", "mean |Δ log(1 + mel / 0.1)| of 80 bands, in nepers. 0 = equal."),
    ("SI-SDR", "signal over error after the best scaling, in dB. It asks for the waveform itself: codecs that make up the phase are "
               "low however they sound."),
    ("STFT", "spectral convergence + log-magnitude distance, mean over windows of 32, 64 and 128 ms."),
    ("Fréchet", "distance of Gaussians fitted to features of originals and reconstructions. Without features of your own it sees colour, "
                "contrast and timbre only, and is neither FID nor FAD."),
    ("JPEG, WebP", "the best quality whose picture data fits the bits that the tokenizer spent on the same picture; headers and tables "
                   "are not counted. “small”: shrunk before and enlarged after, the best of all sizes."),
    ("H.264", "x264's slowest usual tools, slices only: parameter sets are not counted."),
    ("PCA", "of pixel blocks as large as the stride, coefficients quantized to the bits that the tokenizer spends on a block, fitted on "
            "other pictures."),
    ("Opus, MP3", "packets of FFmpeg's encoders, containers not counted; the lowest setting that is not below the tokenizer's rate."),
    ("alive", "a bit whose entropy is at least 0.8."),
)


def write_page(measured: Measured, out: Path) -> Path:
    """Write the page into the folder `out` and return its path."""
    result = measured.result
    vision, audio, text = (result.get(kind) for kind in ("vision", "audio", "text"))
    sections = [
        header(result),
        *(pictures_section({"image": "Pictures", "video": "Clips"}[name], vision[name], run, measured.pictures_of)
          for name, run in measured.vision.items()),
        sounds_section(audio, measured.sounds, measured.sounds_of) if measured.sounds and audio else None,
        text_section(text, measured.texts) if measured.texts and text else None,
        rejected(result),
        footer(result),
    ]
    title = f"{Path(result['tokenizers']).name} – tokenizers"
    head = el("head", el("meta", charset="utf-8"), el("meta", name="viewport", content="width=device-width, initial-scale=1"),
              el("meta", http_equiv="Content-Security-Policy", content=POLICY), el("title", title), el("style", Html(STYLE + LOOK)))
    page = "<!doctype html>\n" + el("html", head, el("body", el("main", together(*sections))), lang="en")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / PAGE, page.encode("utf-8", errors="replace"))
    return out / PAGE


def header(result: dict) -> Html:
    """What was measured on what, and the command that does it again."""
    num_rejected = len(result["rejected"])
    state = "all media measured" if not num_rejected else f"{num_rejected} not measured"
    facts = []
    if vision := result.get("vision"):
        told = f"{vision['bits']} bits a cell, stride {vision['stride']}"
        facts.append(el("span", el("b", "vision "), f"{told}, {vision['fingerprint'] or 'no fingerprint'}"))
    if audio := result.get("audio"):
        told = f"{audio['num_codebooks']} × {audio['codebook_size']} codes at {audio['frame_rate_hz']:g} Hz, {audio['sample_rate_hz']:,} Hz"
        facts.append(el("span", el("b", "audio "), f"{told}, {audio['fingerprint'] or 'no fingerprint'}"))
    if text := result.get("text"):
        facts.append(el("span", el("b", "text "), f"{text['vocab_size']:,} tokens, {text['fingerprint'] or 'no fingerprint'}"))
    command = el("div", el("span", "the same again"), el("code", shlex.join(result["command"])), el("span", "media"),
                 el("code", result["media"]), class_="commands")
    title = Path(result["tokenizers"]).resolve()
    name = title.parent.parent.name + " / " + title.name if title.parent.name == "tokenizers" else title.name
    return together(el("h1", name, el("span", state, class_="state open" if num_rejected else "state")),
                    el("p", facts, class_="facts"), command)


def rejected(result: dict) -> Html | None:
    """Media that could not be used, with the reason; None when there were none."""
    listed = result["rejected"]
    if not listed:
        return None
    rows = [el("li", el("code", shorten(name, 120)), f" {shorten(reason)}") for name, reason in listed[:SHOWN_REJECTS]]
    more = el("p", f"{len(listed) - SHOWN_REJECTS} more in {RESULT}.", class_="lead") if len(listed) > SHOWN_REJECTS else None
    return together(el("h2", "Not measured"), el("ul", rows, class_="rejects"), more)


def footer(result: dict) -> Html:
    """What the words mean, and under which settings."""
    meanings = el("dl", [(el("dt", name), el("dd", told)) for name, told in DEFINITIONS])
    words = el("details", el("summary", "what the figures mean"), meanings)
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items() if value is not None)
    return el("footer", words, el("p", settings))
