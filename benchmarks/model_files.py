"""Make the file of one network of somebody else's: `python benchmarks/model_files.py SOURCE NAME HxW FILE`, run by
models.py.

torchvision, timm and ultralytics export with random weights, by torch.onnx's current exporter or ultralytics' own. They
are no dependency of the project: models.py installs them beside it.
"""

import sys
import warnings
from pathlib import Path

import torch
from torch import nn

CLASSES = 10  # of the classifiers: a thousand would be most of a small network's flash
SEED = 0
YOLO_SIZE = 160


def torchvision_net(name: str) -> nn.Module:
    # The wheel's C++ is built for CUDA and does not load beside a CPU's torch. Its two operators are needed by the
    # import and by no network here.
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    KEPT.append(library)
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES)


KEPT: list[torch.library.Library] = []  # an operator lives as long as its library


def timm_net(name: str) -> nn.Module:
    torchvision_net("alexnet")
    import timm

    return settled(timm.create_model(name, pretrained=False, exportable=True, num_classes=CLASSES))


def settled(net: nn.Module) -> nn.Module:
    """Give batch normalisation the statistics of random pictures: behind many branches of factor 1 values explode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what it sees
    with torch.no_grad():
        net.train()(torch.rand(4, 3, 96, 96))
    return net


def ultralytics_file(name: str, out: Path) -> None:
    torchvision_net("alexnet")
    from ultralytics import YOLO

    made = YOLO(f"{name}.yaml", verbose=False).export(format="onnx", imgsz=YOLO_SIZE, simplify=False)
    Path(made).rename(out)


def conv_bn(cin: int, cout: int, s: int, groups: int = 1, k: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, k, s, k // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU())


def conv_dw(cin: int, cout: int, s: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(cin, cin, s, cin), conv_bn(cin, cout, 1, k=1))


class UltraLightFace(nn.Module):
    """The slim Ultra-Light-Fast-Generic-Face-Detector: MobileNetV1 of 16 to 256 channels, four levels, and the decoding
    that its exports carry: rows of positions, a softmax, centres and sizes."""

    def __init__(self) -> None:
        super().__init__()
        widths = [(16, 32, 1), (32, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1), (64, 64, 1)]
        self.base = nn.ModuleList([
            nn.Sequential(conv_bn(3, 16, 2), *(conv_dw(*w) for w in widths)),
            nn.Sequential(conv_dw(64, 128, 2), conv_dw(128, 128, 1), conv_dw(128, 128, 1)),
            nn.Sequential(conv_dw(128, 256, 2), conv_dw(256, 256, 1)),
            nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), conv_dw(64, 256, 2)),
        ])  # fmt: skip
        self.anchors, channels = (3, 2, 2, 3), (64, 128, 256, 256)
        self.scores, self.boxes = (
            nn.ModuleList(self.head(c, n * a) for c, a in zip(channels, self.anchors, strict=True)) for n in (2, 4)
        )

    @staticmethod
    def head(cin: int, cout: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(cin, cin, 3, 1, 1, groups=cin), nn.ReLU(), nn.Conv2d(cin, cout, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores, boxes = [], []
        for base, score, box in zip(self.base, self.scores, self.boxes, strict=True):
            x = base(x)
            scores.append(score(x).permute(0, 2, 3, 1).reshape(1, -1, 2))
            boxes.append(box(x).permute(0, 2, 3, 1).reshape(1, -1, 4))
        found = torch.cat(boxes, 1)
        priors = torch.rand(found.shape[1], 4)
        centres = found[..., :2] * 0.1 * priors[:, 2:] + priors[:, :2]
        sizes = torch.exp(found[..., 2:] * 0.2) * priors[:, 2:]
        corners = torch.cat([centres - sizes / 2, centres + sizes / 2], 2)
        return torch.softmax(torch.cat(scores, 1), 2), corners


class FastestDet(nn.Module):
    """The head of FastestDet on ShuffleNetV2's stages: three maps joined at one size, a pyramid of convolutions, one
    level of boxes, an objectness and classes, whose functions are part of the export."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torchvision_net("shufflenet_v2_x0_5")
        self.fuse = conv_bn(48 + 96 + 192, 96, 1, k=1)
        self.towers = nn.ModuleList(nn.Sequential(*(conv_bn(96, 96, 1, 96, 5) for _ in range(n))) for n in (1, 2, 3))
        self.join = conv_bn(3 * 96, 96, 1, k=1)
        self.heads = nn.ModuleList(
            nn.Sequential(conv_bn(96, 96, 1, 96, 5), nn.Conv2d(96, n, 1)) for n in (1, 4, CLASSES)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        net = self.stem
        x = net.maxpool(net.conv1(x))
        maps = [x := stage(x) for stage in (net.stage2, net.stage3, net.stage4)]
        low, high = nn.functional.avg_pool2d(maps[0], 3, 2, 1), nn.functional.interpolate(maps[2], scale_factor=2)
        x = self.fuse(torch.cat([low, maps[1], high], 1))
        x = self.join(torch.cat([tower(x) for tower in self.towers], 1))
        seen, box, kinds = (head(x) for head in self.heads)
        return torch.cat([torch.sigmoid(seen), box, torch.softmax(kinds, 1)], 1)


OWN = {"ultra_light_face": UltraLightFace, "fastest_det": FastestDet}


def main() -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    source, name, size, out = sys.argv[1:]
    if source == "ultralytics":
        ultralytics_file(name, Path(out))
        return
    net = {"torchvision": torchvision_net, "timm": timm_net, "torch": lambda name: OWN[name]()}[source](name)
    h, w = (int(side) for side in size.split("x"))
    torch.onnx.export(net.eval(), (torch.zeros(1, 3, h, w),), out, dynamo=True, verbose=False, external_data=False)


if __name__ == "__main__":
    main()
