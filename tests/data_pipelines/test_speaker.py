"""Who speaks: files that are read and files that are refused, their way through shards and folders, vectors from another recording."""

import io
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from make_media import sound_bytes
from tiny_world import CODEBOOKS, grouping, sound

from ernie5.data_pipelines.coded_bytes import from_bytes, to_bytes
from ernie5.data_pipelines.collate import PackedSample
from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.encode import CodedSample
from ernie5.data_pipelines.measure import Look, Measure
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.pack_folder import pack_folder
from ernie5.data_pipelines.packing import cut
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.roles import RolesConfig
from ernie5.data_pipelines.sample_maker import SampleMaker
from ernie5.data_pipelines.sources import Record, ShardSource
from ernie5.data_pipelines.speaker import SpeakerConfig, load_encoder, placed_speakers, read_speaker
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.sequence import Modality, Role, Sample, Segment

WAVE = sound_bytes()


def npy(values, kind=np.float32, **options) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(values, kind), **options)
    return file.getvalue()


def claims(shape: str, kind: str = "<f4", body: bytes = b"") -> bytes:
    """A header that says whatever it likes."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


class Loudness:
    """An encoder for tests: how loud, how long, and one."""

    dim = 3

    @classmethod
    def load(cls, folder):
        return cls()

    def embed(self, wave, sample_rate_hz):
        return torch.tensor([float(wave.abs().mean()), len(wave) / sample_rate_hz, 1.0])


@pytest.mark.parametrize("values", [np.arange(5, dtype=np.float16), np.ones((1, 7), ">f8"), np.full(3, -0.5, np.float32)])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_floats_of_any_width_become_one_vector(values, version):
    vector = read_speaker(npy(values, values.dtype, version=version))
    assert vector.dtype == torch.float32 and vector.tolist() == values.reshape(-1).astype(float).tolist()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(np.zeros(8000)))
    return file.getvalue()


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "no .npy file"), (b"RIFF....", "no .npy file"), (zipped(), "no .npy file"),
    (npy(np.array([{"a": 1}], dtype=object), object, allow_pickle=True), "must be floats"), (npy([1, 2], np.int64), "must be floats"),
    (npy(np.ones((2, 4))), r"shape \(n,\)"), (npy(1.0), r"shape \(n,\)"), (npy([]), r"shape \(n,\)"), (npy(np.ones(5000)), "at most 4096"),
    (npy([1, np.nan]), "finite"), (npy([0, 0]), "not all of them zero"), (npy([1e300], np.float64), "finite"),
    (npy(np.ones(8))[:-1], "its header says 32"), (npy(np.ones(8)) + b"x", "its header says 32"),
    (claims("(1000000000000,)"), "at most 4096"), (claims("(-4,)"), r"shape \(n,\)"), (claims("(True,)", body=bytes(4)), "not all of them"),
    (claims("(4,)", "|O", bytes(32)), "must be floats"), (claims("().__class__"), "no .npy file"),
    (claims("(4," + " " * 3000 + ")"), "no .npy"),
    (bytes(2**17), "more than 65536"),
])
def test_hostile_files_are_refused_by_name(data, reason):
    with pytest.raises(BadMedia, match=reason):
        read_speaker(data)


def test_vectors_go_through_shards_with_and_without_fields(tmp_path):
    silent = Member(Modality.AUDIO, "wav", WAVE)
    members = (Member(Modality.TEXT, "txt", b"hello"), replace(silent, speaker=npy([1, 2, 3])), silent)
    with ShardWriter(tmp_path, "a") as writer:
        writer.write("0", members, {})
    for fields in ((), ("0.txt", "1.wav", "2.wav")):
        record = ShardSource("s", tmp_path, fields=fields).read(0)
        assert record.members == members
        segments = decode_record(record, MediaLimits()).segments
        assert segments[1].speaker.tolist() == [1, 2, 3] and segments[0].speaker is None and segments[2].speaker is None
    off = ShardSource("s", tmp_path, speakers=False).read(0)
    assert [m.speaker for m in off.members] == [None] * 3


def test_one_vector_may_stand_for_all_sounds_of_a_strangers_sample(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, data in (("k.wav", WAVE), ("k.b.wav", WAVE), ("k.speaker.npy", npy([1, 2])), ("k.b.speaker.npy", npy([3, 4])),
                           ("k.c.wav", WAVE), ("bad.wav", WAVE), ("bad.speaker.npy", bytes(2**17))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    source = ShardSource("s", tmp_path / "x.tar")
    found = [read_speaker(m.speaker).tolist() for m in source.read(0).members]
    assert sorted(found) == [[1, 2], [1, 2], [3, 4]]
    with pytest.raises(BadSample, match="speaker.npy has 131072 bytes"):
        source.read(1)
    assert ShardSource("s", tmp_path / "x.tar", speakers=False).read(1).members == (Member(Modality.AUDIO, "wav", WAVE),)


def test_folders_are_packed_with_their_vectors(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in {"a.wav": WAVE, "a.txt": b"hello", "a.speaker.npy": npy([1, 2]), "b.wav": WAVE, "b.speaker.npy": b"no",
                       "c.txt": b"no sound", "c.speaker.npy": npy([1, 2])}.items():
        (folder / name).write_bytes(data)
    report = pack_folder(folder, tmp_path / "out")
    rejected = dict(report.rejected)
    assert "no .npy file" in rejected["b.wav"] and "belongs to it" in rejected["b.speaker.npy"]
    assert rejected["c.speaker.npy"] == "no sound of its name lies beside it" and len(rejected) == 3
    source = ShardSource("s", tmp_path / "out")
    records = {r.attributes["file"]: r for r in (source.read(i) for i in range(len(source)))}
    assert records.keys() == {"a", "c"} and records["a"].members[1].speaker == npy([1, 2])


def test_an_encoder_hears_another_recording_of_the_sample():
    config = SpeakerConfig(3, "test_speaker:Loudness")
    encoder = load_encoder(config)
    waves = [torch.full((16000 * n,), 0.1 * n) for n in (1, 2, 3)]
    known = torch.tensor([1.0, 0.0, 0.0])
    sounds = [Segment(Modality.AUDIO, wave, speaker=known if i == 2 else None) for i, wave in enumerate(waves)]
    sample = Sample("x", (sounds[0], Segment(Modality.TEXT, "words"), sounds[1], sounds[2]), {})
    found = placed_speakers(sample, config, encoder, 16000).segments
    torch.testing.assert_close(found[0].speaker, torch.tensor([0.2, 2.0, 1.0]))  # none before it: the one after
    torch.testing.assert_close(found[2].speaker, torch.tensor([0.1, 1.0, 1.0]))
    assert found[1].speaker is None and torch.equal(found[3].speaker, known)
    alone = Sample("x", sample.segments[:2], {})
    assert placed_speakers(alone, config, encoder, 16000) is alone
    assert placed_speakers(sample, SpeakerConfig(), None, 16000) is sample


def test_mistakes_are_named():
    sample = Sample("x", (Segment(Modality.AUDIO, torch.zeros(4), speaker=torch.ones(2)),), {})
    with pytest.raises(BadMedia, match="has 2 numbers, not data.speaker.dim = 3"):
        placed_speakers(sample, SpeakerConfig(3), None, 16000)
    with pytest.raises(ValueError, match="data.speaker.dim = -1"):
        SpeakerConfig(-1)
    with pytest.raises(ValueError, match="needs data.speaker.dim"):
        SpeakerConfig(0, "a:B")
    with pytest.raises(ValueError, match="gives 3 numbers"):
        load_encoder(SpeakerConfig(4, "test_speaker:Loudness"))
    with pytest.raises(ValueError, match="must offer embed"):
        load_encoder(SpeakerConfig(4, "ernie5.tokenizers.text:Utf16Tokenizer"))
    record = Record("s/t/1", (Member(Modality.AUDIO, "wav", WAVE, b"x"),), {})
    with pytest.raises(BadSample, match=r"segment 0 .audio.: the speaker file"):
        decode_record(record, MediaLimits())


def coded(speaker) -> CodedSample:
    codes = sound(np.random.default_rng(0), Role.GENERATE, frames=3).codes
    segments = (Segment(Modality.TEXT, "ab"), Segment(Modality.AUDIO, torch.zeros(8), speaker=speaker))
    return CodedSample(Sample("x", segments, {}), (torch.tensor([20, 21]), codes))


def test_coded_samples_travel_with_their_vectors():
    for speaker in (torch.tensor([1.0, 2.0]), None):
        back = from_bytes(to_bytes(coded(speaker))).sample.segments[1].speaker
        assert back is None if speaker is None else torch.equal(back, speaker)
    assert coded(torch.ones(2)).num_bytes == coded(None).num_bytes + 8


def test_lengths_count_the_slot_where_the_sound_is_generated():
    maker = SampleMaker(lambda *_: None, lambda *_: None, lambda: None, None, grouping(), RolesConfig(), seed=3)  # type: ignore[arg-type]
    measure, lengths = Measure(grouping(), RolesConfig(), seed=3), {}
    for name, speaker in (("with", torch.ones(2)), ("without", None)):
        look = measure.learn(name, coded(speaker))
        assert isinstance(look, Look)
        lengths[name] = [measure.of(look, Draw(number, name, 0)).length for number in range(20)]
        assert lengths[name] == [len(maker.packed(coded(speaker), number)) for number in range(20)]
    assert {a - b for a, b in zip(lengths["with"], lengths["without"], strict=True)} == {0, 1}


def test_a_cut_document_keeps_slots_and_vectors_together():
    blocks = grouping().document([replace(sound(np.random.default_rng(0), Role.GENERATE), speaker=torch.ones(2))], np.random.default_rng(0))
    assert blocks[0].speaker.shape == (1, 2) and blocks[1].audio.shape[1] == CODEBOOKS
    shapes = [cut(PackedSample("x", blocks), length).groups[0].speaker.shape for length in (1, 2, 3)]
    assert shapes == [(0, 2), (1, 2), (1, 2)]
