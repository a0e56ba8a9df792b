"""A run in one line: size, steps, tokens, tokenizers, time. What the folder does not tell is left out. Ours."""

from __future__ import annotations

import numpy as np

from ernie5.report.html import Html, el
from ernie5.report.read import RunRecord, dig, number


def facts(run: RunRecord) -> list[Html]:
    """The facts, most important first."""
    return [fact for fact in (_model(run), _size(run), _steps(run), _time(run), _tokenizers(run), _origin(run)) if fact is not None]


def _model(run: RunRecord) -> Html | None:
    layers, experts, top_k, dim = (number(dig(run.recipe, f"model.{key}")) for key in ("num_layers", "num_experts", "top_k", "dim"))
    if layers is None or experts is None or top_k is None:
        return None
    width = f", width {dim:.0f}" if dim else ""
    return Html(el("b", f"{layers:.0f} layers × {experts:.0f} experts") + f", top-{top_k:.0f}{width}")


def _size(run: RunRecord) -> Html | None:
    if run.parameters is None:
        return None
    total, active = run.parameters
    return Html(el("b", f"{short(total)} parameters") + f", {short(active)} active per token")


def _steps(run: RunRecord) -> Html | None:
    tokens = number(run.metrics[-1].get("tokens")) if run.metrics else None
    seen = el("b", f"{run.step:,} steps")
    return Html(seen + (f", {short(tokens)} tokens seen" if tokens else ""))


def _time(run: RunRecord) -> Html | None:
    """Time inside training steps, from tokens and speed: it survives resumes and leaves out evaluations and saves."""
    if len(run.metrics) < 2:
        return None
    tokens, speed = np.diff(run.series("tokens"), prepend=0.0), run.series("tokens_per_s")
    fine = np.isfinite(tokens) & np.isfinite(speed) & (speed > 0) & (tokens >= 0)
    seconds = float((tokens[fine] / speed[fine]).sum())
    if seconds <= 0:
        return None
    return Html(f"{duration(seconds)} in training steps at " + el("b", f"{short(float(tokens[fine].sum() / seconds))} tokens/s"))


def _tokenizers(run: RunRecord) -> Html | None:
    settings = dig(run.recipe, "tokenizers")
    if not isinstance(settings, dict):
        return None
    own = settings.get("parts") if isinstance(settings.get("parts"), dict) else {}
    forms = {"text": ("BPE of {}", ("text.vocab_size",)), "vision": ("{} bits", ("vision.bits",)),
             "audio": ("{} × {} codes", ("audio.codec.num_codebooks", "audio.codec.codebook_size"))}
    parts = []
    for kind, (form, keys) in forms.items():
        values = [number(dig(settings, key)) for key in keys]
        if kind in own:
            parts.append(f"{kind} {dig(own, f'{kind}.part')}")
        elif None not in values:
            parts.append(f"{kind} " + form.format(*(f"{value:.0f}" for value in values)) + (_growth(run) if kind == "vision" else ""))
    shared = dig(run.recipe, "run.tokenizers")
    return el("span", "tokenizers: " + ", ".join(parts) + (f" (from {shared})" if shared else "")) if parts else None


def _growth(run: RunRecord) -> str:
    """How many bits were on and when, where they grew."""
    start, stages = number(dig(run.recipe, "train.bits")), dig(run.recipe, "train.stages")
    if start is None or not isinstance(stages, list):
        return ""
    later = [(number(dig(stage, "from_step")), number(dig(stage, "bits"))) for stage in stages]
    told = [f"{start:.0f}", *(f"{bits:.0f} from step {step:,.0f}" for step, bits in later if step is not None and bits is not None)]
    return f" ({', '.join(told)})"


def _origin(run: RunRecord) -> Html | None:
    start = dig(run.recipe, "run.start_from")
    return el("span", f"started from {start}") if start else None


def short(count: float) -> str:
    """6_210_345 -> `6.2 M`."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.1f} {name}" if count < 100 * unit else f"{count / unit:.0f} {name}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """192 -> `3 min 12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
