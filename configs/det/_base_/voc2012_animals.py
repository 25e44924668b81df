# Six animals of Pascal VOC 2012 (cat, cow, dog, horse, person, sheep): 1,697 photographs to train on, 1,729 to test on
# once. What is tried is judged on every tenth of the first (`tried`), trained on the others.
_base_ = "./yolov3_mcunet.py"

data_root = "{{$MCUNET_SHARED:../shared}}/data/voc2012_animals/VOCdevkit/"
data_source = "set MCUNET_SHARED to the folder with data/voc2012_animals, or pass --cfg-options for another place"
metainfo = dict(classes=("cat", "cow", "dog", "horse", "person", "sheep"))

model = dict(
    backbone=dict(
        arch=dict(base="configs/arch/mcunet_in3.json", resolution=[192, 256]),
        out_indices=(2, 4, 6),
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(checkpoint="{{$MCUNET_SHARED:../shared}}/models/mcunet-in3/weights.pth"),
    ),
    neck=dict(width=128),
    bbox_head=dict(
        num_classes=6,
        # of the 2,871 boxes of the 1,697 pictures that are not difficult (mcunet anchors); mean IoU 0.74
        anchors=[
            [(0.09, 0.128), (0.141, 0.359), (0.27, 0.234)],
            [(0.253, 0.57), (0.44, 0.416), (0.424, 0.736)],
            [(0.728, 0.573), (0.632, 0.865), (0.895, 0.896)],
        ],
    ),
    test_cfg=dict(score_thr=0.01),
)

train_pipeline = [
    dict(type="LoadPicture"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="MinIoURandomCrop", min_ious=(0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    {{_base_.resize}},
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
pictures = dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(sub_data_root="VOC2012/"))
train_dataloader = dict(dataset=dict(**pictures, ann_file="VOC2012/ImageSets/Main/train.txt", pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**pictures, ann_file="VOC2012/ImageSets/Main/val.txt"))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=60, val_interval=60)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=0.001, weight_decay=0.05),
    clip_grad=dict(max_norm=35),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.25))),
)
custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.002, gamma=200, update_buffers=True)]
default_hooks = dict(checkpoint=dict(interval=2))
