# Table 3's baseline MobileNetV2 on CMSIS-NN (31.6 mAP with 0.87M parameters, 34M MACs, 519 kB): width 0.5 at 128x128,
# run layer by layer. Theirs ends in YOLOv2's single map; this has our head, so that only the backbones differ.
_base_ = "./_base_/voc0712.py"

paper = dict(row="Table 3, MbV2 + CMSIS-NN: 31.6 mAP", macs="34M", params="0.87M", memory="519 kB", patched=False)
model = dict(
    backbone=dict(arch="configs/arch/mobilenet_v2_w50_r128.json", out_indices=(2, 4, 6)),
    neck=dict(width=64),
)
