# Table 5's RNNPool row, see yolov3_voc_rd.py.
_base_ = "./yolov3_voc_rd.py"

paper = dict(row="Table 5, MbV2-RNNPool")
model = dict(backbone=dict(arch="configs/arch/mobilenet_v2_rnnpool_r416.json", out_indices=(1, 3)))
