# Table 3's baseline MCUNet (51.4 mAP with 168M MACs, 466 kB), run layer by layer: mcunet-in3 at 224x224, the network
# whose ImageNet weights are public (model.backbone.init_cfg.checkpoint), with our head; theirs is not public.
_base_ = "./_base_/voc0712.py"

paper = dict(row="Table 3, MCUNet: 51.4 mAP", macs="168M", params="1.20M", memory="466 kB", patched=False)
model = dict(
    backbone=dict(arch="configs/arch/mcunet_in3_r224.json", out_indices=(2, 4, 6)),
    neck=dict(width=144),  # the row's MACs
)
