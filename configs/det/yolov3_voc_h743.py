# Table 3's row for the STM32H743 (68.3 mAP with 0.67M parameters, 343M MACs, 438 kB): the architecture that our search
# found under these limits (benchmarks/voc_architectures.py), the head counted. Not yet trained.
_base_ = "./_base_/voc0712.py"

paper = dict(row="Table 3, H743: 68.3 mAP", macs="343M", params="0.67M", memory="438 kB")
model = dict(
    backbone=dict(arch="configs/arch/mcunetv2_voc_h743.json", out_indices=(2, 4, 6)),
    neck=dict(width=64),
)
