# Table 5's MobileNetV2 row, see yolov3_voc_rd.py.
_base_ = "./yolov3_voc_rd.py"

paper = dict(row="Table 5, MobileNetV2")
model = dict(backbone=dict(arch="configs/arch/mobilenet_v2_r416.json"))
