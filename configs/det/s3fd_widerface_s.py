# MCUNetV2-S for WIDER FACE at 640x480, within the paper's budgets (Table 4: 0.11G MACs, 672 kB fp32, 168 kB int8). The
# paper's own architecture is unpublished; this one is ours. A head at stride 4 cannot fit: its input and predictions
# are 16 maps of 19,200 at the least, 1.2 MB. So the scales begin at stride 8, where anchors of 16 and of 32 stand.
#   0.110G MACs as run (3x4 patches over 3 blocks down to stride 8, n = 4), 0.14M parameters, head counted
#   542 kB fp32, 136 kB int8 by RNNPool's rule
#   366 kB arena of int8 by our kernels, which hold the expanded maps that the rule streams: fits the STM32H743 (504
#   kB), not the F746 (312 kB) or F412 (248 kB)
_base_ = "./_base_/s3fd_widerface.py"

paper = dict(row="Table 4, S: 0.85 / 0.81 / 0.55", macs="0.11G", memory="672 kB fp32")
model = dict(
    backbone=dict(arch="configs/arch/mcunetv2_face_s.json", out_indices=(2, 3, 4, 5, 6)),
    bbox_head=dict(sizes=[[16, 32], [64], [128], [256], [512]]),
)
