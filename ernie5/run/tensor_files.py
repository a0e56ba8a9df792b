"""Tensors <-> safetensors files of about 1 GiB, checked on the way in and on the way out.

Ours: views and tied weights are stored whole, each as a tensor of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

FILE_BYTES = 2**30


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """ValueError naming the first tensor that is not dense or holds inf / nan (such a state must never be saved)."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise ValueError(f"tensor {name} must be a dense tensor, got {getattr(tensor, 'layout', type(tensor).__name__)}")
        if name == "__metadata__":
            raise ValueError("a tensor cannot be called __metadata__: safetensors keeps that name for itself")
        if not is_finite(tensor):
            raise ValueError(f"tensor {name} holds inf or nan")


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is inf or nan; one pass without a temporary mask (aminmax hands nan on)."""
    if tensor.numel() == 0 or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    values = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    values = values.float() if values.element_size() == 1 else values  # 8-bit floats have no arithmetic
    return all(bool(torch.isfinite(end)) for end in torch.aminmax(values))


def split(tensors: Mapping[str, Tensor], file_bytes: int = FILE_BYTES) -> Iterator[dict[str, Tensor]]:
    """The tensors in their order, cut into groups of at most `file_bytes` (one bigger tensor is a group of its own)."""
    group: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if group and size + tensor.nbytes > file_bytes:
            yield group
            group, size = {}, 0
        group[name], size = tensor, size + tensor.nbytes
    if group:
        yield group


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """One safetensors file, streamed from the tensors' own memory. OSError when the disk fails."""
    seen: set[int] = set()
    try:
        safetensors.torch.save_file({name: _alone(tensor.detach().cpu(), seen) for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from None


def _alone(tensor: Tensor, seen: set[int]) -> Tensor:
    """The tensor in contiguous memory that no other one of this file uses; a copy only where it must be one."""
    storage = tensor.untyped_storage()
    alone = tensor.is_contiguous() and storage.nbytes() == tensor.nbytes and storage.data_ptr() not in seen
    seen.add(storage.data_ptr())
    return tensor if alone else tensor.clone(memory_format=torch.contiguous_format)


def decode(data: bytes, num_tensors: int) -> dict[str, Tensor]:
    """The tensors of one file. ValueError for a header that is not plausible for `num_tensors`, or that safetensors refuses."""
    header_bytes = int.from_bytes(data[:8], "little")
    if header_bytes > min(len(data) - 8, 65536 + 4096 * num_tensors):
        raise ValueError(f"the header claims {header_bytes} bytes for {num_tensors} tensors")
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from None
