"""The figures of `ernie5 tokenizer eval` as a table for the terminal. Ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(result: dict) -> str:
    """One block a kind of media: the tokenizer, its prefixes, the baselines; then use of codes and speed in a line each."""
    blocks = []
    for name in ("image", "video"):
        if section := result.get("vision", {}).get(name):
            blocks.append(_vision(name, section))
    if section := result.get("audio"):
        blocks.append(_audio(section))
    if section := result.get("text"):
        blocks.append(_text(section))
    if rejected := result["rejected"]:
        blocks.append("\n".join([f"{len(rejected)} not measured:", *(f"  {name}: {reason}" for name, reason in rejected[:8])]
                                + ([f"  … and {len(rejected) - 8} more in tokenizer_eval.json"] if len(rejected) > 8 else [])))
    return "\n\n".join(blocks)


def _vision(name: str, section: dict) -> str:
    frechet = section.get("frechet") or {}
    rows = [_picture("tokenizer", section, frechet.get("tokenizer"))]
    rows += [_picture(f"  {row['scales']} of {len(section['after_scales'])} scales", row) for row in section["after_scales"][:-1]]
    rows += [_picture(f"  {row['bits']} of {section['after_bits'][-1]['bits']} bits", row) for row in section["after_bits"][:-1]]
    for baseline, row in sorted(section.get("baselines", {}).items()):
        if baseline != "curves":
            rows.append(_picture(f"{baseline} ({row['num']})" if row["num"] < section["num"] else baseline, row, frechet.get(baseline)))
    used = ", ".join(f"{u['alive_share']:.0%}" for u in section["usage"])
    entropy = ", ".join(f"{u['mean_entropy']:.3f}" for u in section["usage"])
    speed = section["speed"]
    return "\n".join([
        columns([f"{section['num']} {name}s", "bit/pixel", "PSNR dB", "SSIM", "gradient", "Fréchet"], rows),
        f"bits alive, by scale: {used}; entropy of a bit: {entropy}",
        f"speed ({speed['threads']} threads, {speed['device']}): encode {speed['encode_per_s']:.1f}/s "
        f"({speed['encode_megapixels_per_s']:.2f} Mpixel/s), decode {speed['decode_per_s']:.1f}/s ({speed['decode_megapixels_per_s']:.2f})",
        *_features(frechet),
    ])


def _audio(section: dict) -> str:
    frechet = section.get("frechet") or {}
    rows = [_sound("tokenizer", section, frechet.get("tokenizer"))]
    levels = section["after_levels"] or []
    rows += [_sound(f"  {row['levels']} of {len(levels)} levels", row) for row in levels[:-1]]
    rows += [_sound(name, row, frechet.get(name)) for name, row in section.get("baselines", {}).items() if name != "curves"]
    speed, usage = section["speed"], section["usage"]
    used = ", ".join(f"{u['used_share']:.0%}" for u in usage)
    return "\n".join([
        columns([f"{section['num']} sounds", "bit/s", "log-mel", "SI-SDR dB", "STFT", "Fréchet"], rows),
        f"codes in use, by level: {used} of {usage[0]['codes']} in {section['frames']['loud']} loud frames "
        f"(an even codebook: {usage[0]['even_share']:.0%}); normalised entropy: "
        + ", ".join(f"{u['normalised_entropy']:.3f}" for u in usage),
        f"speed ({speed['threads']} threads, {speed['device']}): encode {speed['encode_real_time_factor']:.0f} x real time, "
        f"decode {speed['decode_real_time_factor']:.0f} x",
        *_features(frechet),
    ])


def _text(section: dict) -> str:
    usage, speed = section["usage"], section["speed"]
    byte_share = section["byte_token_share"]
    byte_tokens = shown(None, 0) if byte_share is None else f"{byte_share:.2%}"
    return "\n".join([
        columns([f"{section['num']} texts", "tokens/byte", "tokens/char", "exact", "in use", "byte tokens"],
                [["tokenizer", f"{section['tokens_per_byte']:.4f}", f"{section['tokens_per_character']:.4f}",
                  f"{section['exact_share']:.1%}", f"{usage['used_share']:.1%}", byte_tokens]]),
        f"speed: encode {speed['encode_megabytes_per_s']:.2f} MB/s, decode {speed['decode_megabytes_per_s']:.2f} MB/s",
    ])


def _picture(name: str, row: dict, statistics: float | None = None) -> list[str]:
    return [name, shown(row["bits_per_pixel"], 3), shown(row["psnr_db"], 2), shown(row["ssim"], 3), shown(row["gradient_error"], 2),
            shown(statistics, 1)]


def _sound(name: str, row: dict, statistics: float | None = None) -> list[str]:
    return [name, shown(row["bits_per_second"], 0), shown(row["log_mel_distance"], 3), shown(row["si_sdr_db"], 1),
            shown(row["stft_distance"], 2), shown(statistics, 2)]


def _features(frechet: dict) -> list[str]:
    return [f"Fréchet: of {frechet['rows']} rows of {frechet['dim']} features, {frechet['features']}"] if frechet else []


def shown(value: Any, digits: int) -> str:
    """A figure, `-` where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned names, right-aligned figures."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return "\n".join("  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in (head, *rows))
