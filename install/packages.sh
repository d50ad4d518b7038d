#!/bin/sh
# Install the packages of a lock file, no others, and Flowhook itself into a virtual environment that has uv in it.
#
#   install/packages.sh VENV LOCK
#
# VENV/.uv is away meanwhile, so that an environment which an interrupt left half filled is made anew.
set -eu
venv=$1
lock=$2

# Print pip's setting $1, if there is one: uv doesn't read them, and a mirror or its certificate may be set there.
setting() {
    echo "$settings" | sed -n -e "s/^:env:\.$1='\(.*\)'\$/\1/p" -e "s/^global\.$1='\(.*\)'\$/\1/p" | head -n 1
}
settings=$("$venv/bin/python" -m pip config list)
index=${UV_DEFAULT_INDEX:-$(setting index-url)}
certificates=${SSL_CERT_FILE:-$(setting cert)}
[ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
[ -z "$certificates" ] || export SSL_CERT_FILE="$certificates"

mv "$venv/.uv" "$venv/.installing"
rm -f "$venv/.run" "$venv/.dev"
echo "installing $lock into $venv ..."
# --quiet is also about the cache's being on another file system than VENV
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes "$lock"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --offline --no-deps --no-build-isolation --editable .
mv "$venv/.installing" "$venv/.uv"
