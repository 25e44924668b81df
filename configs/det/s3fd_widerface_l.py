# MCUNetV2-L for WIDER FACE at 640x480, within the paper's budgets (Table 4: 1.10G MACs, 1.89 MB fp32). The paper's own
# architecture is unpublished; this one is ours: scales at strides 4 to 128 as in S3FD, 25,600 anchors.
#   1.08G MACs as run (3x3 patches over 3 blocks and the first scale's stage, n = 4), 1.61M parameters, head counted
#   1.76 MB fp32 by RNNPool's rule (block input + output; layer by layer 8.2 MB)
#   1,753 kB arena of int8 by our kernels, which hold the expanded maps that the rule streams: for none of our boards
_base_ = "./_base_/s3fd_widerface.py"

paper = dict(row="Table 4, L: 0.92 / 0.90 / 0.70", macs="1.10G", memory="1.89 MB fp32")
model = dict(
    backbone=dict(arch="configs/arch/mcunetv2_face_l.json", out_indices=(1, 2, 3, 4, 5, 6)),
    bbox_head=dict(sizes=[[16], [32], [64], [128], [256], [512]]),
)
