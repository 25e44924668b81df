# MCUNet's S3FD on WIDER FACE: the recipe of RNNPool / EdgeML, which the paper follows. Training is on square crops of
# 640 pixels (the network takes any size): half of them S3FD's, half by data-anchor sampling, faces under 6 pixels
# ignored. The test is on whole pictures at the architecture's resolution.
_base_ = "mmdet::_base_/default_runtime.py"
custom_imports = dict(imports=["detection"], allow_failed_imports=False)

data_root = "data/WIDERFace/"
data_source = "WIDER_train, WIDER_val, wider_face_split and eval_tools/ground_truth belong into data/WIDERFace"
metainfo = dict(classes=("face",))

model = dict(
    type="MCUNetS3FD",
    # input = pixel / 255, RGB: the exporter relies on it (quantised input = pixel - 128)
    data_preprocessor=dict(type="DetDataPreprocessor", mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True),
    # checkpoint: weights to begin with, a super-network's slice or a classifier of the same architecture
    backbone=dict(type="MCUNetBackbone", init_cfg=dict(type="Pretrained", checkpoint=None)),
    bbox_head=dict(type="MCUNetS3FDHead", background=3),
    train_cfg=dict(
        assigner=dict(type="ScaleCompensationAssigner", compensation="image"),
        neg_pos_ratio=3,
        smoothl1_beta=1.0,
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(nms_pre=1000, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.3), max_per_img=750),
)

picture = dict(
    fit="stretch", pad=114
)  # or "letterbox": the same in test, calibration and on the board; crops keep shape
size = (640, 640)
train_pipeline = [
    dict(type="LoadPicture"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PhotoMetricDistortion"),
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="FaceCrop", size=size, ignore_below=6)],
            [dict(type="DataAnchorSampling", size=size, ignore_below=6)],
        ],
        prob=[0.5, 0.5],
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(640, 480), keep_ratio=False),
    dict(type="LoadAnnotations", with_bbox=True),  # behind Resize: the metric is in the pixels of the file
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
# mcunet test --tta: the multi-scale test of the paper's Table 4
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="FaceViews",
        transforms=[
            dict(type="LoadAnnotations", with_bbox=True),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction",
                           "believed"),
            ),
        ],
    ),
]  # fmt: skip
tta_model = dict(type="FaceTTAModel", iou_threshold=0.3, max_per_img=750)

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="WIDERFaceText",
        data_root=data_root,
        ann_file="wider_face_split/wider_face_train_bbx_gt.txt",
        data_prefix=dict(img="WIDER_train/images"),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="WIDERFaceText",
        data_root=data_root,
        ann_file="wider_face_split/wider_face_val_bbx_gt.txt",
        data_prefix=dict(img="WIDER_val/images"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="WIDERFaceMetric", ground_truth=data_root + "eval_tools/ground_truth")
test_evaluator = val_evaluator

randomness = dict(seed=0)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=300, val_interval=10)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=0, by_epoch=True, begin=5, convert_to_iter_based=True),
]
default_hooks = dict(
    checkpoint=dict(interval=10, max_keep_ckpts=2, save_last=True),
    logger=dict(interval=50),
    data_report=dict(type="DataReportHook"),
    recipe_report=dict(type="RecipeReportHook"),
)
