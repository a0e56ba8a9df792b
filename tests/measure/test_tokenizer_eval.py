"""The whole command on a micro run: figures equal what the tokenizers give by hand, mistakes are explained, the page is whole."""

import json
from pathlib import Path

import pytest
import torch
from html_page import EVIL, Page

from ernie5.cli.main import main
from ernie5.measure.audio import AudioRun, loud_frames
from ernie5.measure.media import MediaSet, Medium, Shape
from ernie5.measure.picture_distance import psnr
from ernie5.measure.run_eval import EvalSettings, evaluate_tokenizers
from ernie5.measure.subject import find_subject
from ernie5.measure.vision import widths
from ernie5.sequence import Modality


@pytest.fixture(scope="module")
def evaluated(micro, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval")
    assert main(["tokenizer", "eval", str(micro.folder), "--at-most", "3", "--out", str(out)]) == 0
    return json.loads((out / "tokenizer_eval.json").read_text()), Page((out / "tokenizer_eval.html").read_text())


def test_pictures_are_those_that_the_tokenizer_gives(micro, evaluated):
    result, subject = evaluated[0]["vision"], find_subject(str(micro.folder), "vision")
    tokenizer, media = subject.tokenizers["vision"], MediaSet(subject.recipe.data.limits)
    media.add_path(subject.heldout()["image"].path)
    found = list(media.media({Modality.IMAGE}, Shape(subject.recipe.data.limits.image_size), 3))
    scores = [psnr(m.media, tokenizer.reconstruct(m.media)) for m in found]
    assert result["image"]["psnr_db"] == pytest.approx(sum(scores) / 3)
    assert result["image"]["num"] == 3 and result["fingerprint"] == tokenizer.fingerprint
    assert result["image"]["bits_per_pixel"] == pytest.approx((1 + 4 + 16) * 8 / 32**2)
    assert result["video"]["bits_per_pixel"] == pytest.approx(3 * (1 + 4 + 16) * 8 / (9 * 32**2))


def test_the_last_prefix_is_the_whole(evaluated):
    for section in (evaluated[0]["vision"]["image"], evaluated[0]["vision"]["video"]):
        for prefixes in (section["after_scales"], section["after_bits"]):
            assert prefixes[-1]["psnr_db"] == section["psnr_db"]
            assert prefixes[-1]["bits_per_pixel"] == pytest.approx(section["bits_per_pixel"])
        assert [u["positions"] for u in section["usage"]] == [section["usage"][0]["positions"] * k for k in (1, 4, 16)]
    audio = evaluated[0]["audio"]
    assert [row["levels"] for row in audio["after_levels"]] == [1, 2, 3]
    assert audio["after_levels"][-1]["log_mel_distance"] == audio["log_mel_distance"]
    assert audio["nominal_bits_per_second"] == pytest.approx(12.5 * 3 * 4)


def test_baselines_stay_within_the_rate(evaluated):
    image, audio = evaluated[0]["vision"]["image"], evaluated[0]["audio"]
    for name in ("jpeg", "jpeg_small", "webp", "webp_small", "pca"):
        if name in image["baselines"]:
            row = image["baselines"][name]
            assert row["bits_per_pixel"] <= row["tokenizer"]["bits_per_pixel"] + 1e-9
    clips = evaluated[0]["vision"]["video"]["baselines"]
    assert all(row["bits_per_pixel"] <= row["tokenizer"]["bits_per_pixel"] for name, row in clips.items() if name in ("h264", "h264_small"))
    assert clips["h264_lowest"]["num"] == 3
    assert image["baselines"]["pca"]["fitted_on"] == "32 training pictures"  # of 24 pairs and 12 documents
    assert audio["baselines"]["opus"]["bits_per_second"] >= audio["bits_per_second"]
    assert len(audio["baselines"]["curves"]["mp3"]) >= 3


def test_texts(evaluated):
    text = evaluated[0]["text"]
    assert text["exact_share"] == 1 and text["tokens"] == sum(m["tokens"] for m in text["media"])
    assert 0 < text["tokens_per_byte"] <= 2.5


def test_the_page_shows_all_of_it(evaluated):
    result, page = evaluated
    assert [word in page.text for word in ("Pictures", "Clips", "Sounds", "Texts", "JPEG", "Opus")] == [True] * 6
    assert not page.all("script")
    assert all(i["src"].startswith("data:") for tag in ("img", "audio", "video") for i in page.all(tag))
    assert f"{result['vision']['image']['psnr_db']:.2f}" in page.text
    assert page.all("audio") and page.all("video")


def test_damaged_files_are_listed_and_names_are_text(micro, tmp_path, capsys):
    media = tmp_path / "media"
    media.mkdir()
    (media / "one.txt").write_text("ein Text", encoding="utf-8")
    (media / "two.txt").write_bytes(b"\xff\xfe\x00")
    out = tmp_path / "out"
    text = str(Path(micro.folder) / "tokenizers" / "text")
    assert main(["tokenizer", "eval", text, str(media), "--out", str(out)]) == 0
    assert "two.txt: not UTF-8" in capsys.readouterr().out
    measured = evaluate_tokenizers(find_subject(text), str(media), EvalSettings())
    assert [name for name, _ in measured.result["rejected"]] == ["two.txt"]
    measured.result["rejected"].append([EVIL, EVIL])
    measured.result["command"] = ["x", EVIL]
    from ernie5.measure.page import write_page

    assert not Page(write_page(measured, out).read_text()).all("script")


@pytest.mark.parametrize(("words", "why"), [
    (["{run}", "nowhere"], "nowhere"),
    (["{run}/data"], "holds no tokenizer"),
    (["{run}/tokenizers/text", "--kind", "audio"], "holds a tokenizer of text"),
    (["{run}", "--size", "4by4"], "256x384"),
    (["{run}", "--at-most", "0"], "must be above 0"),
    (["{run}", "--kind", "vision", "--features", "no_such:f"], "no_such"),
    (["{run}", "--part", "a:B"], "add --kind"),
    (["{run}/tokenizers/vision", "{run}/recipe.yaml"], "could encode"),
])
def test_mistakes_are_explained(micro, words, why, capsys, tmp_path):
    words = [word.format(run=micro.folder) for word in words]
    assert main(["tokenizer", "eval", *words, "--out", str(tmp_path)]) == 2
    assert why in capsys.readouterr().err


class WholeOnly:
    """A codec that cannot decode its first levels alone, of two codes a frame, always the same."""

    modality, num_codebooks, codebook_size, sample_rate_hz, frame_rate_hz = Modality.AUDIO, 2, 4, 100, 10.0

    def encode(self, sound):
        return torch.tensor([[1, 2]]).repeat(-(-len(sound) // 10), 1)

    def decode(self, codes):
        if codes.shape[1] != 2:
            raise ValueError("all levels or none")
        return torch.full((10 * len(codes),), 0.5)


def test_a_codec_that_decodes_whole_codes_only():
    run = AudioRun(WholeOnly())
    run.add(Medium("a", Modality.AUDIO, torch.cat([0.5 * torch.ones(30), torch.zeros(25)]), 0))
    result = run.result()
    assert result["after_levels"] is None
    assert result["frames"]["loud"] == 3 and result["frames"]["silent"] == 3
    assert result["bits_per_second"] == pytest.approx(6 * 2 * 2 / 0.55)
    assert [u["perplexity"] for u in result["usage"]] == [1, 1]


def test_silent_frames_and_widths():
    sound = torch.cat([torch.full((10,), 0.1), torch.full((10,), 1e-4), torch.full((5,), 0.1)])
    assert loud_frames(sound, 3, 10).tolist() == [True, False, True]
    assert widths(16) == [2, 4, 6, 8, 10, 12, 14, 16] and widths(3) == [1, 2, 3]
