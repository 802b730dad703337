"""The machine a training runs on: its half precision, its FP32, its memory allocator."""

from __future__ import annotations

import ctypes
import sys
from contextlib import AbstractContextManager

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def half_precision(device: torch.device) -> torch.dtype | None:
    """The half precision for autocast on this device; None where it would be slower than FP32.

    bf16 on GPUs from Ampere on; FP16 on Turing and Volta (T4, RTX 20, V100), which emulate bf16.
    """
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if ampere else torch.float16
    return torch.bfloat16 if cpu_has_bf16() else None


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; emulated, it is slower than FP32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def exact_fp32(fixed_size: bool = False) -> AbstractContextManager[None]:
    """Compute FP32 in FP32 on a GPU: PyTorch's convolutions take TF32, of FP16's ten bits.

    fixed_size: batches have one size, so that cuDNN's search for its fastest kernels pays.
    """
    return torch.backends.cudnn.flags(True, fixed_size, allow_tf32=False, fp32_precision="ieee")


def keep_freed_memory() -> None:
    """Make glibc's allocator keep freed memory for the next step; no effect without glibc.

    By default each large tensor is mapped and unmapped, and the kernel clears its pages every time,
    which takes a fifth of a training step on a CPU. The process keeps the size of its largest step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
