#!/bin/sh
# What tests of models need and the node does not: the model servers Triton and MLServer, each in a folder of its own below
# the one that is named, because their packages exclude ours; and PyTorch for the processor, beside the node. What cannot be
# installed is said, and what needs it is skipped and says so too.
#   model_servers.sh PEERS BIN
set -eu
peers=$1
pip="$2/pip --disable-pip-version-check"

install() {  # install NAME COMMAND...: say it if it cannot be done; the reason is the last line of pip
    name=$1
    shift
    said=$("$@" 2>&1) || echo "$name could not be installed, so what needs it is skipped: $(echo "$said" | tail -n 1)" >&2
}

# "+cpu" is never the build with several GB of CUDA. It is on no index that pip asks by itself, but may lie on the disk.
torch="--quiet --constraint constraints.txt torch==2.13.0+cpu"
$pip install $torch >/dev/null 2>&1 ||
    install PyTorch $pip install $torch --extra-index-url https://download.pytorch.org/whl/cpu --retries 1

# The wheel has the server and a start program for each Python; that start program takes no numpy above 1.
python=$("$2/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
home=$peers/triton/pytriton/tritonserver
if ! [ -e "$home/backends/python/triton_python_backend_stub" ]; then
    install Triton $pip install --quiet --no-compile --no-deps --upgrade --target "$peers/triton" \
        nvidia-pytriton==0.7.0 numpy==1.26.4
    cp "$home/python_backend_stubs/$python/triton_python_backend_stub" "$home/backends/python/" 2>/dev/null || true
fi

if ! [ -e "$peers/mlserver/bin/mlserver" ]; then
    "$2/python" -m venv "$peers/mlserver"
    install MLServer "$peers/mlserver/bin/pip" --disable-pip-version-check install --quiet --no-compile --no-deps \
        --requirement tests/peers/mlserver.txt
fi
