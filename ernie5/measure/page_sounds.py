"""The page's section of sounds. Ours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ernie5.data_pipelines.synthetic.encode_media import encode_flac
from ernie5.measure.audio import AudioRun, HeardSound
from ernie5.measure.page_parts import COLOURS, NAMES, OURS, Column, Line, Points, figures_table, rate_chart, tiles
from ernie5.measure.page_pictures import threads
from ernie5.measure.scores import sound_row
from ernie5.report.html import Html, data_uri, el, shorten
from ernie5.report.media import spectrogram
from ernie5.report.plots import draw
from ernie5.report.report import together

COLUMNS = (Column("bits_per_second", "bit / s", 0, None), Column("log_mel_distance", "log-mel", 3, False),
           Column("si_sdr_db", "SI-SDR dB", 1, True), Column("stft_distance", "STFT", 2, False), Column("frechet", "Fréchet", 2, False))
SHOWN = 6
COUNTS = (4.6, 2.2)  # inches


def sounds_section(section: dict, run: AudioRun, baselines: Mapping[str, Mapping[str, Tensor]]) -> Html:
    """Figures, charts, codes, pairs."""
    usage, speed, frames = section["usage"], section["speed"], section["frames"]
    head = tiles([
        (f"{section['log_mel_distance']:.3f}", "neper", "log-mel distance"),
        ("–" if section["si_sdr_db"] is None else f"{section['si_sdr_db']:.1f}", "dB", "SI-SDR"),
        (f"{section['bits_per_second']:,.0f}", "bit / s", "rate"),
        (f"{np.mean([u['used_share'] for u in usage]):.0%}", "", "of all codes in use"),
        (f"{speed['encode_real_time_factor']:,.0f}", "× real time", f"encode, {threads(speed)}"),
        (f"{speed['decode_real_time_factor']:,.0f}", "× real time", f"decode, {threads(speed)}"),
    ])
    lead = (f"{section['num']} sounds, {section['seconds']:,.0f} s in all; codes are counted on the {frames['loud']:,} frames above "
            f"{frames['silent_below_db']:g} dB ({frames['silent']:,} are silent).")
    return together(el("h2", "Sounds"), el("p", lead, class_="lead"), head, comparison(section), charts(section), codes(section, run),
                    pairs(run, baselines))


def comparison(section: dict) -> Html:
    """The tokenizer and its levels, then the plain methods."""
    frechet, levels = section.get("frechet") or {}, section["after_levels"] or []
    lines = [Line("this tokenizer", {**section, "frechet": frechet.get("tokenizer")}, "ours")]
    lines += [Line(f"first {row['levels']} of {len(levels)} levels", row, "part") for row in levels[:-1]]
    for name, row in section.get("baselines", {}).items():
        if name != "curves":
            times = row["bits_per_second"] / section["bits_per_second"]
            note = f"asked for {row['asked_bits_per_second']:,} bit/s, {times:.3g} × the tokenizer's rate" if times > 1.15 else ""
            lines.append(Line(NAMES[name], {**row, "frechet": frechet.get(name)}, note=note))
    told = f"Fréchet: {frechet['dim']} features of {frechet['rows']} rows by {frechet['features']}." if frechet else ""
    return together(el("h3", "beside plain methods", el("small", "the lowest setting that is not below the tokenizer's rate")),
                    figures_table(COLUMNS, lines), el("p", told, class_="lead more") if told else None)


def charts(section: dict) -> Html:
    """Distance over rate."""
    levels = section["after_levels"] or [section]
    figures = []
    for measure, name in (("log_mel_distance", "log-mel distance"), ("stft_distance", "STFT distance")):
        methods = [Points("levels", OURS, [(row["bits_per_second"], row[measure]) for row in levels])]
        for codec, curve in section.get("baselines", {}).get("curves", {}).items():
            methods.append(Points(NAMES[codec], COLOURS[codec], [(row["bits_per_second"], row[measure]) for row in curve]))
        figures.append(rate_chart(f"{name} over rate", "lower is better", "bit / s", methods))
    return el("div", figures, class_="charts")


def codes(section: dict, run: AudioRun) -> Html:
    """How many codes of each level occur, and how often the most frequent ones do."""
    rows = []
    for u in section["usage"]:
        rows += [_bar(u["used_share"], u["even_share"]),
                 el("span", el("b", f"level {u['level']}"), f"{u['used_share']:.1%} of {u['codes']:,} in use, {u['dead']:,} dead · "
                    f"perplexity {u['perplexity']:,.0f} · entropy {u['normalised_entropy']:.3f}")]
    even = section["usage"][0]["even_share"]
    told = f"tick: what an even codebook would show after {section['usage'][0]['seen']:,} frames, {even:.0%}"
    figure = el("figure", el("figcaption", el("b", "codes in use"), told), el("div", rows, class_="levels"), class_="card")
    return together(el("h3", "use of codes"), el("div", figure, _ranked(run), class_="charts"))


def _bar(share: float, tick: float) -> Html:
    told = f"{share:.1%} of the codes in use; an even codebook: {tick:.1%}"
    inside = [el("i", class_="got", style=f"left:0;width:{100 * share:.2f}%"), el("i", class_="tick top", style=f"left:{100 * tick:.2f}%")]
    return el("div", inside, class_="bar", role="img", aria_label=told, title=told)


def _ranked(run: AudioRun) -> Html:
    """Share of the frames over the rank of a code, a line a level."""
    import torch

    codes, size = torch.cat(run.codes), run.tokenizer.codebook_size
    shades = np.linspace(1.0, 0.35, run.tokenizer.num_codebooks)

    def paint(axes) -> None:
        for column, shade in zip(codes.unbind(1), shades, strict=True):
            counts = column.bincount(minlength=size).sort(descending=True).values.double()
            axes.plot(np.arange(1, size + 1), (counts / counts.sum().clamp_min(1)).numpy(), color=OURS, alpha=shade, linewidth=1.6)
        axes.axhline(1 / size, color="#7a8490", linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_xlabel("rank of a code")
        axes.set_ylim(bottom=0.3 / max(1, len(codes)))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.3g} %")

    return el("figure", el("figcaption", el("b", "how often each code occurs"), "dark: level 1; dashed: all alike"), draw(paint, COUNTS),
              class_="card")


def pairs(run: AudioRun, baselines: Mapping[str, Mapping[str, Tensor]]) -> Html:
    """Players with spectrograms: original, reconstruction, and the plain methods at their rates."""
    cards = []
    for item in run.done[:: max(1, len(run.done) // SHOWN)][:SHOWN]:
        others = {name: sound for name, sound in baselines.get(item.name, {}).items()}
        cards.append(_pair(item, run.tokenizer.sample_rate_hz, others))
    return together(el("h3", "pairs"), el("div", cards, style="display:grid;gap:14px"))


def _pair(item: HeardSound, rate_hz: int, others: Mapping[str, Tensor]) -> Html:
    ears = [_ear(item.original, rate_hz, f"original of {item.name}", el("b", "original")),
            _ear(item.decoded, rate_hz, f"reconstruction of {item.name}", el("b", "this tokenizer"),
                 f" {item.row['bits_per_second']:,.0f} bit/s, log-mel {item.row['log_mel_distance']:.3f}")]
    for name, sound in others.items():
        told = f" log-mel {sound_row(item.original, sound, rate_hz, 0)['log_mel_distance']:.3f}"
        ears.append(_ear(sound, rate_hz, f"{NAMES[name]} of {item.name}", el("b", NAMES[name]), told))
    head = el("header", el("b", shorten(item.name, 70)), el("span", f"{len(item.original) / rate_hz:.2f} s"))
    return el("article", head, el("div", ears, class_="ears"), class_="card pair")


def _ear(sound: Tensor, rate_hz: int, alt: str, *caption: Html | str) -> Html:
    picture = data_uri("image/png", spectrogram(sound.numpy(), rate_hz))
    player = el("audio", src=data_uri("audio/flac", encode_flac(sound, rate_hz)), controls=True, preload="metadata", aria_label=alt)
    return el("div", el("img", src=picture, alt=f"spectrogram, {alt}"), player, el("span", caption), class_="ear")
