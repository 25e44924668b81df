"""mmdet's own detectors, which are none of ours, as modules: the C gives the maps of their heads as forward() does."""

from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmengine.config import Config

import detection  # noqa: F401  lets mmdet do without the compiled operators
import nni_mcunet as mcu

CONFIGS = Path(mmdet.__file__).parent / ".mim/configs"
NARROW = {
    "backbone": {"widen_factor": 0.125, "deepen_factor": 0.167, "init_cfg": None},
    "neck": {"in_channels": [32, 64, 128], "out_channels": 32},
    "bbox_head": {"in_channels": 32, "feat_channels": 32, "num_classes": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("config", ["rtmdet/rtmdet_tiny_8xb32-300e_coco.py", "yolox/yolox_tiny_8xb8-300e_coco.py"])
def test_the_maps_of_a_head(config, tmp_path):
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    found = Config.fromfile(CONFIGS / config)
    found.merge_from_dict({"model": NARROW})
    torch.manual_seed(0)
    module, samples = MODELS.build(found.model).eval(), torch.rand(4, 3, 96, 96)
    fw = mcu.compile(module, samples, board="stm32h743", out=tmp_path / "fw")
    with torch.no_grad():
        wanted = torch.utils._pytree.tree_leaves(module(samples[:1]))
    for got, want in zip(fw.run(samples[0]).named.values(), wanted, strict=True):
        assert got.shape == tuple(want.shape)
        assert np.abs(got - want.numpy()).max() < 0.1 * want.abs().max()
