# S3FD on 100 pictures of WIDER FACE (60 for training, 40 for the test): the whole path in minutes of one core. Pictures
# are 480x320, half the files' width, so the anchors are half of S3FD's.
_base_ = "./_base_/s3fd_widerface.py"

data_root = "{{$MCUNET_SHARED:../shared}}/data/widerface_mini/"
data_source = "set MCUNET_SHARED to the folder with data/widerface_mini, or pass --cfg-options for another place"

model = dict(
    backbone=dict(arch="configs/arch/mcunetv2_face_mini.json", out_indices=(2, 3, 4, 5)),
    bbox_head=dict(sizes=[[8, 16, 32], [64], [128], [256]]),
)

train_pipeline = [
    dict(type="LoadPicture"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PhotoMetricDistortion"),
    dict(type="FaceCrop", size=(480, 320), ignore_below=4),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_cfg = dict(max_epochs=100, val_interval=20)
train_dataloader = dict(
    batch_size=6,
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

optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.003, weight_decay=0.01),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=20), logger=dict(interval=6))
