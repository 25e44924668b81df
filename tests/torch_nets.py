"""Small PyTorch modules of the kinds that people train: what torchvision's and timm's networks are made of."""

import torch
from torch import nn
from torch.nn import functional as F


def norm_conv(cin, cout, k=3, s=1, groups=1, act=nn.ReLU6):
    conv = nn.Conv2d(cin, cout, k, s, k // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), act())


class SqueezeExcite(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.pool, self.squeeze, self.excite = nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 4, 1), nn.Conv2d(4, c, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(self.pool(x)))))


class Inverted(nn.Module):
    """MobileNetV3's block, with its residual where the shapes agree."""

    def __init__(self, cin, cout, s=1):
        super().__init__()
        self.same = cin == cout and s == 1
        self.expand, self.dw = norm_conv(cin, 16, 1, act=nn.Hardswish), norm_conv(16, 16, 3, s, 16, act=nn.Hardswish)
        self.se, self.project = SqueezeExcite(16), norm_conv(16, cout, 1, act=nn.Identity)

    def forward(self, x):
        y = self.project(self.se(self.dw(self.expand(x))))
        return x + y if self.same else y


class Mobile(nn.Module):
    """A classifier: residuals, depth-wise convolutions, squeeze and excite, hard swish, dropout."""

    def __init__(self, channels=3):
        super().__init__()
        self.stem = norm_conv(channels, 8, 3, 2, act=nn.Hardswish)
        self.features = nn.Sequential(Inverted(8, 8), Inverted(8, 12, 2))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, 5))

    def forward(self, x):
        return self.classifier(self.features(self.stem(x)).mean((2, 3)))


class Heads(nn.Module):
    """A detector's shape: a pyramid joined by upsampling and concatenation, two maps in a dict."""

    def __init__(self):
        super().__init__()
        self.low, self.high = norm_conv(3, 8, 3, 2, act=nn.ReLU), norm_conv(8, 12, 3, 2, act=nn.SiLU)
        self.pool, self.up = nn.MaxPool2d(3, 1, 1), nn.Upsample(scale_factor=2)
        self.fine, self.coarse = nn.Conv2d(20, 6, 1), nn.Conv2d(12, 6, 3, padding=1)

    def forward(self, x):
        low = self.low(x)
        high = self.pool(self.high(low))
        return {"fine": self.fine(torch.cat([low, self.up(high)], 1)), "coarse": torch.sigmoid(self.coarse(high))}


class Residual(nn.Module):
    """A basic block of a ResNet, with leaky and parametric activations; the answers as a tuple."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.act = nn.Conv2d(8, 8, 3, 1, 1), nn.LeakyReLU(0.1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, x):
        y = self.act(self.bn1(self.conv1(x)))
        y = self.act(self.conv2(y) + y)
        return self.fc(torch.flatten(self.pool(y), 1)), torch.tanh(y)


NETS = {"mobile": Mobile, "heads": Heads, "residual": Residual}


def net(name, seed=0, **arguments):
    """A network of NETS in eval mode, its normalisations as after some training."""
    torch.manual_seed(seed)
    found = NETS[name](**arguments).train()
    with torch.no_grad():
        for _ in range(20):
            found(torch.rand(8, arguments.get("channels", 3), 32, 24))
    return found.eval()
