# The same for the STM32F412: pictures of 320x240.
_base_ = "./s3fd_faces_h743.py"

expected = dict(map50=0.197, easy=0.82, medium=0.64, hard=0.24, tolerance=0.03)  # half an hour of one core
model = dict(
    backbone=dict(arch=dict(resolution=[240, 320])),
    bbox_head=dict(sizes=[[8, 16, 32], [64], [128], [192]]),
)
train_pipeline = _base_.train_pipeline
train_pipeline[2].transforms[0][0].update(size=(320, 240))
train_pipeline[2].transforms[1][0].update(size=(320, 240), anchors=(8, 16, 32, 64, 128, 192))
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=60, val_interval=60)
