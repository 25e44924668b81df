# YOLOX on BCCD for the STM32F412, the anchor-free counterpart of yolov3_bccd_f412.py: the same backbone, neck, data and
# recipe, and within 2 % as many MACs.
_base_ = "./yolov3_bccd_f412.py"

expected = dict(map50=0.889, tolerance=0.02)  # on the test split; ten to twenty minutes of one core
model = dict(
    type="MCUNetYOLOX",
    bbox_head=dict(_delete_=True, type="MCUNetYOLOXHead", feat_channels=32, stacked_convs=2),
    train_cfg=dict(assigner=dict(_delete_=True, type="SimOTAAssigner", center_radius=2.5)),
    test_cfg=dict(_delete_=True, score_thr=0.01, nms=dict(type="nms", iou_threshold=0.45), max_per_img=200),
)
optim_wrapper = dict(clip_grad=dict(max_norm=35))
