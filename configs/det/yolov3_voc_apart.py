# Table 5's non-overlap row, see yolov3_voc_rd.py: 4x4 patches over 5 blocks, trained and run without exchange of halos.
_base_ = "./yolov3_voc_rd.py"

paper = dict(row="Table 5, non-overlap")
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, base="configs/arch/mobilenet_v2_r416.json", schedule=dict(p=[4, 4], n=5)), halo="none"
    )
)
