"""What a step asks of torch's CUDA libraries; set around a step and put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def device_flags(device: torch.device, precision: str) -> Iterator[None]:
    """Deterministic cuDNN without autotuning (the same run gives the same bits), and its precision.

    TF32, where it is asked for, is for convolutions: matrix products are the sums of maps and the
    classifier, a hundredth of the arithmetic, and would round p to 11 bits. The flags are the
    process's, so others see them during a step. A pack on the CPU leaves them alone.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark
    # read by operation: the flags of all operations together cannot be read where they differ
    places = (products, cudnn.conv, cudnn.rnn)  # type: ignore[attr-defined]
    exact = [place.fp32_precision for place in places]
    named: str | None = None
    with contextlib.suppress(RuntimeError):
        named = torch.get_float32_matmul_precision()  # "medium" is in no other flag
    # written as one, which torch.compile's templates read
    cudnn.deterministic, cudnn.benchmark = True, False
    products.allow_tf32, cudnn.allow_tf32 = False, precision == "tf32"
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        products.allow_tf32, cudnn.allow_tf32 = (value == "tf32" for value in exact[:2])
        if named is not None:
            torch.set_float32_matmul_precision(named)
        for place, value in zip(places, exact, strict=True):
            place.fp32_precision = value
