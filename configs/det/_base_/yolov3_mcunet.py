# MCUNet's YOLOv3 for pictures of a fixed size: what the data sets' configs share. The picture's size is the
# architecture's: our tools set every Resize to it (detection/config/config.py).
_base_ = "mmdet::_base_/default_runtime.py"
custom_imports = dict(imports=["detection"], allow_failed_imports=False)

model = dict(
    type="MCUNetYOLO",
    # input = pixel / 255, RGB: the exporter relies on it (quantised input = pixel - 128)
    data_preprocessor=dict(type="DetDataPreprocessor", mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True),
    # checkpoint: weights to begin with, a super-network's slice or a classifier of the same architecture
    backbone=dict(type="MCUNetBackbone", init_cfg=dict(type="Pretrained", checkpoint=None)),
    neck=dict(type="MCUNetNeck", width=48),
    bbox_head=dict(
        type="MCUNetYOLOHead",
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0, reduction="sum"),
        loss_conf=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0, reduction="sum"),
        loss_xy=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=2.0, reduction="sum"),
        loss_wh=dict(type="MSELoss", loss_weight=2.0, reduction="sum"),
    ),
    train_cfg=dict(assigner=dict(type="GridAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0)),
    test_cfg=dict(
        nms_pre=1000, score_thr=0.05, conf_thr=0.005, nms=dict(type="nms", iou_threshold=0.45), max_per_img=100
    ),
)

picture = dict(fit="stretch", pad=114)  # or "letterbox": the same in training, test, calibration and on the board
resize = dict(type="Resize", scale=(128, 128), keep_ratio=False)
train_pipeline = [
    dict(type="LoadPicture"),  # passes over a corrupt one
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),  # boxes without area
    resize,
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    resize,
    dict(type="LoadAnnotations", with_bbox=True),  # behind Resize: the metric is in the pixels of the file
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="XMLDataset", filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="XMLDataset", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="VOCMetric", metric="mAP", iou_thrs=0.5, eval_mode="area")
test_evaluator = val_evaluator

randomness = dict(seed=0)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12, val_interval=4)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    # the head's losses are means over the pictures, whatever the batch
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.003, weight_decay=0.01),
    clip_grad=dict(max_norm=31.25),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(
    checkpoint=dict(interval=4, max_keep_ckpts=2, save_last=True),
    logger=dict(interval=20),
    data_report=dict(type="DataReportHook"),
    recipe_report=dict(type="RecipeReportHook"),
)
