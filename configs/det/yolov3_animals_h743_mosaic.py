# The first part of yolov3_animals_h743.py, from the classifier's weights: 4 of 10 pictures are put together from four
# (Mosaic), and batches are of several sizes, from 192x160 to the network's own.
_base_ = "./yolov3_animals_h743.py"

expected = dict(map50=0.641, tolerance=0.02)  # on val.txt; 87 minutes of one core beside other work
load_from = None
model = dict(
    data_preprocessor=dict(
        batch_augments=[dict(type="BatchSyncRandomResize", random_size_range=(160, 256), size_divisor=32, interval=10)]
    )
)
train_pipeline = _base_.train_pipeline
train_pipeline.insert(
    3, dict(type="RandomApply", transforms=[dict(type="CachedMosaic", img_scale=(320, 256))], prob=0.4)
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=60, val_interval=60)
optim_wrapper = dict(optimizer=dict(lr=0.001))
