# Table 3's row for the STM32F412 (64.6 mAP with 0.47M parameters, 172M MACs, 247 kB), as yolov3_voc_h743.py.
_base_ = "./yolov3_voc_h743.py"

paper = dict(row="Table 3, F412: 64.6 mAP", macs="172M", params="0.47M", memory="247 kB")
model = dict(backbone=dict(arch="configs/arch/mcunetv2_voc_f412.json"))
