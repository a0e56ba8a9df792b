"""Runs with a speaker slot: training on shards with vectors, evaluation, the sample command with a vector and with a recording."""

import io

import numpy as np
import pytest
import soundfile
import torch
from micro_run import micro_recipe, run_micro

from ernie5.cli.main import main
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.generate.generator import Generator
from ernie5.sequence import Modality
from ernie5.train.evaluate import evaluate_run


class Pitch:
    """Who speaks, by the mean, the size and the changes of a wave."""

    dim = 3

    @classmethod
    def load(cls, folder):
        return cls()

    def embed(self, wave, sample_rate_hz):
        return torch.stack([wave.mean() + 0.1, wave.abs().mean(), wave.diff().abs().mean()])


def wav(hertz: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * hertz * np.arange(16000) / 16000), 16000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def npy(values) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values, np.float32))
    return file.getvalue()


@pytest.fixture(scope="module")
def voices(micro, tmp_path_factory):
    """A run on sounds with a vector each, and on pairs of recordings whose vectors the encoder finds."""
    folder = tmp_path_factory.mktemp("voices")
    with ShardWriter(folder / "known", "known") as writer:
        for i in range(8):
            sound = Member(Modality.AUDIO, "wav", wav(200 + 50 * i), npy([i, 1, 2] if i else [1, 2]))  # the first is too short
            writer.write(str(i), (Member(Modality.TEXT, "txt", b"a sound"), sound), {"kind": "audio"})
    with ShardWriter(folder / "pairs", "pairs") as writer:
        for i in range(6):
            writer.write(str(i), [Member(Modality.AUDIO, "wav", wav(300 + 40 * i + j)) for j in range(2)], {})
    paths = f"known: {{path: {folder}/known, weight: 2}}, pairs: {{path: {folder}/pairs}}"
    return run_micro(micro_recipe(
        folder / "run", micro.folder, f"data.sources={{{paths}}}", f"data.heldout={{audio: {{path: {folder}/known}}}}", "data.workers=2",
        "data.speaker={dim: 3, encoder: 'test_voices_run:Pitch'}", "data.roles.audio=0.9", "data.tolerance=0.5", "data.encode_ahead=0"))


def test_it_trains_and_a_vector_of_another_size_is_quarantined(voices) -> None:
    log = (voices.folder / "logs" / "quarantine.jsonl").read_text()
    assert "its speaker vector has 2 numbers, not data.speaker.dim = 3" in log and "known/known-000000/0" in log
    saved = [tensor for name, tensor in voices.saved.tensors.items() if "embeddings.speaker.weight" in name and tensor.ndim == 2]
    assert len(saved) == 3 and all(tensor.shape == (32, 3) and tensor.abs().sum() > 0 for tensor in saved)  # and its moments


def test_held_out_sounds_are_made_by_their_speakers(voices, monkeypatch) -> None:
    seen = []
    original = Generator.generate

    def generate(self, prompts, to, sampling, seed=0, submodel=None, speakers=()):
        seen.append((to, [None if s is None else s.tolist() for s in speakers]))
        return original(self, prompts, to, sampling, seed, speakers=speakers)

    monkeypatch.setattr(Generator, "generate", generate)
    evaluate_run(str(voices.folder), 3)
    assert (Modality.AUDIO, [[1, 1, 2], [2, 1, 2]]) in seen and (Modality.TEXT, []) in seen


def test_sample_takes_a_vector_or_a_recording(voices, micro, tmp_path, monkeypatch, capsys) -> None:
    seen = []
    original = Generator.generate

    def generate(self, prompts, to, sampling, seed=0, submodel=None, speakers=()):
        seen.append([s.tolist() for s in speakers])
        original(self, prompts, to, sampling, seed, speakers=speakers)
        return [torch.zeros(16)]  # a model of six steps may end at once

    monkeypatch.setattr(Generator, "generate", generate)
    (tmp_path / "me.npy").write_bytes(npy([3, 2, 1]))
    (tmp_path / "me.wav").write_bytes(wav(250))
    (tmp_path / "short.npy").write_bytes(npy([3, 2]))
    out = ["--to", "audio", "--out", str(tmp_path / "x.wav"), "--speaker"]
    for file in ("me.npy", "me.wav"):
        assert main(["sample", str(voices.folder), "a sound", *out, str(tmp_path / file)]) == 0
    assert seen[0] == [[3, 2, 1]] and len(seen[1][0]) == 3 and (tmp_path / "x.wav").exists()
    for run, file, words in ((voices, "short.npy", "shapes [(2,)]"), (micro, "me.npy", "data.speaker.dim above 0"),
                             (micro, "me.wav", "no data.speaker.encoder"), (voices, "none.npy", "no such file")):
        assert main(["sample", str(run.folder), "a sound", *out, str(tmp_path / file)]) == 2
        assert words in capsys.readouterr().err
    assert main(["sample", str(voices.folder), "a sound", "--to", "image", "--speaker", str(tmp_path / "me.npy")]) == 2
    assert "use --to audio" in capsys.readouterr().err


def test_inspect_says_who_speaks(voices, capsys, tmp_path) -> None:
    shards = voices.folder.parent / "known"
    assert main(["data", "inspect", str(shards), "--tokenizers", str(voices.folder), "--html", str(tmp_path / "x.html")]) == 0
    told = capsys.readouterr().out
    assert next(line for line in told.splitlines() if line.startswith("audio speaker numbers")).split()[3:5] == ["8", "2"]
    assert "8 of them say who speaks" in (tmp_path / "x.html").read_text()
