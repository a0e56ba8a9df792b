"""Tensors <-> safetensors files, checked on the way in and on the way out.

Ours: views and tied weights are stored whole, each as a tensor of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ernie5.run.boxes import Shape

_SERIAL = 2**15 - 1  # elements; torch's own limit for one thread is 2^15
_CODES = {  # torch's names -> those in the header of a file
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0", "complex64": "C64", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64",
    "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}


def check_tensor(name: str, tensor: Tensor) -> None:
    """ValueError naming a tensor that is not dense or holds inf / nan (such a state must never be saved)."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        raise ValueError(f"tensor {name} must be a dense tensor, got {getattr(tensor, 'layout', type(tensor).__name__)}")
    if name == "__metadata__":
        raise ValueError("a tensor cannot be called __metadata__: safetensors keeps that name for itself")
    if not is_finite(tensor):
        raise ValueError(f"tensor {name} holds inf or nan")


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is inf or nan; without a temporary mask (aminmax hands nan on), and on the CPU in pieces that torch gives to one
    thread: a save beside the training must not start a second team of threads.
    """
    if tensor.numel() == 0 or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    values = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    pieces = values.view(-1).split(_SERIAL) if values.is_cpu and values.is_contiguous() else (values,)
    pieces = (piece.float() for piece in pieces) if values.element_size() == 1 else pieces  # 8-bit floats have no arithmetic
    ends = [end for piece in pieces for end in torch.aminmax(piece)]
    return bool(torch.isfinite(torch.stack(ends)).all())


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
    alone = tensor.is_contiguous() and storage.data_ptr() not in seen
    seen.add(storage.data_ptr())
    return tensor if alone else tensor.clone(memory_format=torch.contiguous_format)


def decode(data: bytes, num_tensors: int) -> dict[str, Tensor]:
    """The tensors of one file. ValueError for a header that is not plausible for `num_tensors`, or that safetensors refuses."""
    _check_header(data[:8], len(data), num_tensors)
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from None


def open_tensors(path: Path, expected: Mapping[str, tuple[Shape, str]]) -> "safe_open":
    """An open tensor file that holds exactly the `expected` keys with these shapes and dtypes.

    ValueError for a header that is too long for so many tensors (it is not even parsed), that safetensors refuses, or that says otherwise.
    """
    with open(path, "rb") as file:
        _check_header(file.read(8), path.stat().st_size, len(expected))
    try:
        opened = safe_open(path, framework="pt")
        found = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None
    for key in sorted(found.keys() ^ expected.keys()):
        raise ValueError(f"{path} holds {key[:200]} and the manifest does not, or the reverse")
    for key, (shape, dtype) in expected.items():
        said = tuple(found[key].get_shape()), found[key].get_dtype()
        if said != (shape, _CODES.get(dtype)):
            raise ValueError(f"tensor {key[:200]} of {path} is not what the manifest says: {said[1]} {list(said[0])[:8]}")
    return opened


def dtype_name(tensor: Tensor) -> str:
    """`float32`"""
    return str(tensor.dtype).removeprefix("torch.")


def _check_header(first: bytes, num_bytes: int, num_tensors: int) -> None:
    header_bytes = int.from_bytes(first, "little")
    if header_bytes > min(num_bytes - 8, 65536 + 4096 * num_tensors):
        raise ValueError(f"the header claims {header_bytes} bytes for {num_tensors} tensors")
