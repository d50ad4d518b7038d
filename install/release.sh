#!/bin/sh
# Build what a release publishes into the folder dist: wheels and source distributions of both packages, their bill of
# materials, the Helm chart, the npm package, the formula for Homebrew, and the digests of all.
#
#   FLOWHOOK_REPOSITORY_URL=ADDRESS install/release.sh VENV
#
# The same commit gives the same bytes. Needs kustomize, node and npm. VENV has uv, and VENV/tools the packages of
# requirements-tools.lock.
set -eu
venv=$1
address=${FLOWHOOK_REPOSITORY_URL:?is the public address of the repository, which links in descriptions lead to}
export FLOWHOOK_REPOSITORY_URL
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' flowhook/__init__.py)
if [ -n "${TAG-}" ] && [ "$TAG" != "v$version" ]; then
    echo "the tag is $TAG, and flowhook/__init__.py says $version" >&2
    exit 1
fi

rm -rf dist build/release
mkdir -p dist build/release
for project in . clients/python; do
    "$venv/bin/uv" build --quiet --out-dir dist "$project"
done
rm -f dist/.gitignore
"$venv/tools/bin/twine" check --strict dist/*

# what the lock installs beside them; the wheels are ours whatever the index has
"$venv/bin/uv" venv --quiet --python "$venv/bin/python" build/release/environment
"$venv/bin/uv" pip sync --quiet --python build/release/environment --require-hashes requirements.lock
"$venv/bin/uv" pip install --quiet --python build/release/environment --no-deps dist/*.whl
"$venv/tools/bin/cyclonedx-py" environment --output-reproducible --pyproject pyproject.toml --mc-type application \
    --output-format JSON build/release/environment | "$venv/bin/python" -c '
import json, sys
found = json.load(sys.stdin)
found["metadata"]["component"]["version"] = sys.argv[1]
for each in found["components"]:  # where it was built is nobody else'"'"'s concern
    each["externalReferences"] = [e for e in each.get("externalReferences", []) if not e["url"].startswith("file:")]
json.dump(found, sys.stdout, indent=2)
' "$version" >"dist/flowhook-$version.cdx.json"

sh deploy/helm/package.sh build/release/chart
tar --sort=name --mtime=2020-02-02 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C build/release/chart -cf - flowhook |
    gzip -9n >"dist/flowhook-chart-$version.tgz"

(cd clients/node && npm ci --silent --ignore-scripts --no-audit --no-fund)
sh clients/node/build.sh build/release/node
(cd build/release/node && npm pkg set "repository.url=git+$address.git" && npm pack --silent --pack-destination ../../../dist) >/dev/null

cp requirements.lock "dist/flowhook-$version-requirements.lock"
digest() { sha256sum "dist/$1" | cut -d' ' -f1; }
files="$address/releases/download/v$version"
cat >dist/flowhook.rb <<FORMULA
class Flowhook < Formula
  include Language::Python::Virtualenv

  desc "Receives webhooks, stores them durably, and runs workflows with them"
  homepage "$address"
  url "$files/flowhook-$version.tar.gz"
  sha256 "$(digest "flowhook-$version.tar.gz")"
  license "Apache-2.0"

  depends_on "python@3.13"

  resource "flowhook-client" do
    url "$files/flowhook_client-$version.tar.gz"
    sha256 "$(digest "flowhook_client-$version.tar.gz")"
  end

  # every package that it needs, with its digests
  resource "requirements" do
    url "$files/flowhook-$version-requirements.lock"
    sha256 "$(digest "flowhook-$version-requirements.lock")"
  end

  def install
    virtualenv_create(libexec, "python3.13")
    pip = ["python3.13", "-m", "pip", "--python=#{libexec}/bin/python", "install"]
    lock = resource("requirements").fetch
    system(*pip, "--require-hashes", "--requirement", lock)
    resource("flowhook-client").stage { system(*pip, "--no-deps", ".") }
    system(*pip, "--no-deps", "--no-build-isolation", buildpath)
    bin.install_symlink libexec/"bin/flowhook"
  end

  test do
    assert_equal "$version", shell_output("#{bin}/flowhook --version").strip
  end
end
FORMULA
(cd dist && LC_ALL=C sha256sum -- * >SHA256SUMS)
