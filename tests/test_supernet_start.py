"""A super-network that begins with a trained network: its slice is that network, and the training knows it."""

import pytest
import torch
from conftest import ROOT
from test_supernet import DEMO, DIGITS, SMALL, TINY, equal

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.search.data import open_data
from nni_mcunet.search.space import load_space
from nni_mcunet.search.supernet.fit import load_checkpoint
from nni_mcunet.search.supernet.supernet import begin_with, build_supernet, slice_net
from nni_mcunet.search.supernet.training import load_weights, train

SMALLEST = SMALL.spec(SMALL.smallest())


def moved(net, seed=0):
    """The net with batch normalisation as a training leaves it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if ".bn." in name and tensor.dim():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return net.eval()


def test_the_slice_is_the_network_that_it_began_with():
    torch.manual_seed(1)
    trained, supernet = moved(Net(build_graph(SMALLEST))), build_supernet(DEMO)
    before = supernet.layer("s4_b1_proj").conv.weight.clone()
    begin_with(supernet, trained.graph, trained.state_dict())
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(slice_net(supernet, trained.graph).eval()(images)[0], trained(images)[0])
    assert torch.equal(supernet.layer("s4_b1_proj").conv.weight, before)  # the smallest has no such block


def test_a_larger_network_is_refused():
    wide = Net(build_graph(DEMO.spec(DEMO.largest())))
    with pytest.raises(UserError, match="the network is not of"):
        begin_with(Net(build_graph(SMALLEST)), wide.graph, wide.state_dict())


def test_a_training_begins_there_and_knows_it(tmp_path):
    data, first = open_data(DIGITS), moved(Net(build_graph(SMALLEST)))
    other = moved(Net(build_graph(SMALLEST)), seed=5)
    plain = train(SMALL, TINY, tmp_path / "plain.pth", data)
    begun = train(SMALL, TINY, tmp_path / "begun.pth", data, start=(SMALLEST, first))
    assert not equal(plain, begun)
    again = train(SMALL, TINY, tmp_path / "begun.pth", data, start=(SMALLEST, first))
    assert equal(begun, again)
    assert "start" in load_checkpoint(tmp_path / "begun.pth")["identity"]
    for start in (None, (SMALLEST, other)):
        with pytest.raises(UserError, match="start"):
            train(SMALL, TINY, tmp_path / "begun.pth", data, start=start)


def test_it_begins_with_published_weights_of_other_classes(shared):
    """mcunet-in3 of ImageNet in a space that contains it, for two classes."""
    spec = ArchSpec.load(ROOT / "configs/arch/mcunet_in3.json")
    trained, space = (
        load_weights(spec, shared / "models/mcunet-in3/weights.pth"),
        load_space(str(ROOT / "configs/nni/spaces/photos.yml")),
    )
    supernet = build_supernet(space, open_data(DIGITS).task.graph)
    graph = open_data(DIGITS).task.graph(ArchSpec.from_dict(spec.to_dict() | {"classes": None}))
    fc = supernet.layer("fc").conv.weight.clone()
    begin_with(supernet, graph, trained.state_dict())
    found = slice_net(supernet, graph).state_dict()
    kept = {key for key, value in trained.state_dict().items() if torch.equal(found.get(key), value)}
    own = {key for key in found if not key.endswith("num_batches_tracked")}
    assert own - kept == {"layers.fc.conv.weight", "layers.fc.conv.bias"}
    assert torch.equal(supernet.layer("fc").conv.weight, fc)
