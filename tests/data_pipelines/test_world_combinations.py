"""What the demo world holds, how it is split, and that captions name it exactly."""

import pytest

from ernie5.data_pipelines.synthetic.captions import caption, parse_caption
from ernie5.data_pipelines.synthetic.combinations import ATTRIBUTES, KINDS, all_combinations, split_combinations

SEEDS = (0, 1, 2, 1234)


@pytest.mark.parametrize(("kind", "number"), [("image", 192), ("video", 120), ("audio", 150)])
def test_number_of_combinations(kind, number):
    combinations = all_combinations(kind)
    assert len(set(combinations)) == len(combinations) == number


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match="smell.*image, video, audio"):
        all_combinations("smell")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_split_is_a_partition_with_a_tenth_held_out(kind, seed):
    split = split_combinations(kind, seed)
    assert len(split.heldout) == len(all_combinations(kind)) // 10
    assert sorted(c.values for c in (*split.train, *split.heldout)) == sorted(c.values for c in all_combinations(kind))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_of_values_is_trained_on_and_every_value_held_out(kind, seed):
    split = split_combinations(kind, seed)
    names = list(ATTRIBUTES[kind])
    for i, first in enumerate(names):
        for second in names[i + 1:]:
            for a in ATTRIBUTES[kind][first]:
                for b in ATTRIBUTES[kind][second]:
                    here = [c for c in all_combinations(kind) if c[first] == a and c[second] == b]
                    trained = [c for c in split.train if c[first] == a and c[second] == b]
                    assert len(trained) >= 2 / 3 * len(here)
        assert {c[first] for c in split.heldout} == set(ATTRIBUTES[kind][first])


def test_split_follows_the_seed():
    assert split_combinations("image", 3) == split_combinations("image", 3)
    assert split_combinations("image", 3) != split_combinations("image", 4)


@pytest.mark.parametrize("kind", KINDS)
def test_parse_is_the_inverse_of_caption(kind):
    captions = [caption(combination) for combination in all_combinations(kind)]
    assert len(set(captions)) == len(captions)
    assert [parse_caption(kind, f" {text}\n") for text in captions] == [c.attributes for c in all_combinations(kind)]
    assert all(5 <= len(text.split()) <= 9 for text in captions)


@pytest.mark.parametrize("text", [
    "", "a small red circle", "a small red circle at the top", "a small red circle at the top left .", "a red circle moves left",
    "a small small circle at the top left", "small red a circle at the top left",
])
def test_what_is_no_picture_caption_parses_to_none(text):
    assert parse_caption("image", text) is None


def test_captions_of_each_kind():
    assert caption(all_combinations("image")[0]) == "a small red circle at the top left"
    assert caption(all_combinations("video")[0]) == "a red circle moves left"
    assert caption(all_combinations("audio")[0]) == "a sine tone at a3 with one beep"
    assert parse_caption("audio", "a square tone at c4 with three beeps") == {"timbre": "square", "pitch": "c4", "beeps": "three"}
    assert parse_caption("audio", "a square tone at c4 with three beep") is None
