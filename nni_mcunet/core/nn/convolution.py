"""Convolve as torch does, with a faster gradient for the wide depth-wise kernels of these networks.

oneDNN has a fast kernel for the weight gradient of a depth-wise convolution of at most 3 columns, whose input is not
padded by itself. It falls back to a slow one for 5x5 and 7x7, where a training step on a CPU then spends most of its
time. The gradient of a wide kernel is that of its blocks of 3 columns.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

COLUMNS = 3  # of the widest kernel with a fast weight gradient

Pair = tuple[int, int]
Gradients = tuple[Tensor, Tensor, Tensor]  # of the input, of the weight, of the bias


class _Context(FunctionCtx):
    """Name what torch and the forward pass put into the context of a gradient."""

    saved_tensors: tuple[Tensor, Tensor]
    needs_input_grad: tuple[bool, ...]
    stride: Pair
    padding: Pair


class _WideDepthwise(torch.autograd.Function):
    """Convolve (N, C, H, W) by (C, 1, kh, kw), kw over COLUMNS, with a bias (C,) or None."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        return (
            _gradients(gradient, x, weight, ctx.stride, ctx.padding, (True, False))[0] if of_x else None,
            _weight_gradient(gradient, x, weight, ctx.stride, ctx.padding) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
            None,
        )


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, wanted: tuple[bool, bool]
) -> Gradients:
    """Return torch's own gradients; wanted: of the input, of the weight."""
    plain = None, stride, padding, (1, 1), False, (0, 0), len(weight), (*wanted, False)
    return cast(Gradients, torch.ops.aten.convolution_backward(gradient, x, weight, *plain))


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Return the weight's gradient, block by block of its columns; the last block may overlap the one before."""
    (height, width), (kh, kw), found = x.shape[2:], weight.shape[2:], torch.empty_like(weight)
    rows = stride[0] * (gradient.shape[2] - 1) + kh  # that the kernel sees, padding included
    columns = stride[1] * (gradient.shape[3] - 1) + COLUMNS  # that a block sees
    top, bottom = padding[0], rows - padding[0] - height
    for first in (*range(0, kw - COLUMNS, COLUMNS), kw - COLUMNS):
        left = padding[1] - first
        seen = F.pad(x, (left, columns - left - width, top, bottom))  # negative: cropped
        block = slice(first, first + COLUMNS)
        found[..., block] = _gradients(gradient, seen, weight[..., block], stride, (0, 0), (False, True))[1]
    return found


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, groups: int) -> Tensor:
    """Return torch.nn.functional.conv2d of the same arguments: (N, cin, H, W) by (cout, cin / groups, kh, kw)."""
    wide = groups == len(weight) == x.shape[1] and weight.shape[3] > COLUMNS
    trained = weight.requires_grad and torch.is_grad_enabled()
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if wide and trained and on_cpu:
        return cast(Tensor, _WideDepthwise.apply(x, weight, bias, stride, padding))  # type: ignore[no-untyped-call]
    return F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)


class Conv2d(nn.Conv2d):
    """Compute torch's Conv2d, zeros around and no dilation, by `conv2d`."""

    stride: Pair
    padding: Pair  # never one of torch's names

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, cin, H, W)."""
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.groups)
