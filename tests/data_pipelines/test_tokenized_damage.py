"""Tokenized shards from strangers: a bad record is refused by its name; what is given is never out of range, misshapen, or NaN."""

import io
import json
from functools import partial

import numpy as np
import pytest
import torch
from make_media import image_bytes, sound_bytes
from PIL import Image
from safetensors.torch import load, save

from ernie5.data_pipelines.encode import CodedSample, Encoder
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.data_pipelines.sources import open_source
from ernie5.data_pipelines.synthetic.encode_media import encode_mp4
from ernie5.data_pipelines.tokenized.codes import Keep
from ernie5.data_pipelines.tokenized.made_by import Decoding
from ernie5.data_pipelines.tokenized.run import tokenize
from ernie5.data_pipelines.tokenized.source import TokenizedSource
from ernie5.data_pipelines.tokenized.write import Job
from ernie5.data_pipelines.write_shards import Member, ShardFile, ShardWriter, index_path
from ernie5.sequence import Modality
from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS
from ernie5.train.prepare import load_tokenizers

KEY = "000000000"
TEXT, IMAGE, VIDEO, AUDIO = "0", "1", "2", "3"


@pytest.fixture(scope="module")
def good(micro, tmp_path_factory):
    """One document of all kinds, tokenized: its members, what the index says, and the vision quantizer."""
    folder, random = tmp_path_factory.mktemp("good"), np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 256, (9, 3, 32, 32), np.uint8))
    with ShardWriter(folder / "raw", "a") as writer:
        picture = image_bytes(pixels[0].permute(1, 2, 0).numpy())
        writer.write("0", [Member(Modality.TEXT, "txt", b"hello"), Member(Modality.IMAGE, "png", picture),
                           Member(Modality.VIDEO, "mp4", encode_mp4(pixels, 8)), Member(Modality.AUDIO, "wav", sound_bytes())], {"n": 1})
    load_them, made = partial(load_tokenizers_of, micro), {}
    for name, keep in (("latents", Keep()), ("bits", Keep(bits=True))):
        job = Job("a", SourceConfig(str(folder / "raw")), folder / name, load_them, Decoding(MediaLimits(), 16000), keep)
        tokenize(job, job.open())
        tar = folder / name / "a-000000.tar"
        index, data = json.loads(index_path(tar).read_bytes()), tar.read_bytes()
        members = {m["name"]: data[m["offset"] : m["offset"] + m["length"]] for m in index["samples"][0]["members"]}
        made[name] = members, index["codes"]
    return made, load_them()


def load_tokenizers_of(micro):
    from micro_run import micro_recipe

    return load_tokenizers(micro_recipe(micro.folder, None))


def read(tmp_path, members: dict[str, bytes], about: dict, quantizer=None):
    """The only sample of a shard of these members, whose checksums are right."""
    shard = ShardFile(tmp_path / "x-000000.tar")
    shard.add(KEY, members)
    shard.finish({"codes": about})
    source = open_source("mine", SourceConfig(str(tmp_path / "x-000000.tar")))
    assert isinstance(source, TokenizedSource)
    return source.read(0).decoded(MediaLimits(), quantizer)


def changed(members: dict[str, bytes], name: str, change) -> dict[str, bytes]:
    """With one tensor changed; None takes it away."""
    tensors = load(members["safetensors"])
    tensors[name] = change(tensors[name])
    return members | {"safetensors": save({k: v.contiguous() for k, v in tensors.items() if v is not None})}


def test_the_good_one(good, tmp_path) -> None:
    made, tokenizers = good
    coded = read(tmp_path, *made["latents"], tokenizers.vision.quantizer)
    assert coded.sample.id == "mine/a-000000/0" and coded.sample.attributes == {"n": 1}
    bits = read(tmp_path, *made["bits"], tokenizers.vision.quantizer)
    for number, segment in ((1, IMAGE), (2, VIDEO)):
        flat = torch.cat(tokenizers.vision.quantizer.encode(coded.codes[number].latent).bits, dim=1)
        assert torch.equal(bits.codes[number].bits, flat.bool()), segment
    assert Encoder(tokenizers).code(coded) is coded


def put(index, value):
    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[index] = value
        return tensor
    return change


CHANGES = {
    "id of no token": (TEXT, put(0, 30_000), "segment 0 .text.: its codes 0 go from .* to 30000, outside 12 to"),
    "id of a control token": (TEXT, put(0, 1), "its codes 0 go from 1 to"),
    "negative id": (TEXT, put(0, -1), "go from -1 to"),
    "ids as floats": (TEXT, lambda t: t.float(), "its codes 0 are float32"),
    "ids of two dimensions": (TEXT, lambda t: t[None], "not int16 of 1 dimensions"),
    "no ids": (TEXT, lambda t: None, "its codes lack 0"),
    "code outside its book": (AUDIO, put(0, 16), "segment 3 .audio.: its codes 3 go from .* to 16, outside 0 to 15"),
    "code below 0": (AUDIO, put(0, -1), "outside 0 to 15"),
    "too few codebooks": (AUDIO, lambda t: t[:, :2], "not frames of 3"),
    "no frames": (AUDIO, lambda t: t[:0], "not frames of 3"),
    "NaN latent": (f"{IMAGE}.latent", put(3, float("nan")), "segment 1 .image.: its codes 1.latent hold numbers that are not finite"),
    "infinite latent": (f"{VIDEO}.latent", put(3, float("inf")), "not finite"),
    "NaN feature": (f"{IMAGE}.features", put(3, float("nan")), "1.features hold numbers that are not finite"),
    "bits missing": (f"{IMAGE}.latent", lambda t: t[:, :7], "1 frames of 7 bits"),
    "clip as image": (f"{IMAGE}.latent", lambda t: t.repeat(2, 1, 1, 1), "which no image has"),
    "no latent frame": (f"{VIDEO}.latent", lambda t: t[:0], "which no video has"),
    "longer clip": (f"{VIDEO}.latent", lambda t: t.repeat(2, 1, 1, 1), "its features are"),
    "other grid": (f"{IMAGE}.latent", lambda t: t[..., :2], "its features are"),
    "double latent": (f"{IMAGE}.latent", lambda t: t.double(), "are F64, none of"),
    "half latent": (f"{IMAGE}.latent", lambda t: t.half(), "are F16, none of"),
    "latent of three dimensions": (f"{IMAGE}.latent", lambda t: t[0], "not float32 of 4 dimensions"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_codes_are_refused(good, tmp_path, name) -> None:
    (members, about), (tensor, change, message) = good[0]["latents"], CHANGES[name]
    with pytest.raises(BadSample, match=message) as caught:
        read(tmp_path, changed(members, tensor, change), about)
    assert caught.value.sample_id == "mine/a-000000/0"


def test_wrong_bits_and_grids_are_refused(good, tmp_path) -> None:
    made, tokenizers = good
    members, about = made["bits"]
    quantizer = tokenizers.vision.quantizer
    for tensor, change, message in (
        (f"{IMAGE}.bits", lambda t: t[:, :-1], "its bits are of 20 positions, not 21"),
        (f"{IMAGE}.bits", lambda t: t.repeat(1, 1, 2), "frames of -1 bits"),
        (f"{IMAGE}.grid", lambda t: t * 100_000, "outside 1 to 32767"),
        (f"{IMAGE}.grid", lambda t: t[:1], r"on a grid of \[4\]"),
        (f"{IMAGE}.grid", lambda t: t * 0, "outside 1"),
    ):
        with pytest.raises(BadSample, match=message):
            read(tmp_path, changed(members, tensor, change), about, quantizer)
    members, about = made["latents"]
    large = changed(members, f"{IMAGE}.latent", lambda t: t.repeat(1, 1, 64, 64))
    large = changed(large, f"{IMAGE}.features", lambda t: t.repeat(1, 1, 64, 64))
    file = io.BytesIO()
    Image.new("RGB", (2048, 2048)).save(file, "PNG")
    with pytest.raises(BadSample, match="latent grid 256 x 256 has"):
        read(tmp_path, large | {"1.png": file.getvalue()}, about, quantizer)


def test_wrong_members_are_refused(good, tmp_path) -> None:
    members, about = good[0]["latents"]
    head = json.loads(members["json"])
    other = io.BytesIO()
    Image.new("RGB", (32, 40)).save(other, "PNG")
    grey = io.BytesIO()
    Image.new("L", (32, 32)).save(grey, "PNG")

    def said(**changes) -> dict[str, bytes]:
        return {"json": json.dumps(head | changes).encode()}

    extra = save(load(members["safetensors"]) | {"9": torch.zeros(1)})
    for change, message in (
        ({"1.png": other.getvalue()}, "its pixels are RGB of 32 x 40, its codes those of 1 x 32 x 32"),
        ({"1.png": grey.getvalue()}, "its pixels are L of 32 x 32"),
        ({"1.png": members["1.png"][:-40]}, "its pixels are no readable PNG"),
        ({"1.png": b""}, "its pixels are no readable PNG"),
        ({"0.txt": b"\xff\xfe"}, "not UTF-8 text"),
        ({"safetensors": members["safetensors"][:-4]}, "no safetensors"),
        ({"safetensors": b"\xff" * 64}, "no safetensors"),
        ({"safetensors": b""}, "no safetensors"),
        ({"safetensors": extra}, "its codes hold '9', which is of no segment"),
        (said(codes="0" * 16), "it is not of the job that wrote its shard"),
        (said(id="a\x1b[2J"), "its id is no name"),
        (said(segments=[]), "no list of segments"),
        (said(segments=[{"modality": "smell"}]), "which is no medium"),
        (said(segments=[{"modality": "text", "member": "7.txt"}]), "'7.txt', which is not in the shard"),
        ({"json": b"[" * 100_000}, "nested too deep"),
    ):
        with pytest.raises(BadSample, match=message):
            read(tmp_path, members | change, about)
    with pytest.raises(BadSample, match="its shard does not say what made such codes"):
        read(tmp_path, members, about | {"made_by": {k: v for k, v in about["made_by"].items() if k != "audio"}})


def test_shards_that_say_nothing_true(good, tmp_path) -> None:
    members, about = good[0]["latents"]
    text = about["made_by"]["text"]
    for change in ({"format": 2}, {"shard": [3, 2]}, {"shard": "x"}, {"keep": {"bits": "yes", "understood": True}}, {"made_by": []},
                   {"made_by": {"smell": text}}, {"made_by": {"text": text | {"sizes": {"vocab_size": 1.5}}}},
                   {"made_by": {"text": text | {"settings": 3}}}):
        with pytest.raises(ValueError, match="does not say what made its codes"):
            read(tmp_path, members, about | change)
    read(tmp_path, members, about)
    index_path(tmp_path / "x-000000.tar").unlink()
    lost = open_source("mine", SourceConfig(str(tmp_path)))
    assert not isinstance(lost, TokenizedSource)
    with pytest.raises(BadSample, match="its shard has lost the index that says what made its codes"):
        lost.read(0)
    with ShardWriter(tmp_path, "y") as writer:
        writer.write("0", [Member(Modality.TEXT, "txt", b"raw")], {})
    shard = ShardFile(tmp_path / "x-000000.tar")
    shard.add(KEY, members)
    shard.finish({"codes": about})
    with pytest.raises(ValueError, match="y-000000.tar is not tokenized and others beside it are; make two sources"):
        open_source("mine", SourceConfig(str(tmp_path)))


def test_random_damage_never_gives_wrong_codes(good, tmp_path) -> None:
    """Bytes of the codes, pixels and JSON are changed under right checksums: a refusal, or codes that a model can take."""
    made, tokenizers = good
    members, about = made["latents"]
    random, refused = np.random.default_rng(0), 0
    for _ in range(60):
        name = list(members)[random.integers(len(members))]
        data = bytearray(members[name])
        for at in random.integers(0, min(len(data), 700 if random.random() < 0.5 else len(data)), random.integers(1, 4)):
            data[at] = random.integers(256)
        try:
            data = data[: len(data) - int(random.integers(0, 3))]
            coded = read(tmp_path, members | {name: bytes(data)}, about, tokenizers.vision.quantizer)
        except BadSample:
            refused += 1
            continue
        assert isinstance(coded, CodedSample) and len(coded.codes) == len(coded.sample.segments)
        for segment, codes in zip(coded.sample.segments, coded.codes, strict=True):
            if segment.modality is Modality.TEXT:
                assert codes.min() >= NUM_SPECIAL_TOKENS and codes.max() < tokenizers.text.vocab_size
            elif segment.modality is Modality.AUDIO:
                assert codes.min() >= 0 and codes.max() < tokenizers.audio.codebook_size
                assert codes.shape[1] == tokenizers.audio.num_codebooks
            else:
                assert torch.isfinite(codes.latent).all() and torch.isfinite(codes.features).all()
                assert segment.media.shape[0] == codes.features.shape[0] and segment.media.shape[2:] == torch.Size((32, 32))
    assert refused > 25
