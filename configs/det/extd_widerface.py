# EXTD-32 (Yoo et al. 2019) on WIDER FACE, a baseline of the paper's Table 4. Its authors' EXTD_32.pth
# (github.com/clovaai/EXTD_Pytorch) is a checkpoint as it stands. The test is on whole pictures of the file's size, one
# scale; the authors' own figures are of several scales, flips and box voting.
_base_ = "./_base_/s3fd_widerface.py"

paper = dict(row="Table 4, EXTD", macs="8.49G", memory="18.8 MB fp32")
model = dict(
    type="EXTD",
    data_preprocessor=dict(mean=[123, 117, 104], std=[1, 1, 1]),
    backbone=dict(_delete_=True, type="EXTDBackbone", arch="extd_32"),
    bbox_head=dict(sizes=[[16], [32], [64], [128], [256], [512]]),
    test_cfg=dict(nms_pre=5000),
)

test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale_factor=1.0),
    dict(type="LoadAnnotations", with_bbox=True),  # behind Resize: the metric is in the pixels of the file
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
