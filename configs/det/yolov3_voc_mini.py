# YOLOv3 on 98 pictures of Pascal VOC 2012, judged on 46 more (our split, 2 pictures a class): too few to learn twenty
# classes from; what an ImageNet backbone carries is what is measured. Published weights as in yolov3_bccd_f412.py.
_base_ = "./_base_/voc0712.py"

data_root = "{{$MCUNET_SHARED:../shared}}/data/voc2012_mini/VOCdevkit/"
data_source = "set MCUNET_SHARED to the folder with data/voc2012_mini, or pass --cfg-options for another place"
expected = dict(map50=0.13, tolerance=0.05)  # about five minutes of one core

model = dict(
    backbone=dict(
        arch=dict(base="configs/arch/mcunet_in3.json", resolution=[224, 224]),
        out_indices=(2, 4, 6),
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(checkpoint="{{$MCUNET_SHARED:../shared}}/models/mcunet-in3/weights.pth"),
    ),
    neck=dict(width=64),
)
pipeline = [step for step in _base_.train_pipeline if step["type"] != "Expand"]  # it makes objects small
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        type="RepeatDataset",
        times=4,  # epochs of 98 pictures would be short
        dataset=dict(
            **_base_.part | dict(pipeline=pipeline),
            data_root=data_root,
            ann_file="VOC2012/ImageSets/Main/train.txt",
            data_prefix=dict(sub_data_root="VOC2012/"),
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file="VOC2012/ImageSets/Main/val.txt", data_prefix=dict(sub_data_root="VOC2012/")
    )
)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=12, val_interval=3)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=0.002, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=3, save_best=None), logger=dict(interval=10))
