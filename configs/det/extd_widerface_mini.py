# EXTD-32 on 40 validation pictures of WIDER FACE.
_base_ = "./extd_widerface.py"

data_root = "{{$MCUNET_SHARED:../shared}}/data/widerface_mini/"
data_source = "set MCUNET_SHARED to the folder with data/widerface_mini, or pass --cfg-options for another place"
expected = dict(easy=0.915, medium=0.886, hard=0.796, tolerance=0.01)  # EXTD_32.pth at one scale

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="wider_face_train_bbx_gt.txt",
        data_prefix=dict(img="WIDER_train"),
    )
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, ann_file="wider_face_val_bbx_gt.txt", data_prefix=dict(img="WIDER_val")),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="WIDERFaceMetric", ground_truth="{{$MCUNET_SHARED:../shared}}/data/widerface_gt/ground_truth"),
    dict(type="VOCMetric", metric="mAP", iou_thrs=0.5, eval_mode="area"),
]
test_evaluator = val_evaluator
