# Table 3's row for the STM32H743 (68.3 mAP with 0.67M parameters, 343M MACs, 438 kB): the architecture that our search
# found under these limits (benchmarks/voc_architectures.py), the head counted. Not yet trained.
_base_ = "./_base_/voc0712.py"

model = dict(
    backbone=dict(arch="configs/arch/mcunetv2_voc_h743.json", out_indices=(2, 4, 6)),
    neck=dict(width=64),
)
