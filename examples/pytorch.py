"""From a PyTorch module to a microcontroller in one call: train a small classifier of shapes on pictures that are made
here, compile it for an STM32F412, and compare the C with the module. It takes about half a minute on two cores.

python examples/pytorch.py [FOLDER]
"""

import sys

import numpy as np
import torch
from torch import nn

import nni_mcunet as mcu

SIDE, SHAPES = 32, ("square", "disc", "cross")
MEAN, STD = 0.5, 0.25  # of values 0..1, as torchvision counts them


def pictures(n, rng):
    """Pictures 0..1 (n, 3, 32, 32) of one shape each, on a noisy ground, and their labels."""
    y, x = np.mgrid[:SIDE, :SIDE]
    found, labels = np.empty((n, 3, SIDE, SIDE), np.float32), rng.integers(0, len(SHAPES), n)
    for i, label in enumerate(labels):
        (cy, cx), r = rng.integers(10, SIDE - 10, 2), rng.integers(5, 9)
        dy, dx = abs(y - cy), abs(x - cx)
        inside = [np.maximum(dy, dx) < r, dy**2 + dx**2 < r**2, (np.minimum(dy, dx) < 2) & (np.maximum(dy, dx) < r)]
        ground, colour = rng.random(3), rng.random(3)
        found[i] = np.where(inside[label], colour[:, None, None], ground[:, None, None])
    found += rng.normal(0, 0.05, found.shape)
    return torch.from_numpy(np.round(255 * found.clip(0, 1)) / 255).float(), torch.from_numpy(labels)


def normalised(x):
    return (x - MEAN) / STD


def conv(cin, cout, stride=1, groups=1, k=3):
    layer = nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(cout), nn.ReLU6())


def network():
    return nn.Sequential(
        conv(3, 16, 2), conv(16, 16, 1, 16), conv(16, 32, 1, k=1), conv(32, 32, 2, 32), conv(32, 32, 1, k=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, len(SHAPES)),
    )  # fmt: skip


def trained(module, rng, steps):
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, steps)
    for _ in range(steps):
        x, label = pictures(64, rng)
        loss = nn.functional.cross_entropy(module(normalised(x)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return module.eval()


def main(folder="out/pytorch", steps=300):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    module = trained(network(), rng, steps)

    # The one call. mean and std count bytes 0..255: torchvision's numbers times 255.
    samples = normalised(pictures(100, rng)[0])
    fw = mcu.compile(module, samples, board="stm32f412", out=folder, mean=255 * MEAN, std=255 * STD)
    print(fw)

    x, label = pictures(200, rng)
    with torch.no_grad():
        answers = module(normalised(x))
    (name,) = fw.sqnr
    int8 = np.concatenate([fw.run(one).named[name] for one in normalised(x)])
    right = answers.argmax(1).eq(label).float().mean().item(), (int8.argmax(1) == label.numpy()).mean()
    print(f"right of 200 pictures: PyTorch {right[0]:.1%}, int8 C {right[1]:.1%}; SQNR {fw.sqnr[name]:.1f} dB")

    row = fw.report()["boards"]["stm32f412"]
    print(f"arena {row['arena_bytes']:,} bytes, all of SRAM {row['sram_bytes']:,}, flash {row['flash_bytes']:,}; "
          f"{row['macs']:,} MACs in {row['instructions']:,} instructions")  # fmt: skip
    return right


if __name__ == "__main__":
    main(*sys.argv[1:])
