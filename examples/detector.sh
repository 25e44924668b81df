#!/bin/sh
# Trains a detector on labelled pictures and runs it on an emulated board: sh examples/detector.sh PHOTOS [BOARD] [FOLDER]
# PHOTOS: VOC's XML, COCO's JSON or YOLO's text files beside the pictures. docs/detectors.md says more.
# MCUNET_EPOCHS sets another length of the training than the one that fits the number of pictures.
set -eu
photos=$1 board=${2:-stm32f412} out=${3:-out/detector}
mcunet new-detector "$photos" --board "$board" -o "$out"
set -- ${MCUNET_EPOCHS:+--cfg-options train_cfg.max_epochs=$MCUNET_EPOCHS}
mcunet train "$out/config.py" --work-dir "$out/det" "$@"
mcunet deploy "$out/config.py" "$out/det/last.pth" --boards "$board" -o "$out/board" ${MCUNET_ARENA_KB:+--arena-kb "$MCUNET_ARENA_KB"}
