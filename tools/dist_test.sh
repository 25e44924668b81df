#!/usr/bin/env bash
# Test on several GPUs, or with several CPU processes: as mmdet's, tools/dist_test.sh CONFIG CHECKPOINT GPUS ...
set -e
tools=$(dirname "$0")
PYTHONPATH="$tools/..:$PYTHONPATH" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" --nproc_per_node="$3" "$tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"
