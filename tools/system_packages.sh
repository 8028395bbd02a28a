#!/bin/sh
# Programs that come from the system: real peers and samples. As root on Debian or Ubuntu they are
# installed; else what is missing is said, and what needs it is skipped and says so too.
set -eu

wanted=""
want() {  # want PACKAGE PROBE...: the package is wanted if the probe fails
    package=$1
    shift
    if ! "$@" >/dev/null 2>&1; then wanted="$wanted $package"; fi
}

case "$1" in
python) want python3-venv "$2" -c "import ensurepip, venv" ;;
demo | test)
    want orthanc sh -c "command -v Orthanc || test -x /usr/sbin/Orthanc"
    want mricron-data sh -c "test -e /usr/share/mricron/templates/ch2.nii.gz"
    ;;
*) echo "usage: $0 python PYTHON | demo | test" >&2; exit 2 ;;
esac
if [ "$1" = test ]; then
    want dcmtk sh -c "command -v storescu && command -v dsrdump"
    want orthanc-dicomweb sh -c "test -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so"
    want poppler-utils sh -c "command -v pdftotext && command -v pdffonts"
    want odil sh -c "command -v odil"
    want nodejs sh -c "command -v node"
    want npm sh -c "command -v npm"
    want chromium sh -c "command -v chromium"
    want fonts-noto-cjk sh -c "test -e /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
    want strace sh -c "command -v strace"
    want e2fsprogs sh -c "command -v mkfs.ext4"
fi

[ -n "$wanted" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$wanted ..."
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # Packages that start a service of their own at installation must not: the tests start what they need.
    if ! { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $wanted; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        echo "Could not install$wanted; what needs them is skipped." >&2
    fi
else
    echo "Not installed, so what needs them is skipped:$wanted (install them as root with apt-get)." >&2
fi
