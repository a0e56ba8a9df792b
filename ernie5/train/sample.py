"""`ernie5 sample RUN_DIR "a small red circle" --to image --out x.png`: one prompt, one result."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ernie5.data_pipelines.augment import View
from ernie5.data_pipelines.decode_media import decode_member
from ernie5.data_pipelines.media_limits import BadMedia
from ernie5.data_pipelines.speaker import embedded, load_encoder, read_speaker
from ernie5.data_pipelines.write_shards import Member
from ernie5.generate.choose import Sampling
from ernie5.recipe import Recipe
from ernie5.sequence import Modality, Segment
from ernie5.train.load import load_run
from ernie5.train.samples import write_medium


def sample_run(
    run_dir: Path, prompt: str | None, *, image: Path | None, video: Path | None, audio: Path | None, to: str, out: Path | None,
    guidance: float | None, temperature: float | None, seed: int, speaker: Path | None = None,
) -> str:
    """Generate one medium; media come before the text of the prompt. `speaker`: a vector (.npy), or a recording where the run has an
    encoder. Returns the text, or the path written.
    """
    recipe, _, generator, _ = load_run(run_dir)
    modality = Modality(to)
    if guidance not in (None, 1.0) and recipe.data.roles.condition_drop == 0:
        raise ValueError(f"--guidance {guidance} needs a run trained with data.roles.condition_drop > 0; leave it out")
    rate = generator.tokenizers.audio.sample_rate_hz
    files = {Modality.IMAGE: image, Modality.VIDEO: video, Modality.AUDIO: audio}
    segments = [Segment(kind, read_file(path, kind, recipe, rate)) for kind, path in files.items() if path is not None]
    segments += [Segment(Modality.TEXT, prompt)] if prompt else []
    usual = 0.0 if modality is Modality.TEXT else recipe.evaluate.temperature
    strength = 1.0 if modality is Modality.TEXT or not prompt else recipe.evaluate.guidance
    sampling = Sampling(usual if temperature is None else temperature, strength if guidance is None else guidance)
    who = [] if speaker is None else [read_voice(speaker, recipe, rate)]
    (made,) = generator.generate([segments], modality, sampling, seed, speakers=who)
    if isinstance(made, str):
        if out is None:
            return made
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(made + "\n", encoding="utf-8")
        return str(out)
    if modality is Modality.AUDIO and not len(made):
        raise ValueError("the model ended the sound at once; try another --seed or a prompt like those it was trained on")
    assert out is not None
    write_medium(out, made, rate, recipe.data.limits.fps)
    return str(out)


def read_voice(path: Path, recipe: Recipe, sample_rate_hz: int) -> Tensor:
    """Who speaks: the vector of an .npy file, or of a recording by the run's own encoder. ValueError says what is wrong with it."""
    if path.suffix.lower() == ".npy":
        try:
            return read_speaker(path.read_bytes())
        except BadMedia as error:
            raise ValueError(f"{path}: {error}") from None
    encoder = load_encoder(recipe.data.speaker)
    if encoder is None:
        raise ValueError(f"--speaker {path} is no .npy file, and this run has no data.speaker.encoder that hears who speaks")
    return embedded(encoder, read_file(path, Modality.AUDIO, recipe, sample_rate_hz), sample_rate_hz)


def read_file(path: Path, modality: Modality, recipe: Recipe, sample_rate_hz: int) -> str | Tensor:
    """Decode a user's file as one medium of this kind, an image at its own size where the run learnt from such; ValueError says what is
    wrong with it.
    """
    view = View(native=recipe.understanding.unit if recipe.data.native else 0)
    try:
        return decode_member(Member(modality, path.suffix.lstrip("."), path.read_bytes()), recipe.data.limits, sample_rate_hz, view)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
