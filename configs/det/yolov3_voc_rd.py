# Table 5 on Pascal VOC at 416x416: MobileNetV2 with its receptive field redistributed, and what it is compared with:
# yolov3_voc_whole.py (MobileNetV2), yolov3_voc_apart.py (the same, its patches without a halo), yolov3_voc_rnnpool.py
# (its first stages replaced by recurrent pooling, behind which no map is finer than stride 16: hence two scales).
_base_ = "./_base_/voc0712.py"

paper = dict(row="Table 5, MbV2-RD")
model = dict(
    backbone=dict(
        arch=dict(base="configs/arch/mobilenet_v2_rd_r416.json", schedule=dict(p=[4, 4], n=4)), out_indices=(4, 6)
    ),
    neck=dict(width=96),
    bbox_head=dict(
        # as _base_/voc0712.py, --scales 2
        anchors=[[(0.082, 0.149), (0.209, 0.264), (0.225, 0.547)], [(0.592, 0.392), (0.43, 0.737), (0.829, 0.81)]],
    ),
)
