# YOLOv3 on BCCD for the STM32F412: MCUNet's ImageNet classifier mcunet-in3 with its published weights as backbone, at
# 256x192, the shape of the photographs.
_base_ = "./yolov3_bccd.py"

expected = dict(map50=0.889, tolerance=0.02)  # on the test split; about eleven minutes of one core
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, base="configs/arch/mcunet_in3.json", resolution=[192, 256]),
        init_cfg=dict(checkpoint="{{$MCUNET_SHARED:../shared}}/models/mcunet-in3/weights.pth"),
    ),
    neck=dict(width=64),
)
