#!/usr/bin/env bash
# Installs the S3-compatible server of the tests into a directory of its own, and prints the Python
# that runs it. Needs python3 3.11 or newer with venv, and a Python package index the first time.
#
#   tools/s3-server/install.sh
#
# Environment:
#   S3_SERVER_DIR   where it lives (default: target/s3-server)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${S3_SERVER_DIR:-$root/target/s3-server}
python=$dir/venv/bin/python

unavailable() {
  printf 's3-server: %s\n' "$*" >&2
  exit 3
}

wanted=$(cksum <"$here/requirements.txt")
mkdir -p "$dir"
# Two runs at once: the second waits for the first.
if command -v flock >/dev/null; then
  exec 9>"$dir/.lock"
  flock 9
fi
if [ "$(cat "$dir/.installed" 2>/dev/null)" != "$wanted" ]; then
  command -v python3 >/dev/null || unavailable "python3 is missing; on Debian: apt-get install python3-venv"
  rm -rf "$dir/venv" "$dir/.installed"
  python3 -m venv "$dir/venv" >&2 ||
    unavailable "python3 cannot make a virtual environment; on Debian: apt-get install python3-venv"
  printf 's3-server: installing moto into %s (40 MB to download, once)\n' "$dir" >&2
  "$python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary=:all: \
    --require-hashes --requirement "$here/requirements.txt" >&2 ||
    unavailable "moto could not be installed: see that a Python package index is reachable (pip's \
own settings say which), then run tools/s3-server/install.sh"
  # ORDER: written last, so that a broken installation is begun again.
  printf '%s\n' "$wanted" >"$dir/.installed"
fi
printf '%s\n' "$python"
