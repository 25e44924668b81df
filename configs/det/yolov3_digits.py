# YOLOv3 on scenes of handwritten digits, 10 classes.
_base_ = "./_base_/yolov3_mcunet.py"

data_root = "out/digits/"
data_source = "mcunet digits --out out/digits"
expected = dict(map50=0.88, tolerance=0.05)  # about 190 s of one core, data loading included
metainfo = dict(classes=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"))

model = dict(
    backbone=dict(arch="configs/arch/mcu_w50_r128.json", out_indices=(2, 4)),
    bbox_head=dict(
        num_classes=10,
        # k-means of the training boxes, as fractions of the picture (w, h), fine to coarse
        anchors=[[(0.094, 0.164), (0.117, 0.18), (0.148, 0.227)], [(0.188, 0.289), (0.234, 0.344), (0.297, 0.43)]],
    ),
)

# no colour distortion: a scene's colours are drawn at random
train_pipeline = [
    dict(type="LoadPicture"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    {{_base_.resize}},
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="VOC2007/ImageSets/Main/train.txt",
        data_prefix=dict(sub_data_root="VOC2007/"),
        pipeline=train_pipeline,
        metainfo=metainfo,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="VOC2007/ImageSets/Main/val.txt",
        data_prefix=dict(sub_data_root="VOC2007/"),
        metainfo=metainfo,
    )
)
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=8)
optim_wrapper = dict(optimizer=dict(lr=0.008))
