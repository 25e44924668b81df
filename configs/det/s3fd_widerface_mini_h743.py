# The same for the STM32H743: MCUNet's ImageNet classifier mcunet-in3 with its published weights as backbone, two stages
# added behind it, pictures of 480x360.
_base_ = "./s3fd_widerface_mini.py"

expected = dict(map50=0.235, easy=0.70, medium=0.58, hard=0.28, tolerance=0.05)  # half an hour beside other work
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, base="configs/arch/mcunet_in3_face.json", resolution=[360, 480]),
        out_indices=(2, 4, 6, 7),
        init_cfg=dict(checkpoint="{{$MCUNET_SHARED:../shared}}/models/mcunet-in3/weights.pth"),
    ),
)
train_pipeline = _base_.train_pipeline
train_pipeline[3].update(size=(480, 360))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.002))
