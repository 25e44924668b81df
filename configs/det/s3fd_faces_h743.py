# S3FD on 480 pictures of WIDER FACE, judged on 150 others, for the STM32H743: MCUNet's ImageNet classifier mcunet-in3
# with its published weights as backbone, two stages added behind it, and a neck. Pictures are 768x512, 3/4 of the
# files' width. The anchors are half of S3FD's; those of 8 to 32 stand at stride 8, as a map at stride 4 does not fit.
# Training crops are 384x256, which show faces about as small as the test does and take a quarter of the time.
_base_ = "./_base_/s3fd_widerface.py"

data_root = "{{$MCUNET_SHARED:../shared}}/data/widerface_part/"
data_source = "set MCUNET_SHARED to the folder with data/widerface_part, or pass --cfg-options for another place"
expected = dict(map50=0.444, easy=0.887, medium=0.827, hard=0.522, tolerance=0.03)  # 105 minutes of one core
picture = dict(fit="letterbox", pad=0)  # black, as the crops of the training are beyond a picture

model = dict(
    backbone=dict(
        arch=dict(base="configs/arch/mcunet_in3_face.json", resolution=[512, 768]),
        out_indices=(2, 4, 6, 7),
        frozen_stages=0,
        norm_eval=True,
        init_cfg=dict(checkpoint="{{$MCUNET_SHARED:../shared}}/models/mcunet-in3/weights.pth"),
    ),
    neck=dict(type="MCUNetNeck", width=48),
    bbox_head=dict(sizes=[[8, 16, 32], [64], [128], [256]]),
)

train_pipeline = [
    dict(type="LoadPicture"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="FaceCrop", size=(384, 256), ignore_below=4)],
            [dict(type="DataAnchorSampling", size=(384, 256), anchors=(8, 16, 32, 64, 128, 256), ignore_below=4)],
        ],
        prob=[0.6, 0.4],
    ),
    dict(type="PhotoMetricDistortion"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        ann_file="wider_face_train_bbx_gt.txt",
        data_prefix=dict(img="WIDER_train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(data_root=data_root, ann_file="wider_face_val_bbx_gt.txt", data_prefix=dict(img="WIDER_val")),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="WIDERFaceMetric", ground_truth="{{$MCUNET_SHARED:../shared}}/data/widerface_gt/ground_truth"),
    dict(type="VOCMetric", metric="mAP", iou_thrs=0.5, eval_mode="area"),
]
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=90, val_interval=90)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.002, weight_decay=0.05),
    clip_grad=dict(max_norm=35),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=60),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True),
]
custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.002, gamma=200, update_buffers=True)]
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=20))
