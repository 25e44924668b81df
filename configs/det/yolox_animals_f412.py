# YOLOX on six animals for the STM32F412, the anchor-free counterpart of yolov3_animals_f412.py: the same backbone, data
# and recipe, and within 2 % as many MACs. Both branches read the neck's map, which stays: a width of 128 would not fit.
_base_ = "./yolov3_animals_f412.py"

expected = dict(map50=0.594, tolerance=0.02)  # on val.txt; an hour and a half of one core beside other work
model = dict(
    type="MCUNetYOLOX",
    neck=dict(width=96),
    bbox_head=dict(_delete_=True, type="MCUNetYOLOXHead", feat_channels=64, stacked_convs=2),
    train_cfg=dict(assigner=dict(_delete_=True, type="SimOTAAssigner", center_radius=2.5)),
    test_cfg=dict(_delete_=True, score_thr=0.01, nms=dict(type="nms", iou_threshold=0.45), max_per_img=100),
)
optim_wrapper = dict(clip_grad=dict(max_norm=35))
