"""Incremental decoding equals the full forward pass, for all modalities, in a batch of rows of different lengths."""

from dataclasses import replace

import pytest
import torch
from tiny_world import SMALL, WIDTHS, packed_sample, small_model

from ernie5.data_pipelines.collate import collate
from ernie5.generate.choose import Sampling
from ernie5.generate.session import Session
from ernie5.model.attention_mask import Where
from ernie5.model.codec_layers import TeacherForcing

NAMES = ["text", "text_to_image", "image_to_text", "text_to_video", "video_to_text", "text_to_audio", "audio_to_text", "mixed"]


def whole(model, sample) -> torch.Tensor:
    packed = collate([[sample]], len(sample), WIDTHS)
    with torch.no_grad():
        x, _, _ = model.trunk(packed, model.mask(Where.of(packed), Where.of(packed)), TeacherForcing(packed.audio_target))
        return model.norm(x)[0]


def pieces(sample):
    """One block after the other; runs of tokens one token at a time."""
    for block in sample.groups:
        if int(block.group[-1]) == 0:
            yield block
            continue
        for i in range(len(block)):
            one = {
                name: getattr(block, name)[i : i + 1]
                for name in ("coords", "text", "audio", "text_target", "text_weight", "audio_target")
                if getattr(block, name) is not None and len(getattr(block, name)) == len(block)
            }
            last = i + 1 == len(block)
            if block.audio_target is not None and len(block.audio_target) != len(block):
                one["audio_target"] = block.audio_target if last else None
            yield replace(block, group=torch.zeros(1, dtype=torch.int64), vision_target=block.vision_target if last else None, **one)


@pytest.mark.parametrize("name", NAMES)
def test_cached_decoding_equals_full_forward(name: str) -> None:
    model, sample = small_model().eval(), packed_sample(name)
    session = Session(model, 1, WIDTHS, Sampling(), torch.Generator().manual_seed(0))
    hidden = torch.cat([session.feed([[piece]]).hidden[0] for piece in pieces(sample)])
    torch.testing.assert_close(hidden, whole(model, sample), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [
    {"codec": "parallel"},
    {"router": "ernie5.model.router_isolated:IsolatedRouter", "num_experts": 6},
    {"router": "ernie5.model.router_modality_id:ModalityIdRouter"},
    {"router": "ernie5.model.router_auxiliary:AuxiliaryLossRouter"},
], ids=["parallel", "isolated", "modality id", "auxiliary"])
def test_cached_decoding_with_alternative_parts(changes: dict) -> None:
    model, sample = small_model(replace(SMALL, **changes)).eval(), packed_sample("mixed")
    for name, parameter in model.named_parameters():
        if "by_modality" in name:
            torch.nn.init.normal_(parameter)
    session = Session(model, 1, WIDTHS, Sampling(), torch.Generator().manual_seed(0))
    hidden = torch.cat([session.feed([[piece]]).hidden[0] for piece in pieces(sample)])
    torch.testing.assert_close(hidden, whole(model, sample), rtol=1e-4, atol=1e-5)


def test_rows_of_a_batch_do_not_disturb_each_other() -> None:
    model = small_model().eval()
    samples = [packed_sample("text_to_image"), packed_sample("text_to_audio", seed=3), packed_sample("video_to_text", seed=4)]
    streams = [list(pieces(sample)) for sample in samples]
    session = Session(model, 3, WIDTHS, Sampling(), torch.Generator().manual_seed(0))
    got: list[list[torch.Tensor]] = [[], [], []]
    for step in range(max(map(len, streams))):
        fed = session.feed([[stream[step]] if step < len(stream) else [] for stream in streams])
        for row in range(3):
            got[row].append(fed.hidden[row, : fed.size[row]])
    for row, sample in enumerate(samples):
        torch.testing.assert_close(torch.cat(got[row]), whole(model, sample), rtol=1e-4, atol=1e-5)
