"""The page's sections of pictures and clips. Ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ernie5.data_pipelines.synthetic.encode_media import encode_mp4
from ernie5.measure.page_parts import (
    COLOURS,
    NAMES,
    OURS,
    Column,
    Line,
    Points,
    figures_table,
    heat,
    picture_uri,
    prefix_chart,
    rate_chart,
    tiles,
)
from ernie5.measure.picture_distance import psnr
from ernie5.measure.vision import Reconstruction, VisionRun
from ernie5.report.html import Html, data_uri, el, shorten
from ernie5.report.report import together

COLUMNS = (Column("bits_per_pixel", "bit / pixel", 3, None), Column("psnr_db", "PSNR dB", 2, True), Column("ssim", "SSIM", 3, True),
           Column("gradient_error", "gradient", 2, False), Column("frechet", "Fréchet", 1, False))
SMALL, STRIP = 128, 192  # pixels: below, pixels are shown as squares; the longest side in a strip
SHOWN_FPS = 8


def pictures_section(title: str, section: dict, run: VisionRun, baselines: Mapping[str, Mapping[str, Tensor]]) -> Html:
    """Figures, charts, codes, pairs."""
    usage, speed = section["usage"], section["speed"]
    alive = float(np.average([u["alive_share"] for u in usage]))
    head = tiles([
        (f"{section['psnr_db']:.2f}", "dB", "PSNR"), ("–" if section["ssim"] is None else f"{section['ssim']:.3f}", "", "SSIM"),
        (f"{section['bits_per_pixel']:.3f}", "bit / pixel", "rate"), (f"{alive:.0%}", "", "of all bits alive"),
        (f"{speed['encode_megapixels_per_s']:.2f}", "Mpixel / s", f"encode, {threads(speed)}"),
        (f"{speed['decode_megapixels_per_s']:.2f}", "Mpixel / s", f"decode, {threads(speed)}"),
    ])
    lead = f"{section['num']} {title.lower()} through encoder, bits and decoder, each by itself."
    return together(el("h2", title), el("p", lead, class_="lead"), head, comparison(section), charts(section), codes(usage),
                    pairs(run, baselines))


def threads(speed: dict) -> str:
    """`1 thread`, `2 threads`, or the device."""
    if speed["device"] != "cpu":
        return speed["device"]
    return f"{speed['threads']} thread{'s' * (speed['threads'] != 1)}"


def comparison(section: dict) -> Html:
    """The tokenizer and its scales, then the plain methods."""
    frechet = section.get("frechet") or {}
    lines = [Line("this tokenizer", {**section, "frechet": frechet.get("tokenizer")}, "ours")]
    after = section["after_scales"]
    lines += [Line(f"first {row['scales']} of {len(after)} scales", row, "part") for row in after[:-1]]
    baselines = section.get("baselines", {})
    for name in [n for n in NAMES if n in baselines]:
        row = baselines[name]
        lines.append(Line(NAMES[name], {**row, "frechet": frechet.get(name)}, note=_note(name, row, section)))
    told = f"Fréchet: {frechet['dim']} features of {frechet['rows']} rows by {frechet['features']}." if frechet else ""
    title = el("h3", "beside plain methods", el("small", "at the bits that the tokenizer spent on each medium"))
    return together(title if "baselines" in section else el("h3", "scale by scale"),
                    figures_table(COLUMNS, lines), el("p", told, class_="lead more") if told else None)


def _note(name: str, row: dict, section: dict) -> str:
    if row["num"] < section["num"]:
        return f"only {row['num']} of {section['num']} fit the rate; this tokenizer on them: {row['tokenizer']['psnr_db']:.2f} dB"
    if name.endswith("_lowest"):
        return f"lowest quality, at {row['bits_per_pixel'] / section['bits_per_pixel']:.2f} × the rate"
    return ""


def charts(section: dict) -> Html:
    """Rate and distortion with the baselines; distortion after bit widths."""
    after, baselines = section["after_scales"], section.get("baselines", {})
    figures = []
    for measure, name, more in (("psnr_db", "PSNR", "dB, higher is better"), ("ssim", "SSIM", "higher is better")):
        methods = [Points("scales", OURS, [(row["bits_per_pixel"], row[measure]) for row in after])]
        for codec, curve in baselines.get("curves", {}).items():
            methods.append(Points(NAMES[codec], COLOURS[codec], [(row["bits_per_pixel"], row[measure]) for row in curve]))
        for small, marker in (("jpeg_small", "D"), ("webp_small", "D"), ("pca", "s"), ("h264_small", "D")):
            if small in baselines:
                row = baselines[small]
                colour = COLOURS[small.removesuffix("_small")]
                methods.append(Points(NAMES[small], colour, [(row["bits_per_pixel"], row[measure])], joined=False, marker=marker))
        if any(y is not None for _, y in methods[0].at):
            figures.append(rate_chart(f"{name} over rate", more, "bit / pixel", methods))
    names = [str(row["bits"]) for row in section["after_bits"]]
    figures.append(prefix_chart("PSNR after the first bits", "dB, of every scale", "bits a cell", names,
                                [row["psnr_db"] for row in section["after_bits"]]))
    figures.append(prefix_chart("error of gradients after the first scales", "grey levels, lower is better", "scales",
                                [str(row["scales"]) for row in after], [row["gradient_error"] for row in after]))
    return el("div", figures, class_="charts")


def codes(usage: Sequence[dict]) -> Html:
    """The entropy of every bit of every scale, and how many combinations occur."""
    picture = heat(np.array([u["bit_entropy"] for u in usage]))
    names = el("div", [el("span", f"scale {u['scale']}, {_cells(u['cells'])}") for u in usage])
    right = el("div", [el("span", f"{u['alive_share']:.0%} alive, {u['mean_entropy']:.3f} bit" + _joint(u["joint"])) for u in usage],
               class_="right")
    told = "; ".join(f"scale {u['scale']}: {u['mean_entropy']:.3f} bit" for u in usage)
    ramp = el("div", "0 bit: always the same", el("img", src=heat(np.linspace(0, 1, 64)[None]), alt="colour scale"),
              "1 bit: as often 1 as 0. “Used”: of all combinations of the bits, or of as many as there are positions.", class_="scale")
    figure = el("figure", el("figcaption", el("b", "entropy of every bit"), "a column is a bit"), el("div", names, el(
        "img", src=picture, alt=told, title=told, style=f"height:{22 * len(usage)}px"), right, class_="heat"), ramp, class_="card used")
    return together(el("h3", "use of codes"), figure)


def _cells(cells: list) -> str:
    first = f"{cells[0][0]} × {cells[0][1]}"
    return first if len(cells) == 1 else f"{first} … {cells[-1][0]} × {cells[-1][1]}"


def _joint(joint: dict | None) -> str:
    if joint is None:
        return ""
    used = round(joint["used_share"] * joint["codes"])
    return f", {used / min(joint['codes'], joint['seen']):.0%} used ({used:,} codes)"


def pairs(run: VisionRun, baselines: Mapping[str, Mapping[str, Tensor]]) -> Html:
    """Original and reconstruction side by side, with what JPEG makes of it, and the way there scale by scale."""
    shown = [r for r in run.done if r.after_scales]
    small = all(max(r.original.shape[-2:]) <= SMALL for r in shown)
    lead = "Click a picture to enlarge it, click again elsewhere to leave." if len(run.done[0].original) == 1 \
        else "Clips play in a loop; below, the last frame after each scale."
    return together(el("h3", "pairs", el("small", lead)),
                    el("div", [_pair(r, baselines.get(r.name, {})) for r in shown], class_="pairs small" if small else "pairs"))


def _pair(item: Reconstruction, others: Mapping[str, Tensor]) -> Html:
    t, _, h, w = item.original.shape
    views = [_view(item.original, f"original of {item.name}", el("b", "original"), f" {w} × {h}" + (f" × {t}" if t > 1 else "")),
             _view(item.decoded, f"reconstruction of {item.name}", el("b", "this tokenizer"), f" {item.row['psnr_db']:.2f} dB")]
    for baseline, name in (("jpeg_small", "JPEG"), ("h264_small", "H.264")):
        if baseline in others:
            told = f" {psnr(item.original, others[baseline]):.2f} dB, same bits"
            views.append(_view(others[baseline], f"{name} of {item.name}", el("b", name), told))
    strip = [el("div", el("img", src=picture_uri(after[-1], exact=False, longest=STRIP), alt=f"after {k + 1} scales of {item.name}"),
                el("span", f"{row['psnr_db']:.1f} dB"), class_="step")
             for k, (after, row) in enumerate(zip(item.after_scales, item.scale_rows, strict=True))]
    head = el("header", el("b", shorten(item.name, 70)), el("span", f"{item.row['bits_per_pixel']:.3f} bit / pixel, {item.bits:,} bits"))
    pixelated = " pixelated" if max(h, w) <= SMALL else ""
    return el("article", head, el("div", views, class_="views"), el("div", strip, class_="strip"), class_=f"card pair{pixelated}")


def _view(medium: Tensor, alt: str, *caption: Html | str) -> Html:
    if len(medium) == 1:
        return el("div", el("img", src=picture_uri(medium[0]), alt=alt), el("span", caption), class_="view", tabindex=0)
    clip = data_uri("video/mp4", encode_mp4(medium, SHOWN_FPS))
    return el("div", el("video", src=clip, aria_label=alt, autoplay=True, loop=True, muted=True, playsinline=True), el("span", caption),
              class_="view")
