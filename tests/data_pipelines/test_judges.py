"""Judges: right on every clean render, robust to what decoders do, and not to be satisfied with the wrong picture."""

import pytest
import torch
from torch.nn import functional as F

from ernie5.data_pipelines.synthetic.combinations import ATTRIBUTES, KINDS, Combination, all_combinations
from ernie5.data_pipelines.synthetic.find_object import gaussian_blur
from ernie5.data_pipelines.synthetic.judge import judge, score
from ernie5.data_pipelines.synthetic.render_clip import render_clip
from ernie5.data_pipelines.synthetic.render_image import render_image
from ernie5.data_pipelines.synthetic.render_sound import render_sound
from ernie5.run.random_streams import stream

RENDER = {"image": render_image, "video": render_clip, "audio": render_sound}


@pytest.fixture(scope="module")
def renders():
    """Every combination of every kind once: kind -> (media, truths)."""
    return {
        kind: (
            [RENDER[kind](combination, stream(5, "judged", kind, i)) for i, combination in enumerate(all_combinations(kind))],
            [combination.attributes for combination in all_combinations(kind)],
        )
        for kind in KINDS
    }


def blurred(media, sigma):
    pixels = torch.stack(media).float()
    flat = gaussian_blur(pixels.flatten(0, 2), sigma).reshape(pixels.shape)
    return list(flat.round().clamp(0, 255).to(torch.uint8))


def half_size_and_back(media):
    pixels = torch.cat(media).float()
    small = F.interpolate(pixels, scale_factor=0.5, mode="bilinear", antialias=True)
    return list(F.interpolate(small, size=(32, 32), mode="bilinear").round().to(torch.uint8).unsqueeze(1))


@pytest.mark.parametrize("kind", KINDS)
def test_all_right_on_clean_renders(kind, renders):
    media, truths = renders[kind]
    result = score(judge(kind, media), truths)
    assert result["accuracy"] == 1.0 and result["n"] == len(truths)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_medium_is_noticed_in_exactly_the_changed_attribute(kind, renders):
    """One attribute of each truth is replaced by another value: the judge must disagree there, and nowhere else."""
    media, truths = renders[kind]
    answers = judge(kind, media)
    for name, values in ATTRIBUTES[kind].items():
        wrong = [{**truth, name: values[(values.index(truth[name]) + 1) % len(values)]} for truth in truths]
        result = score(answers, wrong)
        assert result["accuracy"] == 0.0
        assert result["per_attribute"] == {other: 0.0 if other == name else 1.0 for other in ATTRIBUTES[kind]}


@pytest.mark.parametrize(("sigma", "least"), [(0.8, 1.0), (1.2, 0.98)])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_blur_is_forgiven(kind, sigma, least, renders):
    media, truths = renders[kind]
    assert score(judge(kind, blurred(media, sigma)), truths)["accuracy"] >= least


def test_down_and_up_sampling_is_forgiven(renders):
    media, truths = renders["image"]
    assert score(judge("image", half_size_and_back(media)), truths)["accuracy"] >= 0.98


@pytest.mark.parametrize("kind", ["image", "video"])
def test_shape_is_lost_when_the_picture_is_a_blob(kind, renders):
    """The robustness has an end: under a blur as wide as the object the judge no longer guesses the shape right."""
    media, truths = renders[kind]
    assert score(judge(kind, blurred(media, 4.0)), truths)["per_attribute"]["shape"] < 0.6


def test_soft_noisy_and_smeared_sounds_are_understood(renders):
    media, truths = renders["audio"]
    waves = torch.stack(media)
    noise = torch.from_numpy(stream(0, "noise").standard_normal(waves.shape)).float()
    assert score(judge("audio", list(0.2 * waves + 0.005 * noise)), truths)["accuracy"] >= 0.98
    window = torch.hann_window(1280)  # 80 ms frames with smeared loudness, as a codec makes them
    spectrum = torch.stft(waves, 1280, 320, window=window, return_complex=True)
    smeared = F.avg_pool1d(spectrum.abs(), 3, 1, 1)
    coded = torch.istft(torch.polar(smeared, spectrum.angle()), 1280, 320, window=window, length=waves.shape[1])
    assert score(judge("audio", list(coded)), truths)["accuracy"] >= 0.98


def test_nothing_is_unclear():
    grey = torch.full((1, 3, 32, 32), 240, dtype=torch.uint8)
    assert set(judge("image", [grey])[0].values()) == {"unclear"}
    assert set(judge("video", [grey.expand(9, -1, -1, -1)])[0].values()) == {"unclear"}
    assert set(judge("audio", [torch.zeros(16640)])[0].values()) == {"unclear"}


def test_two_objects_are_no_shape():
    one, two = (
        render_image(Combination("image", ("circle", "red", "big", place)), stream(0, "two")) for place in ("top left", "bottom right")
    )
    assert judge("image", [torch.minimum(one, two)])[0]["shape"] == "unclear"


def test_noise_and_foreign_pitches_are_no_tone():
    noise = torch.from_numpy(stream(0, "hiss").standard_normal(16640)).float() * 0.2
    whistle = torch.sin(torch.arange(16640) / 16000 * 6.2832 * 1500) * 0.3
    assert [answer["pitch"] for answer in judge("audio", [noise, whistle])] == ["unclear", "unclear"]


def test_six_beeps_are_not_five(renders):
    """Two sounds of three beeps in a row are six."""
    i = [c.values for c in all_combinations("audio")].index(("sine", "a4", "three"))
    three = renders["audio"][0][i]
    assert judge("audio", [three])[0]["beeps"] == "three"
    assert judge("audio", [torch.cat([three, three])])[0]["beeps"] == "unclear"


def test_a_clip_played_backwards_moves_the_other_way(renders):
    media, truths = renders["video"]
    opposite = {"moves left": "moves right", "moves right": "moves left", "moves up": "moves down", "moves down": "moves up"}
    backwards = judge("video", [clip.flip(0) for clip in media])
    assert [answer["motion"] for answer in backwards] == [opposite.get(truth["motion"], truth["motion"]) for truth in truths]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_do_not_depend_on_the_batch(kind, renders):
    media, _ = renders[kind]
    assert judge(kind, media[:40])[7:9] == judge(kind, media[7:9])
    assert judge(kind, []) == []


def test_media_of_other_lengths_are_judged_too(renders):
    """Generated clips and sounds may end early or late."""
    clip, truth = renders["video"][0][0], renders["video"][1][0]
    answers = judge("video", [clip, clip[:5], clip[:1], clip[:0]])
    assert answers[0] == truth
    assert answers[1]["shape"] == answers[2]["shape"] == truth["shape"] and answers[2]["motion"] == "unclear"
    assert set(answers[3].values()) == {"unclear"}
    sound, truth = renders["audio"][0][0], renders["audio"][1][0]
    longer = torch.cat([sound, torch.zeros(2560)])
    assert judge("audio", [sound, sound[:5120], longer]) == [truth] * 3
    assert set(judge("audio", [sound[:0]])[0].values()) == set(judge("audio", [sound[:300]])[0].values()) == {"unclear"}


def test_score_counts_joint_answers_and_the_best_constant_one():
    truths = [{"a": "x", "b": "u"}, {"a": "x", "b": "u"}, {"a": "x", "b": "v"}, {"a": "y", "b": "v"}]
    predictions = [{"a": "x", "b": "u"}, None, {"a": "x", "b": "u", "kind": "image"}, {"a": "y", "b": "v", "kind": "image"}]
    assert score(predictions, truths) == {"accuracy": 0.5, "chance": 0.5, "per_attribute": {"a": 0.75, "b": 0.5}, "n": 4}


def test_bad_calls_are_explained():
    with pytest.raises(ValueError, match="kind = 'text'"):
        judge("text", [torch.zeros(3)])
    with pytest.raises(ValueError, match="must be uint8 n 3 h w"):
        judge("image", [torch.zeros(1, 3, 32, 32)])
    with pytest.raises(ValueError, match="must be float n s"):
        judge("audio", [torch.zeros(16640, dtype=torch.int16)])
    with pytest.raises(ValueError, match="1 predictions for 2 truths"):
        score([None], [{"a": "x"}, {"a": "y"}])
