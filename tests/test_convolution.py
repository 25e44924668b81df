"""The gradient of a wide depth-wise convolution is torch's, whatever its stride, padding and the size of the map."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.convolution import Conv2d, conv2d
from nni_mcunet.core.nn.net import Net

WIDE = "_WideDepthwiseBackward"


def gradients(convolve, x, weight, stride, padding, like):
    """Return the output and the gradients of input, weight and bias, drawn in the type `like`."""
    leaves = [t.clone().requires_grad_() for t in (x, weight, torch.arange(len(weight)).to(like))]
    y = convolve(*leaves, stride, padding, groups=len(weight))
    torch.manual_seed(1)
    return y, torch.autograd.grad(y, leaves, torch.randn(y.shape).to(like))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("k", "padding"),
    [((5, 5), (2, 2)), ((7, 7), (3, 3)), ((7, 7), (0, 0)), ((3, 4), (1, 2)), ((4, 6), (2, 2)), ((1, 9), (0, 4))],
)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
def test_a_wide_depthwise_gradient_is_torchs(k, padding, stride, layout):
    torch.manual_seed(0)
    x = torch.randn(3, 6, 14, 19).contiguous(memory_format=layout)
    weight = torch.randn(6, 1, *k)
    y, found = gradients(conv2d, x, weight, stride, padding, torch.float32)
    assert y.grad_fn.name() == WIDE
    exact, wanted = gradients(F.conv2d, x.double(), weight.double(), stride, padding, torch.float64)
    torch.testing.assert_close(y.double(), exact, rtol=1e-4, atol=1e-4)
    for mine, of_torch in zip(found, wanted, strict=True):
        assert mine.shape == of_torch.shape
        torch.testing.assert_close(mine.double(), of_torch, rtol=1e-4, atol=1e-4)


def test_only_what_has_a_slow_gradient_takes_the_other_way():
    x = torch.randn(2, 8, 9, 9)
    wide, narrow = torch.randn(8, 1, 5, 5, requires_grad=True), torch.randn(8, 1, 3, 3, requires_grad=True)
    dense, bias = torch.randn(8, 8, 5, 5, requires_grad=True), torch.zeros(8)
    assert conv2d(x, wide, None, (1, 1), (2, 2), 8).grad_fn.name() == WIDE
    assert conv2d(x, narrow, None, (1, 1), (1, 1), 8).grad_fn.name() != WIDE
    assert conv2d(x, dense, None, (1, 1), (2, 2), 1).grad_fn.name() != WIDE
    assert conv2d(x, wide, bias, (1, 1), (2, 2), 8).grad_fn.name() == WIDE
    with torch.no_grad():
        assert conv2d(x, wide, None, (1, 1), (2, 2), 8).grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):
        assert conv2d(x, wide, None, (1, 1), (2, 2), 8).dtype == torch.bfloat16


def test_an_input_without_a_gradient_gets_none():
    layer = Conv2d(4, 4, 5, padding=2, groups=4, bias=False)
    layer(torch.randn(1, 4, 8, 8)).sum().backward()
    assert layer.weight.grad.shape == layer.weight.shape


def test_a_network_on_a_cpu_lays_channels_last():
    net = Net(build_graph(ArchSpec.load("configs/arch/mcu_w50_r128.json")))
    seen = []
    first = next(iter(net.layers.values()))
    first.conv.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    for training in (True, False):
        net.train(training)(torch.rand(2, 3, 128, 128))
    assert seen == [True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept():
    """The pages of a freed tensor of 16 MB are there for the next one."""
    program = """
import resource, torch
from nni_mcunet.core.freed_memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(4 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
keep_freed_memory()
faults(), faults()
print(faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000  # 40,960 pages of 4 kB otherwise
