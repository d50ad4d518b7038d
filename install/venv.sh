#!/bin/sh
# Make a virtual environment with uv in it, or say whether the one that is there can stay.
#
#   install/venv.sh make VENV [PYTHON]      makes it anew, with PYTHON or the newest Python on PATH
#   install/venv.sh usable VENV [PYTHON]    prints yes if it is whole, where it was made, of a Python that still runs,
#                                           and of PYTHON if one is named
#
# VENV/.uv says for which folder and Python it was made. It is written last: without it, what is there is a part.
set -eu
venv=$2
folder=$(dirname "$0")

# Print what a virtual environment depends on: its own folder, and its Python's folder and version.
identity() {
    "$venv/bin/python" -I -c 'import sys; print(sys.prefix, sys.base_prefix, *sys.version_info[:2])' 2>/dev/null
}

case $1 in
usable)
    [ -e "$venv/.uv" ] && [ -x "$venv/bin/uv" ] && [ "$(identity)" = "$(cat "$venv/.uv")" ] || exit 0
    if [ -n "${3-}" ]; then
        named=$("$3" -I -c 'import sys; print(sys.base_prefix, *sys.version_info[:2])' 2>/dev/null) || exit 0
        case $(cat "$venv/.uv") in *" $named") ;; *) exit 0 ;; esac
    fi
    echo yes
    ;;
make)
    python=$("$folder/python.sh" "${3-}")
    echo "making $venv with $("$python" -V) ($python) ..."
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes \
        -r requirements-uv.lock
    identity >"$venv/.uv"
    ;;
esac
