"""A few tensors as bytes and back: the safetensors format, read with distrust.

Every tensor that comes back has a dtype and number of dimensions that was asked for, and real floats are finite. Nothing can ask for
more memory than the bytes are long. Ours: the checks.
"""

from __future__ import annotations

from collections.abc import Mapping

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

MAX_TENSORS = 4096  # of a sample
_DTYPES = {"F32": torch.float32, "I32": torch.int32, "I16": torch.int16, "U8": torch.uint8}


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Contiguous tensors of the dtypes above."""
    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def from_bytes(data: bytes) -> dict[str, Tensor]:
    """What `to_bytes` wrote. ValueError for anything else."""
    try:
        found = safetensors.deserialize(data)
    except (safetensors.SafetensorError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"its codes are no safetensors: {str(error)[:120]}") from None
    if len(found) > MAX_TENSORS:
        raise ValueError(f"its codes are {len(found)} tensors, more than {MAX_TENSORS}")
    tensors = {}
    for name, view in found:
        dtype, shape, raw = _DTYPES.get(view["dtype"]), view["shape"], view["data"]
        if dtype is None:
            raise ValueError(f"its codes {name[:40]!r} are {view['dtype']}, none of {', '.join(_DTYPES)}")
        tensors[name] = torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape) if len(raw) else torch.zeros(shape, dtype=dtype)
    return tensors


def take(tensors: dict[str, Tensor], name: str, *dtypes: torch.dtype, ndim: int) -> Tensor:
    """One tensor, taken out. ValueError when it is missing or not as it must be."""
    tensor = tensors.pop(name, None)
    if tensor is None:
        raise ValueError(f"its codes lack {name}")
    if tensor.dtype not in dtypes or tensor.ndim != ndim:
        there, wanted = (str(dtype).removeprefix("torch.") for dtype in (tensor.dtype, dtypes[0]))
        raise ValueError(f"its codes {name} are {there} {list(tensor.shape)}, not {wanted} of {ndim} dimensions")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"its codes {name} hold numbers that are not finite")
    return tensor


def within(tensor: Tensor, name: str, low: int, size: int) -> Tensor:
    """int64, every number from `low` to `size` - 1. ValueError naming one that is not."""
    if tensor.numel():
        least, most = (int(value) for value in tensor.aminmax())
        if least < low or most >= size:
            raise ValueError(f"its codes {name} go from {least} to {most}, outside {low} to {size - 1}")
    return tensor.long()
