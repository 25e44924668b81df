"""Train data-parallel under torchrun: say which of the processes this is, and take means over all of them. A single
process is rank 0 of 1, and nothing here does anything."""

import os

import torch
from torch import Tensor, distributed

from ...core.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """Choose the device; auto: this process's GPU if there is one. Raises UserError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"device is {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: torch sees no GPU here")
    if name == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device(name)


def join(device: torch.device) -> None:
    """Meet the other processes that torchrun started."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave() -> None:
    """Part from the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def place() -> tuple[int, int]:
    """Return (rank, number of processes)."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def average(tensors: list[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, bit for bit the same in each of them."""
    _, world = place()
    if world == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= world
    for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def wait() -> None:
    """Wait until all processes have come here."""
    if distributed.is_initialized():
        distributed.barrier()
