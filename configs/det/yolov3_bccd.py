# YOLOv3 on BCCD: 364 microscope pictures of blood cells, 3 classes, split as shipped (292 for training, 72 for test).
_base_ = "./_base_/yolov3_mcunet.py"

data_root = "{{$MCUNET_SHARED:../shared}}/data/bccd/BCCD/"
data_source = "set MCUNET_SHARED to the folder with data/bccd/BCCD, or pass --cfg-options for another place"
expected = dict(map50=0.75, tolerance=0.05)  # on the test split; about 250 s of one core
metainfo = dict(classes=("RBC", "WBC", "Platelets"))

model = dict(
    backbone=dict(arch="configs/arch/mcu_w50_r160.json", out_indices=(2, 4)),
    bbox_head=dict(
        num_classes=3,
        # k-means of the training boxes, as fractions of the picture (w, h), fine to coarse
        anchors=[[(0.061, 0.079), (0.145, 0.183), (0.173, 0.198)], [(0.156, 0.223), (0.188, 0.238), (0.339, 0.412)]],
    ),
)

train_pipeline = [
    dict(type="LoadPicture"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),  # two boxes have no width or height
    dict(type="MinIoURandomCrop", min_ious=(0.5, 0.7, 0.9), min_crop_size=0.5),
    {{_base_.resize}},
    dict(type="RandomFlip", prob=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"]),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
train_cfg = dict(max_epochs=50)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(clip_grad=dict(max_norm=62.5))  # below every step's norm: AdamW sees directions
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_root=data_root,
        ann_file="ImageSets/Main/trainval.txt",
        data_prefix=dict(sub_data_root=""),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="ImageSets/Main/test.txt",
        data_prefix=dict(sub_data_root=""),
        metainfo=metainfo,
    )
)
test_dataloader = val_dataloader
