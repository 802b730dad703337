"""The machine a training runs on: its half precision, its FP32, its memory allocator."""

from __future__ import annotations

import ctypes
import sys
from contextlib import AbstractContextManager

import torch

from runtime import machine

_LOOK_S = 0.15
_BUSY = 0.25  # of the cores, taken by others, is worth a sentence
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


def slowed_by() -> str | None:
    """What makes a training on this CPU slower than it must be, with the remedy; None for nothing.

    Takes ``_LOOK_S`` to find out.
    """
    threads, cores = torch.get_num_threads(), machine.granted()
    others = machine.taken_by_others(_LOOK_S)
    if threads > max(1, round(cores)):
        return (
            f"{threads} OpenMP threads share {cores:.0f} cores, and spin while they wait for each "
            f"other; set OMP_NUM_THREADS={max(1, round(cores))}"
        )
    if others < _BUSY * machine.cores():
        return None
    left = max(1, round(cores - others))
    fix = "stop them"
    if threads > 1:
        fix += (
            f", or set OMP_NUM_THREADS={left} and OMP_WAIT_POLICY=passive, since OpenMP's threads "
            "spin while they wait for one that has no core"
        )
    return f"other processes take {others:.1f} of {machine.cores()} cores; {fix}"


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
