# MCUNet's YOLOX for pictures of a fixed size: no anchors, SimOTA, mmdet's losses. All else is YOLOv3's base.
_base_ = "./yolov3_mcunet.py"

model = dict(
    type="MCUNetYOLOX",
    bbox_head=dict(
        _delete_=True, type="MCUNetYOLOXHead", feat_channels=32, stacked_convs=2
    ),  # losses: mmdet's defaults
    train_cfg=dict(assigner=dict(_delete_=True, type="SimOTAAssigner", center_radius=2.5)),
    test_cfg=dict(_delete_=True, score_thr=0.01, nms=dict(type="nms", iou_threshold=0.45), max_per_img=100),
)
# the losses are means over the objects' cells, whatever the batch
optim_wrapper = dict(clip_grad=dict(max_norm=35))
