#!/usr/bin/env bash
# Train on several GPUs, or with several CPU processes where there is none: as mmdet's, tools/dist_train.sh CONFIG GPUS ...
# NNODES, NODE_RANK, MASTER_ADDR and PORT as there.
set -e
tools=$(dirname "$0")
PYTHONPATH="$tools/..:$PYTHONPATH" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" --nproc_per_node="$2" "$tools/train.py" "$1" --launcher pytorch "${@:3}"
