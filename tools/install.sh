#!/bin/sh
# Makes .venv with everything the project needs, and looks for the cross compiler and the emulator.
#   PYTHON   interpreter to use (default python3)
#   TORCH    "cuda" takes the CUDA build of torch even where no GPU is seen
set -eu
cd "$(dirname "$0")/.."
torch=$(grep -o 'torch==[0-9.]*' pyproject.toml | head -n 1)

"${PYTHON:-python3}" -m venv .venv || { echo "error: no venv module; on Debian: apt-get install python3-venv" >&2; exit 2; }
pip=".venv/bin/python -m pip --disable-pip-version-check --quiet"

if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    # On some machines pip's torch is a CPU build, on others it brings gigabytes of CUDA packages. Ask before fetching.
    plan=$($pip install --dry-run --report - "$torch")
    if echo "$plan" | grep -q '"name": "nvidia-' && [ "${TORCH:-}" != cuda ] && ! command -v nvidia-smi >/dev/null; then
        echo "no GPU here: taking the CPU build of $torch (make install TORCH=cuda for the other)"
        $pip install uv
        .venv/bin/uv pip install --quiet --python .venv/bin/python --torch-backend cpu "$torch"
    else
        $pip install "$torch"
    fi
fi
$pip install --editable '.[test]'
.venv/bin/python -c 'import yapf'  # writes its cache, which two processes must not begin at once (core/yapf_import.py)

missing=""
for pair in gcc:gcc arm-none-eabi-gcc:gcc-arm-none-eabi qemu-system-arm:qemu-system-arm \
    make:make cmake:cmake clang:clang g++:g++; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
case "$missing" in *gcc-arm*) missing="$missing libnewlib-arm-none-eabi" ;; esac
if [ -n "$missing" ]; then
    command="apt-get update -qq && apt-get install -y -qq --no-install-recommends$missing"
    if ! command -v apt-get >/dev/null; then
        echo "error: please install the programs of these Debian packages:$missing" >&2; exit 2
    elif [ "$(id -u)" = 0 ]; then
        sh -c "$command" >/dev/null
    elif sudo -n true 2>/dev/null; then
        sudo sh -c "$command" >/dev/null
    else
        echo "error: the cross compiler or the emulator is missing. Please type:" >&2
        echo "    sudo sh -c '$command'" >&2
        exit 2
    fi
fi
echo "installed; source .venv/bin/activate puts mcunet on the path"
touch .venv/installed
