# Pascal VOC: trained on 07+12 trainval (16,551 pictures), evaluated on 07 test with 11 points, as the paper's Table 3.
# The paper gives no recipe: this is mmdet's and SSD's usual one (SGD, expand, crop, flip, colour). The gradient of the
# losses' mean over the pictures has a norm of 15 to 20 at first: max_norm is for outliers only.
_base_ = "./yolov3_mcunet.py"

data_root = "data/VOCdevkit/"
data_source = "VOCdevkit with VOC2007 and VOC2012, linked as data/VOCdevkit; or --cfg-options for another place"
metainfo = dict(
    classes=(
        "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
        "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )
)  # fmt: skip

model = dict(
    bbox_head=dict(
        num_classes=20,
        # of the 40,058 boxes of 07+12 trainval that are not difficult (mcunet anchors --scales 3)
        anchors=[
            [(0.074, 0.121), (0.114, 0.322), (0.215, 0.193)],
            [(0.212, 0.524), (0.399, 0.339), (0.356, 0.7)],
            [(0.753, 0.464), (0.57, 0.793), (0.888, 0.855)],
        ],
    ),
    test_cfg=dict(score_thr=0.01),
)

train_pipeline = [
    dict(type="LoadPicture"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PhotoMetricDistortion"),
    dict(type="Expand", mean=[114, 114, 114], to_rgb=False, ratio_range=(1, 3)),
    dict(type="MinIoUCrop", min_ious=(0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    {{_base_.resize}},
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
part = dict(type="XMLDataset", filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline, metainfo=metainfo)
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        ignore_keys=["dataset_type"],
        datasets=[
            dict(
                **part,
                data_root=data_root,
                ann_file=f"VOC{year}/ImageSets/Main/trainval.txt",
                data_prefix=dict(sub_data_root=f"VOC{year}/"),
            )
            for year in (2007, 2012)
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="VOC2007/ImageSets/Main/test.txt",
        data_prefix=dict(sub_data_root="VOC2007/"),
        metainfo=metainfo,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(eval_mode="11points")
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=200, val_interval=10)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=1e-2, momentum=0.9, weight_decay=5e-4),
    clip_grad=dict(max_norm=100),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=10, save_best="pascal_voc/mAP", rule="greater"), logger=dict(interval=50))
auto_scale_lr = dict(base_batch_size=64)
