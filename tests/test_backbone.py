"""mmdet's backbone: architectures with changes, frozen stages, and the weights that MCUNet's authors published."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch import nn

import nni_mcunet as mcu
from detection import MCUNetBackbone
from detection.models.backbone import read_arch
from nni_mcunet.core.errors import ArchError, UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.nn.zoo_weights import rename

SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT / ".." / "shared"))
WEIGHTS, PHOTOS = SHARED / "models/mcunet-in3/weights.pth", SHARED / "data/imagenet_sample"
IN3 = str(ROOT / "configs/arch/mcunet_in3.json")
published = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"the published weights are not at {WEIGHTS}")


@pytest.fixture(scope="module")
def weights() -> dict:
    return torch.load(WEIGHTS, weights_only=True, map_location="cpu")["state_dict"]


@published
@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"the photographs are not at {PHOTOS}")
def test_published_weights_classify_photographs(weights):
    """179 of these 250 are right with the published int8 file (expected.json); a wrong mapping gets none."""
    torch.set_num_threads(1)
    spec = ArchSpec.load(IN3)
    net = Net(build_graph(spec)).eval()
    net.load_state_dict(rename(spec, weights))
    right, files = 0, sorted(PHOTOS.glob("*.jpg"))
    with torch.no_grad():
        for at in range(0, len(files), 25):
            pixels = np.stack([np.array(Image.open(f).convert("RGB")) for f in files[at : at + 25]])
            scores = net(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)[0]
            right += sum(int(s.argmax()) == int(f.name[:4]) for s, f in zip(scores, files[at : at + 25], strict=True))
    assert len(files) == 250 and abs(right - 179) <= 3


@published
def test_published_weights_load_into_the_backbone(weights):
    backbone = MCUNetBackbone(dict(base=IN3, resolution=[96, 128]), (2, 4), init_cfg=dict(checkpoint=str(WEIGHTS)))
    backbone.init_weights()
    theirs = weights["blocks.12.mobile_inverted_conv.depth_conv.conv.weight"]  # stage 4 begins with block 11
    assert torch.equal(backbone.layers["s4_b1_dw"].conv.weight, theirs)
    assert [tuple(x.shape) for x in backbone.eval()(torch.zeros(1, 3, 96, 128))] == [(1, 24, 12, 16), (1, 48, 6, 8)]


@published
def test_published_weights_are_a_classifier_s(weights, tmp_path):
    """As the README loads one: by name, with the authors' own file."""
    found = mcu.load("mcunet_in3", weights=WEIGHTS)
    spec = ArchSpec.load(IN3)
    net = Net(build_graph(spec))
    net.load_state_dict(rename(spec, weights))
    ours = net.eval().folded_weights()
    assert found.kind == "float" and ours.keys() == found.model.weights.keys()
    pairs = [zip(ours[key], found.model.weights[key], strict=True) for key in ours]
    assert pairs and all(np.array_equal(a, b) for pair in pairs for a, b in pair)
    with pytest.raises(mcu.UserError, match="stands for no layer of mcunet_in0"):
        mcu.load("mcunet_in0", weights=WEIGHTS)
    torch.save({"first_conv.conv.weight": torch.zeros(16, 3, 3, 3)}, tmp_path / "cut.pth")
    with pytest.raises(mcu.UserError, match="running_mean' is missing: are these weights of MCUNet's zoo"):
        mcu.load("mcunet_in3", weights=tmp_path / "cut.pth")


@published
def test_stages_behind_the_published_ones_are_left(weights):
    more = [*ArchSpec.load(IN3).to_dict()["stages"], [{"k": 3, "s": 2, "mid": 160, "c": 64}]]
    backbone = MCUNetBackbone(dict(base=IN3, resolution=96, stages=more), (6, 7))
    before = backbone.layers["s7_b0_dw"].conv.weight.clone()
    backbone.load_slice(WEIGHTS)
    assert torch.equal(backbone.layers["s7_b0_dw"].conv.weight, before)
    theirs = weights["blocks.17.mobile_inverted_conv.depth_conv.conv.weight"]
    assert torch.equal(backbone.layers["s6_b0_dw"].conv.weight, theirs)


@published
def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(UserError, match=r"'blocks\.8\..*' stands for no layer of mcu_w50_r128, which has 8 blocks"):
        rename(ArchSpec.load(ROOT / "configs/arch/mcu_w50_r128.json"), weights)


def test_change_of_scale_is_exact_inside():
    """Published networks read (p / 255 - 0.5) / 0.5, ours p / 255."""
    torch.manual_seed(0)
    spec = ArchSpec.load(ROOT / "configs/arch/mcu_w50_r128.json")
    ours = Net(build_graph(spec)).eval()
    stem = ours.layers["stem"]
    state = {f"first_conv.{k}": v.clone() for k, v in stem.state_dict().items()}
    x = torch.rand(1, 3, 32, 32)  # even: nothing is padded below and to the right
    expected = stem.bn(stem.conv((x - 0.5) / 0.5))
    stem.load_state_dict({k.removeprefix("layers.stem."): v for k, v in rename(spec, state).items()})
    assert torch.allclose(stem.bn(stem.conv(x))[..., 1:, 1:], expected[..., 1:, 1:], atol=1e-5)


def test_a_base_with_changes():
    assert read_arch(dict(base=IN3, resolution=[64, 96])).resolution == (64, 96)
    assert read_arch(dict(base=IN3, resolution=[64, 96])).stages == ArchSpec.load(IN3).stages
    with pytest.raises(ArchError, match="unknown key 'resolutoin'"):
        read_arch(dict(base=IN3, resolutoin=[64, 96]))


def test_missing_weights_are_one_line(tmp_path):
    backbone = MCUNetBackbone(IN3, (2,), init_cfg=dict(checkpoint=str(tmp_path / "none.pth")))
    with pytest.raises(UserError, match=r"no file .*none\.pth; None trains from scratch"):
        backbone.init_weights()


def test_frozen_stages_and_norm_eval():
    backbone = MCUNetBackbone(IN3, (2, 4), frozen_stages=1).train()
    still = {name for name, layer in backbone.layers.items() if not layer.conv.weight.requires_grad}
    assert still == {name for name in backbone.layers if name.startswith(("stem", "s0_", "s1_"))}
    running = {n: m.training for n, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {n for n, training in running.items() if not training} == {f"layers.{name}.bn" for name in still}
    backbone = MCUNetBackbone(IN3, (2, 4), norm_eval=True).train()
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(p.requires_grad for p in backbone.parameters())
    with pytest.raises(UserError, match=r"frozen_stages is 5: expected -1 \(none\) to 4"):
        MCUNetBackbone(IN3, (2, 4), frozen_stages=5)


def test_patches_without_a_halo():
    """Each tile is a picture of its own up to the end of the patch stage."""
    torch.manual_seed(0)
    arch = dict(base=IN3, resolution=[64, 64], schedule=dict(p=[2, 2], n=9))  # up to the end of stage 2
    apart, whole = (MCUNetBackbone(arch, (2,), halo=halo).eval() for halo in ("none", "exchange"))
    whole.load_state_dict(apart.state_dict())
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        (ours,), (exchanged,) = apart(picture), whole(picture)
        (tile,) = whole(picture[:, :, 32:, :32])
    assert ours.shape == exchanged.shape and torch.allclose(ours[:, :, 4:, :4], tile, atol=1e-6)
    assert not torch.allclose(ours, exchanged, atol=1e-3)
    with pytest.raises(UserError, match="halo is 'none': expected exchange, or none with a schedule"):
        MCUNetBackbone(IN3, (2,), halo="none")


def test_batch_normalisation_in_evaluation_is_folded_into_the_convolution() -> None:
    """A convolution whose batch normalisation stands still gives what the two give one after the other, and the same
    gradients of its weights: norm_eval trains through them."""
    net = Net(build_graph(ArchSpec.load(IN3), taps=(0,)))
    op = net.graph.ops[0]
    layer = net.layer(op.name)
    nn.init.normal_(layer.bn.running_mean)
    nn.init.uniform_(layer.bn.running_var, 0.5, 2)
    nn.init.uniform_(layer.bn.weight, 0.5, 2)
    x = torch.rand(2, 3, 16, 16)
    layer.bn.eval()
    apart, together = layer.bn(layer.conv(x)), net.convolve(op, layer, x)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    weights = [layer.conv.weight, layer.bn.weight, layer.bn.bias]
    towards = torch.randn_like(apart)
    theirs, ours = (torch.autograd.grad((y * towards).sum(), weights) for y in (apart, together))
    for a, b in zip(theirs, ours, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3)
